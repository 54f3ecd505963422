"""A receiver whose Redis is down, frozen, full or refuses commands: 503 until it works again."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import aiohttp
import pytest
import redis

from hookmill.config.settings import Settings
from tests.receiver.serving import (
    UNSTORED,
    OwnServer,
    StartAt,
    deliver,
    readiness,
    settings_for,
    tracebacks,
)

pytestmark = pytest.mark.usefixtures("lines")


async def test_a_refused_connection_is_503_with_retry_after_until_redis_is_back(
    own_server: OwnServer,
    start_at: StartAt,
    http: aiohttp.ClientSession,
    lines: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = own_server()
    running = await start_at(settings_for(server))
    assert await readiness(running, http) == 200
    server.kill()
    assert await deliver(running, http) == UNSTORED
    assert [await readiness(running, http) for _ in range(3)] == [503] * 3
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("append failed", "error"),
        ("refused", "warning"),
        ("not ready", "warning"),  # once, however many probes
    ]
    async with http.get(f"{running.url}/healthz") as response:
        assert response.status == 200
    server.start()
    assert await deliver(running, http) == (200, None, b"")
    assert [await readiness(running, http) for _ in range(3)] == [200] * 3
    assert [line["event"] for line in lines[3:]] == ["accepted", "ready again"]
    assert tracebacks(caplog) == []


async def test_a_frozen_redis_is_503_for_everybody_within_two_seconds_and_recovers_by_itself(
    own_server: OwnServer,
    start_at: StartAt,
    http: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = own_server()
    running = await start_at(settings_for(server, append_timeout=3))
    assert await deliver(running, http) == (200, None, b"")  # a connection is open
    server.signal(signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    began = loop.time()
    deliveries = [
        asyncio.create_task(deliver(running, http, b"%d" % number)) for number in range(50)
    ]
    ready = asyncio.create_task(readiness(running, http))
    async with http.get(f"{running.url}/healthz") as response:
        assert response.status == 200
    assert await asyncio.gather(*deliveries) == [UNSTORED] * 50
    assert await ready == 503
    # One timeout for all of them. The promised two seconds hold with the default, which a busy
    # machine could miss.
    assert loop.time() - began < 2 * 3
    assert Settings.model_fields["append_timeout"].default < 2
    server.signal(signal.SIGCONT)
    assert await deliver(running, http) == (200, None, b"")
    assert await readiness(running, http) == 200
    assert tracebacks(caplog) == []


async def test_a_full_redis_is_503_until_there_is_room(
    own_server: OwnServer, start_at: StartAt, http: aiohttp.ClientSession
) -> None:
    server = own_server("--save", "", "--maxmemory", "1", "--maxmemory-policy", "noeviction")
    running = await start_at(settings_for(server))
    assert await deliver(running, http) == UNSTORED
    assert await readiness(running, http) == 503
    with redis.Redis.from_url(server.url) as client:
        assert client.dbsize() == 0
        client.config_set("maxmemory", 0)
    assert await deliver(running, http) == (200, None, b"")
    assert await readiness(running, http) == 200


async def test_a_read_only_replica_is_503(
    own_server: OwnServer, start_at: StartAt, http: aiohttp.ClientSession
) -> None:
    primary = own_server()
    replica = own_server("--save", "", "--replicaof", "127.0.0.1", str(primary.port))
    running = await start_at(settings_for(replica))
    assert await deliver(running, http) == UNSTORED
    assert await readiness(running, http) == 503
    with redis.Redis.from_url(primary.url) as client:
        assert client.dbsize() == 0


async def test_a_password_that_redis_refuses_is_503_and_stays_out_of_the_log(
    own_server: OwnServer,
    start_at: StartAt,
    http: aiohttp.ClientSession,
    lines: list[dict[str, Any]],
) -> None:
    server = own_server()
    url = server.url.replace("redis://", "redis://user:wrong-password@")
    running = await start_at(settings_for(server, redis_url=url))
    assert await deliver(running, http) == UNSTORED
    assert await readiness(running, http) == 503
    assert "wrong-password" not in repr(lines)
