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
    StartReceiver,
    paused,
    request_bytes,
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
        await eventually(lambda: running.receiver._appender._writing)
        now: Any = redis_client.client_list()
        assert len(now) - len(clients) <= 2
    assert await asyncio.gather(*crowd, posted) == [200] * 151
