"""How many connections there may be, and who gets one."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
import redis

from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.open_connections import OpenConnections
from tests.support import Server, eventually


def opened(most: int | None) -> OpenConnections:
    made = OpenConnections()
    made.most = most
    return made


async def test_without_a_bound_each_use_has_a_connection_and_those_put_back_are_used_again() -> (
    None
):
    connections = opened(None)
    one = await connections.get(object, is_long=True)
    two = await connections.get(object, is_long=True)
    connections.put_back(one, is_long=True)
    assert await connections.get(object, is_long=False) is one
    assert connections.all == [one, two]


async def test_who_waits_gets_a_connection_in_turn_and_nobody_overtakes() -> None:
    connections = opened(1)
    one = await connections.get(object, is_long=False)
    first = asyncio.create_task(connections.get(object, is_long=False))
    second = asyncio.create_task(connections.get(object, is_long=False))
    await asyncio.sleep(0)
    connections.put_back(one, is_long=False)
    late = asyncio.create_task(connections.get(object, is_long=False))
    assert await first is one
    assert not second.done()
    connections.put_back(one, is_long=False)
    assert await second is one
    connections.put_back(one, is_long=False)
    assert await late is one


async def test_what_may_last_long_never_has_the_last_connection() -> None:
    connections = opened(2)
    long = await connections.get(object, is_long=True)
    waiting = asyncio.create_task(connections.get(object, is_long=True))
    await asyncio.sleep(0)
    short = await connections.get(object, is_long=False)
    connections.put_back(short, is_long=False)
    assert await connections.get(object, is_long=False) is short
    assert not waiting.done()
    connections.put_back(long, is_long=True)
    assert await waiting is long


async def test_a_connection_that_nobody_waits_for_any_longer_is_handed_on() -> None:
    connections = opened(1)
    one = await connections.get(object, is_long=False)
    gives_up = asyncio.create_task(connections.get(object, is_long=True))
    late = asyncio.create_task(connections.get(object, is_long=True))
    await asyncio.sleep(0)
    connections.put_back(one, is_long=False)
    gives_up.cancel()  # it has the connection already, but has not run since
    with suppress(asyncio.CancelledError):
        await gives_up
    assert await late is one


async def test_who_gets_none_in_time_fails_and_its_place_in_line_is_left_out() -> None:
    connections = opened(1)
    one = await connections.get(object, is_long=False)
    with pytest.raises(StreamUnavailableError, match="not sent: all 1 connections were in use"):
        await connections.get(object, is_long=False, patience=0.01)
    connections.put_back(one, is_long=False)
    assert connections.free == [one]


async def test_where_redis_stands_still_those_in_line_fail_with_those_that_were_sent(
    server: Server, prefix: str, redis_client: redis.Redis
) -> None:
    async with Client(server.url, prefix, connections=2, timeout=0.3) as client:
        await client.execute(0, "PING")
        redis_client.client_pause(60_000, all=False)
        try:
            asked = [client.execute(0, "INCR", f"{prefix}:times") for _ in range(40)]
            failed = await asyncio.gather(*asked, return_exceptions=True)
        finally:
            redis_client.client_unpause()
        sent = [one for one in failed if "not sent" not in str(one)]
        assert [type(one) for one in failed] == [StreamUnavailableError] * 40
        assert len(sent) <= 8
        assert len(await asyncio.gather(*(client.execute(0, "PING") for _ in range(9)))) == 9
    redis_client.delete(f"{prefix}:times")


async def test_many_commands_at_once_share_the_connections_of_a_bounded_client(
    server: Server, prefix: str, redis_client: redis.Redis
) -> None:
    def count() -> int:
        return len([one for one in redis_client.client_list() if one["name"] == prefix])

    async with Client(server.url + f"?client_name={prefix}", prefix, connections=2) as client:
        replies = await asyncio.gather(
            *(client.execute(0, "ECHO", str(number)) for number in range(20))
        )
        assert replies == [str(number).encode() for number in range(20)]
        assert count() == 2
    await eventually(lambda: count() == 0)
