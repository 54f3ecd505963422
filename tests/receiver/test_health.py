"""The probes of load balancers."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
import redis

from tests.receiver.serving import (
    HELLO,
    Connect,
    OwnServer,
    StartAt,
    StartReceiver,
    paused,
    request_bytes,
    settings_for,
    status_of,
)
from tests.support import (
    eventually,
    signed_headers,
)

pytestmark = pytest.mark.usefixtures("lines")


@pytest.mark.parametrize(("probe", "text"), [("/healthz", b"ok\n"), ("/readyz", b"ready\n")])
async def test_probes_answer_get_and_head(
    start: StartReceiver, connect: Connect, probe: str, text: bytes
) -> None:
    running = await start()
    wire = await connect(running)
    await wire.send(request_bytes(b"", target=f"{probe}?from=lb", method="GET"))
    answer = await wire.answer()
    assert (answer.status, answer.body) == (200, text)
    await wire.send(request_bytes(b"", target=probe, method="HEAD"))
    answer = await wire.answer(head=True)
    assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(text)))
    await wire.send(request_bytes(b"", target="/healthz", method="GET"))
    assert (await wire.answer()).body == b"ok\n"  # no body came after the HEAD


@pytest.mark.parametrize(("probe", "text"), [("/healthz", "ok\n"), ("/readyz", "ready\n")])
async def test_the_admin_address_answers_the_probes_too(
    start: StartReceiver, http: aiohttp.ClientSession, probe: str, text: str
) -> None:
    running = await start()
    async with http.get(f"{running.admin_url}{probe}") as response:
        assert (response.status, await response.text()) == (200, text)
    running.receiver.quiet()
    async with http.get(f"{running.admin_url}/readyz") as response:
        assert (response.status, (await response.json())["error"]) == (503, "stopping")


async def test_only_the_admin_address_says_why_a_receiver_is_not_ready(
    start_at: StartAt, own_server: OwnServer, http: aiohttp.ClientSession
) -> None:
    server = own_server()
    running = await start_at(settings_for(server))
    server.kill()
    async with http.get(f"{running.url}/readyz") as response:
        assert response.status == 503
        assert (await response.json())["detail"] == "no message can be stored now"
    async with http.get(f"{running.admin_url}/readyz") as response:
        assert response.status == 503
        assert str(server.port) in (await response.json())["detail"]


async def test_a_reader_of_the_public_port_learns_no_partition_and_no_group(
    start: StartReceiver, http: aiohttp.ClientSession
) -> None:
    running = await start()
    health = running.receiver._health
    health._remarks = lambda: "group secret-name pins the stream\n"
    async with http.get(f"{running.url}/readyz") as response:
        assert await response.text() == "ready\n"
    async with http.get(f"{running.admin_url}/readyz") as response:
        assert "secret-name" in await response.text()


async def test_asking_for_readiness_leaves_nothing_in_redis(
    start: StartReceiver, http: aiohttp.ClientSession, redis_client: redis.Redis, prefix: str
) -> None:
    running = await start()
    async with http.get(f"{running.url}/readyz") as response:
        assert response.status == 200
    assert list(redis_client.scan_iter(f"{prefix}:*")) == []


async def test_a_crowd_that_asks_for_readiness_does_not_use_up_the_connections_to_redis(
    start: StartReceiver, http: aiohttp.ClientSession, redis_client: redis.Redis
) -> None:
    running = await start(append_timeout=10)
    headers = signed_headers(running.sources["qstash"].scheme, HELLO, "/qstash")
    clients: Any = redis_client.client_list()
    with paused(redis_client):
        crowd = [
            asyncio.create_task(status_of(http.get(f"{running.url}/readyz"))) for _ in range(150)
        ]
        await eventually(lambda: running.receiver._http.in_flight == 150)
        posted = asyncio.create_task(
            status_of(http.post(f"{running.url}/qstash", data=HELLO, headers=headers))
        )
        await eventually(lambda: running.receiver._http.in_flight == 151)
        await eventually(lambda: running.receiver._appenders[0]._writing)
        now: Any = redis_client.client_list()
        assert len(now) - len(clients) <= 2
    assert await asyncio.gather(*crowd, posted) == [200] * 151
