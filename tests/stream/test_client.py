"""The client that keeps connections for commands sent as they are, against real servers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import hiredis
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import Connection, ConnectionPool

from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.producer import Producer
from hookmill.stream.view import open_view
from tests.support import Server, eventually


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
    await eventually(client.servers[0].opened.free[0]._reader.at_eof)
    assert await client.ask(0, ("INCR", f"{prefix}:times")) == [1]
    redis_client.delete(f"{prefix}:times")


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


async def test_a_stream_is_opened_with_as_many_partitions_as_it_was_made_with(
    server: Server, redis_client: redis.Redis, prefix: str
) -> None:
    async with await open_view(server.url, prefix) as unknown:
        assert len(unknown.partitions) == 1
    async with Client(server.url, prefix, partitions=3) as client:
        await client.agree_on_partitions(only_look=True)
        assert not redis_client.exists(f"{prefix}:partitions")
        await client.agree_on_partitions()
    async with await open_view(server.url, prefix) as found:
        assert [keys.base for keys in found.partitions] == [f"{prefix}:{{{n}}}" for n in range(3)]


async def test_a_url_that_asks_for_another_protocol_is_spoken_to_in_resp2(server: Server) -> None:
    async with Client(f"{server.url}?protocol=3", "t") as client:
        # RESP3 would reply with a mapping.
        assert isinstance(await client.execute(0, "CONFIG", "GET", "port"), list)
