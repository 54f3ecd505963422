"""An entry that is set aside does not hold its key: the next one runs, and it comes behind them."""

from __future__ import annotations

import redis

from hookmill.stream.entries import Entry
from hookmill.stream.producer import Producer
from tests.stream.ordering import OpenGroup, again, aside, dead, run_all, send, settled, traces
from tests.support import eventually


def name_of(entry: Entry) -> str:
    return entry.fields[b"id"].decode()


async def test_what_is_set_aside_lets_the_next_run_and_comes_behind_all_others_of_its_key(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await send(stream, "a-1", "a-2", "a-3")
    (first,) = (await group.take(10)).entries
    await group.settle([settled(first, aside(first, delay_ms=100))])
    (second,) = (await group.take(10)).entries
    assert name_of(second) == "a-2"

    async def is_due() -> bool:
        return (await group.release(10))[0] == 1

    await eventually(is_due)
    back = await group.take(10)
    assert (back.entries, back.parked) == ([], 1)  # behind a-3, which waits for a-2
    await group.settle([settled(second)])
    assert await run_all(group) == ["a-3", "a-1"]
    assert traces(redis_client, group) == []


async def test_what_is_set_aside_holds_its_key_again_while_it_runs(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await send(stream, "a-1")
    (first,) = (await group.take(10)).entries
    await group.settle([settled(first, aside(first))])
    assert traces(redis_client, group) == []
    (first,) = (await group.take(10)).entries
    await send(stream, "a-2")
    assert (await group.take(10)).parked == 1
    await group.settle([settled(first, again(first))])  # a retry keeps the key
    (first,) = (await group.take(10)).entries
    assert name_of(first) == "a-1"
    await group.settle([settled(first, dead(first))])
    assert await run_all(group) == ["a-2"]
    assert traces(redis_client, group) == []
    redis_client.delete(group.partitions[0].dead)


async def test_several_that_are_set_aside_again_and_again_hold_up_nothing(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await send(stream, "a-x1", "a-x2", "a-1", "a-x3", "a-2")
    ran: list[str] = []
    for _ in range(12):
        for entry in (await group.take(10)).entries:
            name = name_of(entry)
            if "x" in name:
                await group.settle([settled(entry, aside(entry))])
            else:
                ran.append(name)
                await group.settle([settled(entry)])
    assert ran == ["a-1", "a-2"]
    assert sorted(await run_all(group)) == ["a-x1", "a-x2", "a-x3"]
    assert traces(redis_client, group) == []
