"""The connections to one server, against real servers: what one reply says about the others."""

from __future__ import annotations

import asyncio
import signal
import socket

import pytest
import redis

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.connections import keepalive_options
from hookmill.stream.reply_errors import WaitEndedError, translated
from tests.stream.toolkit import OwnServer
from tests.support import eventually


async def open_several(client: Client, count: int) -> None:
    await asyncio.gather(*(client.execute(0, "PING") for _ in range(count)))


def opened(client: Client) -> int:
    (server,) = client.servers
    return sum(connection.is_connected for connection in server.opened.all)


async def test_commands_that_were_done_keep_their_replies_where_the_connection_fails_later(
    client: Client, redis_client: redis.Redis, prefix: str
) -> None:
    key = f"{prefix}:times"
    own = await client.execute(0, "CLIENT", "ID")
    kill = ("CLIENT", "KILL", "ID", own, "SKIPME", "no")
    first, killed, *lost = await client.ask(0, ("INCR", key), kill, ("INCR", key), ("INCR", key))
    assert (first, killed) == (1, 1)
    assert [type(reply) for reply in lost] == [StreamUnavailableError] * 2
    assert redis_client.getdel(key) == b"1"


async def test_a_reply_that_refuses_one_command_drops_nothing(client: Client, prefix: str) -> None:
    await open_several(client, 3)
    await client.ask(0, ("NONSENSE",), ("XREADGROUP", "GROUP", "g", "c", "STREAMS", prefix, ">"))
    assert (client.servers[0].drops, opened(client)) == (0, 3)


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["timeout", "cancelled"])
async def test_a_reply_that_does_not_come_drops_what_is_idle_and_what_blocks(
    own_server: OwnServer, *, is_cancelled: bool
) -> None:
    server = own_server()
    async with Client(server.url, "t", timeout=30 if is_cancelled else 0.5) as client:
        await open_several(client, 3)
        blocking = client.blocking(0)
        waiting = asyncio.create_task(blocking.ask(("BLPOP", "t:list", 60), 60))
        with redis.Redis.from_url(server.url) as plain:
            await eventually(lambda: plain.info("clients")["blocked_clients"] == 1)
        server.signal(signal.SIGSTOP)
        with pytest.raises((StreamUnavailableError, TimeoutError)):
            async with asyncio.timeout(0.5 if is_cancelled else 30):
                await client.execute(0, "PING")
        assert await asyncio.wait_for(waiting, 5) is None  # what comes next tells what is wrong
        assert opened(client) == 0
        server.signal(signal.SIGCONT)
        assert await client.execute(0, "ECHO", "a") == b"a"
        assert await blocking.ask(("ECHO", "b"), 5) == b"b"
        await blocking.close()


async def test_a_blocking_command_without_a_reply_drops_the_clients_connections_too(
    own_server: OwnServer,
) -> None:
    server = own_server()
    async with Client(server.url, "t", timeout=0.3) as client:
        await open_several(client, 3)
        blocking = client.blocking(0)
        await blocking.ask(("PING",), 1)
        server.signal(signal.SIGSTOP)
        with pytest.raises(StreamUnavailableError, match="no reply"):
            await blocking.ask(("BLPOP", "t:list", 0.1), 0.1)
        assert opened(client) == 0
        server.signal(signal.SIGCONT)
        await blocking.close()


async def test_a_connection_in_use_is_closed_when_it_has_its_reply(
    client: Client, redis_client: redis.Redis, prefix: str
) -> None:
    using = asyncio.create_task(client.execute(0, "BLPOP", f"{prefix}:list", 5))
    await eventually(lambda: redis_client.info("clients")["blocked_clients"] == 1)
    await client.servers[0].drop()
    redis_client.rpush(f"{prefix}:list", "a")
    assert (await using)[1] == b"a"
    assert opened(client) == 0


async def test_the_kernel_notices_that_the_other_end_of_a_silent_connection_is_gone(
    client: Client,
) -> None:
    blocking = client.blocking(0)
    await client.execute(0, "PING")
    await blocking.ask(("PING",), 1)
    for server in client.servers[0].together:
        opened = server.opened.all[0]._writer.get_extra_info("socket")
        assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        for name, value in keepalive_options().items():
            assert opened.getsockopt(socket.IPPROTO_TCP, name) == value
    await blocking.close()
    assert len(client.servers[0].together) == 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("NOGROUP No such key 'a' or consumer group 'b'", GroupLostError),
        ("UNBLOCKED the stream key no longer exists", GroupLostError),
        ("UNBLOCKED client unblocked via CLIENT UNBLOCK", WaitEndedError),
        ("ERR something else", StreamUnavailableError),
    ],
)
def test_an_error_of_redis_is_one_of_ours(text: str, kind: type[Exception]) -> None:
    pool = redis.ConnectionPool.from_url("redis://127.0.0.1:1/0")
    assert type(translated(redis.ResponseError(text), pool)) is kind
