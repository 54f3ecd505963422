"""The client that keeps connections for commands sent as they are, against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import Client
from tests.support import Server, eventually


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


async def test_a_connection_that_was_closed_meanwhile_is_made_anew_before_anything_is_sent(
    client: Client, redis_client: redis.Redis, prefix: str
) -> None:
    (number,) = await client.ask(0, ("CLIENT", "ID"))
    redis_client.client_kill_filter(_id=number)
    await eventually(client._servers[0]._free[0]._reader.at_eof)
    assert await client.ask(0, ("INCR", f"{prefix}:times")) == [1]
    redis_client.delete(f"{prefix}:times")


async def test_one_that_is_cancelled_leaves_no_reply_to_who_comes_next(
    client: Client, redis_client: redis.Redis, prefix: str
) -> None:
    cancelled = asyncio.create_task(client.ask(0, ("BLPOP", f"{prefix}:list", 5)))
    await eventually(lambda: redis_client.info("clients")["blocked_clients"] == 1)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert await client.ask(0, ("ECHO", "mine")) == [b"mine"]


async def test_a_command_without_an_answer_in_time_fails_and_is_not_repeated(
    server: Server, redis_client: redis.Redis, prefix: str
) -> None:
    hasty = Client(server.url, "t")
    await hasty.ask(0, ("PING",))  # the connection is there
    (connection,) = hasty._servers[0]._free
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
