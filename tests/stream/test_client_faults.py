"""The client when Redis is away, frozen, slow or unreadable: in time, and nothing sent twice."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any

import hiredis
import pytest
import redis

from hookmill.errors import SettingsError, StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import STREAM, EntryRef, Settlement
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.toolkit import OwnServer, opened
from tests.support import Server, Stream, eventually, hurry, message


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
    (connection,) = hasty.servers[0].opened.free
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
    yield "take over", lambda: group.take_over(0, 1, 0, 1)
    yield "recover", lambda: group.recover(0, 1, 0, 1, [])
    yield "confirm", lambda: group.confirm([EntryRef(STREAM, "1-1")])
    yield "run alone", lambda: group.run_alone(EntryRef(STREAM, "1-1"), "t")
    yield "look", lambda: group.looks().ask("")
    yield "watch", lambda: group.looks().watch("1", 0, "", 1)
    yield "settle", lambda: group.settle([Settlement(EntryRef(STREAM, "1-1"))])
    yield "release", lambda: group.release(1)
    yield "retire", lambda: Upkeep(stream.client, "main").retire(0)
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
        (connection,) = stream.client.servers[0].opened.free
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
