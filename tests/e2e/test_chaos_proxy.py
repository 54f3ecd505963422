"""The proxy and the servers of the chaos run do what their names say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.chaos.proxy import Proxy
from tests.chaos.servers import Servers
from tests.support import Server, server_binaries

NEVER = Retry(NoBackoff(), 0)


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    opened = Proxy(server.port)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis(port=proxy.port, retry=NEVER, socket_timeout=5) as opened:
        yield opened


async def test_a_slow_line_lets_only_so_many_bytes_a_second_pass(
    proxy: Proxy, client: redis.asyncio.Redis
) -> None:
    body = b"x" * 1_000_000
    proxy.throttle(2_000_000)
    began = time.monotonic()
    assert await client.echo(body) == body
    assert time.monotonic() - began > 0.5
    proxy.throttle(None)
    assert await client.echo(body) == body


async def test_idle_connections_are_cut_and_busy_ones_are_not(
    proxy: Proxy, client: redis.asyncio.Redis
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    await client.ping()
    proxy.cut_idle(0.5)
    busy = asyncio.create_task(stay_busy(client))
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    assert not busy.done()
    busy.cancel()
    await asyncio.wait([busy])


async def stay_busy(client: redis.asyncio.Redis) -> None:
    async with client.client() as alone:  # one connection for all
        while True:
            await alone.ping()
            await asyncio.sleep(0.05)


async def test_over_a_half_open_connection_nothing_arrives_and_a_new_one_is_good(
    proxy: Proxy, client: redis.asyncio.Redis
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"PING\r\n")
    assert await reader.readline() == b"+PONG\r\n"
    proxy.forget_sessions()
    writer.write(b"PING\r\n")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readline(), 0.3)
    assert await client.ping()
    writer.close()


async def test_after_a_switch_sessions_are_kept_or_end_and_new_ones_lead_to_the_new_master(
    tmp_path: Path,
) -> None:
    servers = Servers(server_binaries()["valkey"], tmp_path)
    await asyncio.to_thread(servers.start)
    old = servers.master
    proxy = Proxy(old.port)
    await proxy.open()
    kept = redis.asyncio.Redis(port=proxy.port, retry=NEVER)
    try:
        assert await kept.set("a", 1)
        assert await asyncio.to_thread(servers.switch)
        assert servers.master is not old
        proxy.lead_to(servers.master.port, keep_sessions=True)
        with pytest.raises(redis.exceptions.ReadOnlyError):
            await kept.set("a", 2)
        async with redis.asyncio.Redis(port=proxy.port, retry=NEVER) as moved:
            assert await moved.get("a") == b"1"
            assert await moved.set("a", 3)
            proxy.lead_to(servers.master.port, keep_sessions=False)
            await asyncio.sleep(0.1)
            with pytest.raises(redis.ConnectionError):
                await kept.get("a")
    finally:
        await kept.aclose()
        await proxy.close()
        await asyncio.to_thread(servers.kill)
