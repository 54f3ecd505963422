"""Durability levels against servers that can give them, cannot, and stop giving them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from hookmill.errors import NotDurableError, StreamUnavailableError
from hookmill.stream.arrival import row_of
from hookmill.stream.producer import Producer
from tests.support import Server, Stream, eventually, message

OwnServer = Callable[..., Server]

MEMORY = ("--save", "", "--appendonly", "no")
ALWAYS = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
EVERYSEC = ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec")
SLOW = 4.0
"""Seconds for a call that fails: Redis gives up after four fifths, and a busy machine has the rest
to bring the answer.
"""

NEVER = ("--save", "", "--appendonly", "yes", "--appendfsync", "no")

BINARIES = ["valkey", pytest.param("redis", marks=pytest.mark.external)]


def without_waitaof(own_server: OwnServer, *options: str) -> Server:
    """Start Debian's Redis, which has no WAITAOF. Redis has it since 7.2."""
    server = own_server(*options, binary="redis")
    with redis.Redis.from_url(server.url) as client:
        version: str = client.info("server")["redis_version"]
    if tuple(map(int, version.split(".")[:2])) >= (7, 2):
        pytest.skip(f"a Redis before 7.2 is not installed: redis-server is {version}")
    return server


@asynccontextmanager
async def opened(server: Server, durability: str, timeout: float = 5.0) -> AsyncIterator[Producer]:
    stream = Stream(server.url, "t", timeout=timeout, durability=durability)
    try:
        yield stream
    finally:
        await stream.close()


def stored(server: Server) -> int:
    with redis.Redis.from_url(server.url) as client:
        return int(client.xlen("t:{0}:stream"))


def calls(server: Server, command: str) -> int:
    with redis.Redis.from_url(server.url) as client:
        stats: Any = client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


async def refused(ask: Callable[[], Awaitable[object]]) -> str:
    with pytest.raises(NotDurableError) as raised:
        await ask()
    return str(raised.value)


@pytest.mark.parametrize("options", [EVERYSEC, ALWAYS], ids=["everysec", "always"])
async def test_an_append_waits_until_the_append_only_file_is_synced(
    own_server: OwnServer, options: tuple[str, ...]
) -> None:
    server = own_server(*options)
    async with opened(server, "aof") as stream:
        await stream.append([message()])  # now it knows the script
        asked = calls(server, "waitaof")
        for number in range(2):
            assert len(await stream.append([message()])) == 1
            assert calls(server, "waitaof") == asked + number + 1
    server.kill()  # an end without a warning, as of the machine
    server.start()
    assert stored(server) == 3


async def test_a_sync_that_does_not_come_in_time_is_refused(own_server: OwnServer) -> None:
    server = own_server(*NEVER)
    async with opened(server, "aof", timeout=SLOW) as stream:
        assert await refused(lambda: stream.append([message()])) == (
            "Redis did not sync its append-only file in time"
        )


@pytest.mark.parametrize("binary", BINARIES)
async def test_a_server_without_an_append_only_file_is_refused_before_anything_is_stored(
    own_server: OwnServer, binary: str
) -> None:
    server = own_server(*MEMORY, binary=binary)
    async with opened(server, "aof") as stream:
        for ask in (stream.probe, lambda: stream.append([message()])):
            assert "appendonly" in await refused(ask)
    assert stored(server) == 0


@pytest.mark.external
async def test_without_waitaof_a_server_that_syncs_before_it_answers_will_do(
    own_server: OwnServer,
) -> None:
    server = without_waitaof(own_server, *ALWAYS)
    async with opened(server, "aof") as stream:
        await stream.probe()
        assert len(await stream.append([message(), message()])) == 2
    assert stored(server) == 2


@pytest.mark.external
async def test_without_waitaof_a_server_that_syncs_later_is_refused(own_server: OwnServer) -> None:
    server = without_waitaof(own_server, *EVERYSEC)
    async with opened(server, "aof") as stream:
        text = "Redis has no WAITAOF: it needs `appendonly yes` and `appendfsync always`"
        assert await refused(stream.probe) == text
        assert await refused(lambda: stream.append([message()])) == text
    assert stored(server) == 0


@pytest.mark.external
async def test_without_waitaof_a_server_that_will_not_say_whether_it_syncs_is_refused(
    own_server: OwnServer,
) -> None:
    server = without_waitaof(own_server, *ALWAYS, "--rename-command", "CONFIG", "")
    async with opened(server, "aof") as stream:
        assert "its configuration cannot be read" in await refused(stream.probe)


@pytest.mark.external
async def test_a_server_that_came_back_with_another_configuration_is_asked_again(
    own_server: OwnServer,
) -> None:
    server = without_waitaof(own_server, *ALWAYS)
    async with opened(server, "aof") as stream:
        await stream.append([message()])
        server.kill()
        server.options = EVERYSEC
        server.start()
        with pytest.raises(StreamUnavailableError):
            await stream.append([message()])  # on the connection that has ended
        for _ in range(3):
            await refused(lambda: stream.append([message()]))
    assert stored(server) == 1


@pytest.mark.parametrize(
    ("binary", "name", "value"),
    [
        ("valkey", "appendonly", "no"),
        pytest.param("redis", "appendfsync", "everysec", marks=pytest.mark.external),
    ],
)
async def test_a_level_that_is_lost_while_running_is_refused_until_it_is_back(
    own_server: OwnServer, binary: str, name: str, value: str
) -> None:
    has_waitaof = binary == "valkey"
    server = own_server(*ALWAYS) if has_waitaof else without_waitaof(own_server, *ALWAYS)
    with redis.Redis.from_url(server.url) as client:
        async with opened(server, "aof") as stream:
            await stream.append([message()])
            good = client.config_get(name)[name]
            client.config_set(name, value)
            for _ in range(5):
                await refused(lambda: stream.append([message()]))
            assert stored(server) == 2  # the one on which it was noticed
            client.config_set(name, good)
            assert await eventually_appends(stream)
    assert stored(server) >= 3


async def eventually_appends(stream: Producer) -> bool:
    async def appends() -> bool:
        try:
            return bool(await stream.append([message()]))
        except StreamUnavailableError:
            return False  # the file is being written again

    await eventually(appends)
    return True


@pytest.mark.parametrize("binary", BINARIES)
async def test_a_script_that_the_server_forgot_is_loaded_again(
    own_server: OwnServer, binary: str
) -> None:
    server = own_server(*ALWAYS, binary=binary)
    async with opened(server, "aof") as stream:
        for _ in range(2):
            assert len(await stream.append([message()])) == 1
            await stream.client.ask_servers(("SCRIPT", "FLUSH"))
    assert stored(server) == 2


@pytest.mark.parametrize("binary", BINARIES)
async def test_an_append_waits_for_as_many_replicas_as_were_asked_for(
    own_server: OwnServer, binary: str
) -> None:
    primary = own_server(*MEMORY, "--repl-diskless-sync-delay", "0", binary=binary)
    replica = own_server(*MEMORY, "--replicaof", "127.0.0.1", str(primary.port), binary=binary)
    async with opened(primary, "replicas:1", timeout=SLOW) as stream:
        await eventually(lambda: can_append(stream))
        before = stored(primary)
        await stream.append([message()])
        assert stored(replica) == before + 1

        replica.signal(signal.SIGSTOP)
        for _ in range(2):
            assert await refused(lambda: stream.append([message()])) == "0 of 1 replicas have it"
        # It may be there, and once it is known no further copy is left.
        assert stored(primary) == before + 2
        replica.signal(signal.SIGCONT)
        await eventually(lambda: can_append(stream))
    async with opened(primary, "replicas:2", timeout=SLOW) as stream:
        before = stored(primary)
        assert await refused(stream.probe) == "1 of 2 replicas have it"
        assert await refused(lambda: stream.append([message()])) == "1 of 2 replicas have it"
        assert stored(primary) == before


async def can_append(stream: Producer) -> bool:
    try:
        return bool(await stream.append([message()]))
    except StreamUnavailableError:  # not durable, or late
        return False


async def test_memory_asks_for_nothing(own_server: OwnServer) -> None:
    server = own_server(*MEMORY)
    async with opened(server, "memory") as stream:
        await stream.append([message()])
    assert [calls(server, name) for name in ("wait", "waitaof")] == [0, 0]


@pytest.mark.parametrize("level", ["aof", "replicas:1"])
async def test_a_redis_that_is_away_is_away_and_not_merely_not_durable(
    own_server: OwnServer, level: str
) -> None:
    server = own_server(*ALWAYS)
    async with opened(server, level) as stream:
        server.kill()
        for ask in (stream.probe, lambda: stream.append([message()])):
            with pytest.raises(StreamUnavailableError) as raised:
                await ask()
            assert raised.type is StreamUnavailableError


async def test_an_append_that_was_done_is_not_durable_where_its_connection_fails_while_it_waits(
    own_server: OwnServer,
) -> None:
    primary = own_server(*MEMORY, "--repl-diskless-sync-delay", "0")
    replica = own_server(*MEMORY, "--replicaof", "127.0.0.1", str(primary.port))
    async with opened(primary, "replicas:1", timeout=SLOW) as stream:
        await eventually(lambda: can_append(stream))
        before = stored(primary)
        replica.signal(signal.SIGSTOP)
        appending = asyncio.create_task(refused(lambda: stream.append([message()])))
        with redis.Redis.from_url(primary.url) as client:
            await eventually(lambda: client.info("clients")["blocked_clients"] == 1)
            client.client_kill_filter(_type="normal", skipme=True)
        assert (await appending).startswith("WAIT: ")
        assert stored(primary) == before + 1
        replica.signal(signal.SIGCONT)


async def test_a_partition_that_refused_says_why_though_the_others_are_not_durable(
    own_server: OwnServer,
) -> None:
    primary = own_server(*MEMORY, "--repl-diskless-sync-delay", "0")
    replica = own_server(*MEMORY, "--replicaof", "127.0.0.1", str(primary.port))
    stream = Stream(primary.url, "t", partitions=2, timeout=SLOW, durability="replicas:1")
    await eventually(lambda: can_append(stream))
    with redis.Redis.from_url(primary.url) as client:
        bad, good = stream.partitions
        client.delete(bad.stream, good.stream)
        client.set(bad.stream, "no stream")
        await eventually(lambda: can_probe(stream))
        replica.signal(signal.SIGSTOP)
        rows = [row_of(message(b"%d" % number)) for number in range(20)]
        results = await stream.append_rows(rows)
        parts = [row.partition(2) for row in rows]
        assert {0, 1} == set(parts)
        for part, result in zip(parts, results, strict=True):
            assert isinstance(result, NotDurableError) == (part == 1)
            assert ("WRONGTYPE" in str(result)) == (part == 0)
        assert client.xlen(good.stream) == parts.count(1)
    replica.signal(signal.SIGCONT)
    await stream.close()


async def can_probe(stream: Producer) -> bool:
    try:
        await stream.probe()
    except StreamUnavailableError:
        return False
    return True
