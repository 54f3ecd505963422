"""Who is woken, by which entry."""

from __future__ import annotations

import asyncio

import redis

from hookmill.stream.entries import Settlement
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.toolkit import (
    OpenGroup,
    again,
    blocked,
    ids,
    pending,
    settle_all,
)
from tests.support import (
    eventually,
    message,
)


async def test_an_entry_wakes_one_waiting_worker_and_is_not_taken_by_that(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    groups = [await open_group("c1"), await open_group("c2")]
    for group in groups:
        assert (await group.take(1)).is_empty
    waiting = [asyncio.create_task(group.wait(30)) for group in groups]
    await eventually(lambda: blocked(redis_client) == 2)
    await stream.append([message(id="m")])
    await eventually(lambda: any(task.done() for task in waiting))
    assert [task.done() for task in waiting].count(True) == 1
    assert pending(redis_client, groups[0]) == 0

    await stream.append([message(id="n")])
    assert await asyncio.gather(*waiting) == [True, True]
    taken = await groups[0].take(5)
    assert ids(taken.entries) == ["m", "n"]
    await settle_all(groups[0], *taken.entries)


async def test_the_bell_rings_for_what_came_between_the_take_and_the_wait(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    assert (await group.take(1)).is_empty
    await stream.append([message(id="m")])
    assert await group.wait(30)
    await settle_all(group, *(await group.take(1)).entries)


async def test_the_bell_is_silent_about_what_was_taken_without_it(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await stream.append([message() for _ in range(3)])
    await settle_all(group, *(await group.take(3)).entries)
    assert (await group.take(1)).is_empty
    assert not await group.wait(0.01)


async def test_the_bell_rings_for_what_is_to_run_again(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await stream.append([message(id="m")])
    (entry,) = (await group.take(1)).entries
    assert (await group.take(1)).is_empty
    waiting = asyncio.create_task(group.wait(30))
    await group.settle([Settlement(entry.ref, (again(entry),))])
    assert await waiting
    await settle_all(group, *(await group.take(1)).entries)


async def test_a_bell_pins_nothing_in_the_stream(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message() for _ in range(3)])
    await settle_all(group, *(await group.take(3)).entries)
    await Upkeep(stream.client, "main").trim(0)
    assert redis_client.xlen(group.partitions[0].stream) == 0


async def test_a_wait_in_vain_says_so(open_group: OpenGroup) -> None:
    group = await open_group()
    assert not await group.wait(0.01)
    assert not await group.wait(0.0001)  # less than Redis counts in


async def test_a_wait_ends_at_once_when_asked(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await group.stop_waiting()  # nobody waits: no harm
    waiting = asyncio.create_task(group.wait(60))

    async def asked() -> bool:
        await group.stop_waiting()
        return waiting.done()

    await eventually(asked)
    assert not await waiting
