"""The client that keeps connections for commands sent as they are, against real servers."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any

import hiredis
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import Connection, ConnectionPool

from hookmill.errors import SettingsError, StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import STREAM, EntryRef, Settlement
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.toolkit import (
    OwnServer,
    opened,
)
from tests.support import (
    Server,
    Stream,
    eventually,
    hurry,
    message,
)


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    opened = Client(server.url, "t")
    yield opened
    await opened.close()


def connections(redis_client: redis.Redis) -> int:
    return len(redis_client.client_list())


async def test_commands_are_answered_in_their_order_and_an_error_is_a_reply(client: Client) -> None:
    first, refused, last = await client.ask(0, ("ECHO", "a"), ("NONSENSE",), ("ECHO", b"\0"))
    assert (first, last) == (b"a", b"\0")
    assert isinstance(refused, StreamUnavailableError)


async def test_one_after_the_other_goes_over_one_connection(
    client: Client, redis_client: redis.Redis
) -> None:
    before = connections(redis_client)
    for _ in range(5):
        await client.ask(0, ("PING",))
    assert connections(redis_client) - before == 1


async def test_those_at_the_same_time_have_one_each_and_closing_closes_them_all(
    client: Client, redis_client: redis.Redis, prefix: str
) -> None:
    before = connections(redis_client)
    waiting = [
        asyncio.create_task(client.ask(0, ("BLPOP", f"{prefix}:{number}", 5)))
        for number in range(3)
    ]
    await eventually(lambda: redis_client.info("clients")["blocked_clients"] == 3)
    assert connections(redis_client) - before == 3
    await client.close()
    with pytest.raises(StreamUnavailableError):
        await asyncio.gather(*waiting)
    await asyncio.wait(waiting)
    await eventually(lambda: connections(redis_client) == before)


async def test_a_connection_that_was_closed_meanwhile_is_made_again_before_anything_is_sent(
    client: Client, redis_client: redis.Redis, prefix: str
) -> None:
    (number,) = await client.ask(0, ("CLIENT", "ID"))
    redis_client.client_kill_filter(_id=number)
    await eventually(client.servers[0]._free[0]._reader.at_eof)
    assert await client.ask(0, ("INCR", f"{prefix}:times")) == [1]
    redis_client.delete(f"{prefix}:times")


async def test_a_cancelled_command_leaves_no_reply_for_the_next_one(
    client: Client, redis_client: redis.Redis, prefix: str
) -> None:
    cancelled = asyncio.create_task(client.ask(0, ("BLPOP", f"{prefix}:list", 5)))
    await eventually(lambda: redis_client.info("clients")["blocked_clients"] == 1)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert await client.ask(0, ("ECHO", "mine")) == [b"mine"]


async def test_a_command_without_an_answer_in_time_fails_and_is_not_sent_again(
    server: Server, redis_client: redis.Redis, prefix: str
) -> None:
    hasty = Client(server.url, "t")
    await hasty.ask(0, ("PING",))  # the connection is there
    (connection,) = hasty.servers[0]._free
    connection.socket_timeout = 0.1
    disconnect = connection.disconnect

    async def give_up(**options: Any) -> None:
        redis_client.client_unpause()  # Redis is back in time for a client that would try again
        await disconnect(**options)

    connection.disconnect = give_up
    redis_client.client_pause(60_000, all=False)
    try:
        with pytest.raises(StreamUnavailableError, match="Timeout"):
            await hasty.ask(0, ("INCR", f"{prefix}:times"))
    finally:
        redis_client.client_unpause()
        await hasty.close()
    # Sent once. Redis may have thrown it away with the connection.
    assert redis_client.getdel(f"{prefix}:times") in (b"1", None)


def everything(
    stream: Producer, group: Consumer
) -> Iterator[tuple[str, Callable[[], Awaitable[Any]]]]:
    yield "append", lambda: stream.append([message()])
    yield "probe", stream.probe
    yield "trim", lambda: Upkeep(stream.client, "main").trim(0)
    yield "open", group.open
    yield "take", lambda: group.take(1)
    yield "wait", lambda: group.wait(0.1)
    yield "take over", lambda: group.take_over(1, 0, 1)
    yield "settle", lambda: group.settle([Settlement(EntryRef(STREAM, "1-1"))])
    yield "release", lambda: group.release(1)
    yield "retire", lambda: Upkeep(stream.client, "main").retire(0)
    yield "uptime", group.redis_uptime
    yield "dead", DeadLetters(stream.client, "main").count
    yield "renew", lambda: asyncio.to_thread(renew, group)


async def is_unavailable(ask: Callable[[], Awaitable[Any]]) -> bool:
    try:
        await ask()
    except StreamUnavailableError:
        return True
    return False


def renew(group: Consumer) -> list[EntryRef]:
    with closing(group.leases()) as leases:
        return leases.renew([EntryRef(STREAM, "1-1")])


async def test_a_redis_that_is_not_there_is_said_to_be_unavailable(own_server: OwnServer) -> None:
    server = own_server()
    async with opened(server) as (stream, group):
        await group.open()
        await group.take(1)
        server.kill()
        for what, ask in everything(stream, group):
            assert await is_unavailable(ask), what
        await group.stop_waiting()  # says nothing: it is asked for on the way out


async def test_a_frozen_redis_is_given_up_in_time_and_nothing_is_sent_twice(
    own_server: OwnServer,
) -> None:
    server = own_server()
    async with opened(server) as (stream, group):
        await group.open()
        await stream.append([message(id="early")])
        hurry(stream, 0.1)
        server.signal(signal.SIGSTOP)
        async with asyncio.timeout(30):
            for what, ask in everything(stream, group):
                if what == "renew":
                    continue  # its patience is not to be set
                assert await is_unavailable(ask), what
        server.signal(signal.SIGCONT)
        # A timeout is no proof that nothing was written; but it was written once.
        with redis.Redis.from_url(server.url) as client:
            await eventually(lambda: client.xlen(stream.partitions[0].stream) == 2)
            hurry(stream, 5.0)
            await stream.probe()
            assert client.xlen(stream.partitions[0].stream) == 2


async def test_a_command_without_an_answer_is_not_sent_again(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_server()
    async with opened(server) as (stream, _):
        await stream.append([message()])  # from here on Redis knows the script
        (connection,) = stream.client.servers[0]._free
        disconnect = connection.disconnect

        async def give_up(**options: Any) -> None:
            server.signal(signal.SIGCONT)  # back in time for a client that would try again
            await disconnect(**options)

        monkeypatch.setattr(connection, "disconnect", give_up)
        hurry(stream, 0.1)
        server.signal(signal.SIGSTOP)
        with pytest.raises(StreamUnavailableError):
            await stream.append([message()])
        hurry(stream, 5.0)
        with redis.Redis.from_url(server.url) as client:
            await eventually(lambda: client.xlen(stream.partitions[0].stream) == 2)


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:6379",
        "redis://u:pa/ss@h:1/0",
        "redis://h:1/0?socket_timeout=s3cret",
        "redis://h:1/0?no_such_option=s3cret",
    ],
)
def test_an_unreadable_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Stream(url, "t")
    assert str(refused.value) == (
        "REDIS_URL: the Redis client cannot read it, or does not know an option in it"
    )


ARGUMENT = (
    st.text(st.characters(exclude_categories=["Cs"])) | st.binary() | st.integers() | st.floats()
)


@given(st.lists(ARGUMENT, max_size=20))
def test_commands_are_packed_as_the_client_itself_packs_them(
    args: list[str | bytes | int | float],
) -> None:
    command: Any = ("XADD", *args)
    assert hiredis.pack_command(command) == b"".join(Connection().pack_command(*command))


@pytest.mark.parametrize("url", ["redis://h", "rediss://h", "unix:///run/redis.sock"])
def test_every_kind_of_connection_is_packed_for(url: str) -> None:
    (server,) = Client(url, "t").servers
    kind = server.pool.connection_class
    assert issubclass(kind, ConnectionPool.from_url(url).connection_class)
    assert kind.__mro__[1].__name__ == "_WrittenAtOnce"


async def test_a_command_leaves_before_what_is_ready_by_now_runs(
    stream: Producer, redis_client: redis.Redis
) -> None:
    key = f"{stream.partitions[0].base}:left"
    await stream.client.execute(0, "PING")  # the connection is there
    writing = asyncio.ensure_future(stream.client.execute(0, "SET", key, "1"))
    await asyncio.sleep(0)  # its first step, and nothing else
    deadline = time.monotonic() + 5
    while not redis_client.exists(key) and time.monotonic() < deadline:
        time.sleep(0.001)  # noqa: ASYNC251 - the loop is to stand still
    assert redis_client.delete(key) == 1
    await writing


async def test_a_reply_that_comes_late_meets_no_other_command() -> None:
    """A server that is loading answers each command with an error, and the second one late."""
    late = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        while data := await reader.read(4096):
            commands.feed(data)
            while (command := commands.gets()) is not False:
                match command:
                    case [b"GET", b"loading"]:
                        writer.write(b"-LOADING Redis is loading the dataset in memory\r\n")
                    case [b"GET", b"late"]:
                        await late.wait()
                        writer.write(b"$4\r\nlate\r\n")
                    case [b"ECHO", text]:
                        writer.write(b"$%d\r\n%s\r\n" % (len(text), text))
                    case _:  # the client introduces itself
                        writer.write(b"+OK\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Client(f"redis://127.0.0.1:{port}", "t") as client:
        with pytest.raises(StreamUnavailableError, match="loading"):
            await client.ask(0, ("GET", "loading"), ("GET", "late"))
        late.set()
        assert await client.execute(0, "ECHO", "mine") == b"mine"
    server.close()


async def test_execute_raises_what_ask_returns(client: Client) -> None:
    assert await client.execute(0, "ECHO", "a") == b"a"
    with pytest.raises(StreamUnavailableError, match=r"(?i)unknown command"):
        await client.execute(0, "NONSENSE")


async def test_a_command_of_the_whole_server_is_answered_by_each(client: Client) -> None:
    assert await client.ask_servers(("ECHO", "a")) == [b"a"]
    (info,) = await client.info("server")
    assert float(info["uptime_in_seconds"]) >= 0
    assert "used_memory" not in info


async def test_a_blocking_command_outlasts_the_clients_timeout_and_can_be_ended(
    server: Server, redis_client: redis.Redis, prefix: str
) -> None:
    async with Client(server.url, prefix, timeout=0.5) as client:
        blocking = client.blocking(0)
        command = ("BLPOP", f"{prefix}:list", 60)
        waiting = asyncio.create_task(blocking.ask(command, 60, can_be_ended=True))
        await eventually(lambda: redis_client.info("clients")["blocked_clients"] == 1)
        await blocking.end_wait()
        assert await waiting is None
        assert await blocking.ask(("BLPOP", f"{prefix}:list", 0.6), 0.6) is None
        await blocking.close()


async def test_a_blocking_command_without_an_answer_fails_after_its_wait_and_the_timeout(
    own_server: OwnServer,
) -> None:
    server = own_server()
    async with Client(server.url, "t", timeout=0.2) as client:
        blocking = client.blocking(0)
        await blocking.ask(("PING",), 0)
        server.signal(signal.SIGSTOP)
        with pytest.raises(StreamUnavailableError):
            await blocking.ask(("PING",), 0.1)
        await blocking.end_wait()  # says nothing: it is asked for on the way out
        server.signal(signal.SIGCONT)
        await blocking.close()


async def test_a_stream_is_opened_with_as_many_partitions_as_it_was_made_with(
    server: Server, redis_client: redis.Redis, prefix: str
) -> None:
    async with await Client.as_found(server.url, prefix) as unknown:
        assert len(unknown.partitions) == 1
    async with Client(server.url, prefix, partitions=3) as client:
        await client.agree_on_partitions(only_look=True)
        assert not redis_client.exists(f"{prefix}:partitions")
        await client.agree_on_partitions()
    async with await Client.as_found(server.url, prefix) as found:
        assert [keys.base for keys in found.partitions] == [f"{prefix}:{{{n}}}" for n in range(3)]


async def test_a_url_that_asks_for_another_protocol_is_spoken_to_in_resp2(server: Server) -> None:
    async with Client(f"{server.url}?protocol=3", "t") as client:
        # RESP3 would reply with a mapping.
        assert isinstance(await client.execute(0, "CONFIG", "GET", "port"), list)
