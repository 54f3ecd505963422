"""Which worker is woken, by which entry, and by which delayed message."""

from __future__ import annotations

import asyncio

import redis

from hookmill.stream.entries import Settlement
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from hookmill.stream.wakeup import is_wakeup_group, wakeup_group_of
from tests.stream.toolkit import (
    OpenGroup,
    again,
    blocked,
    forget_follow_ups,
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


async def test_an_entry_between_the_take_and_the_wait_wakes_the_worker(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    assert (await group.take(1)).is_empty
    await stream.append([message(id="m")])
    assert await group.wait(30)
    await settle_all(group, *(await group.take(1)).entries)


async def test_entries_that_are_taken_without_a_wait_wake_no_worker(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await stream.append([message() for _ in range(3)])
    await settle_all(group, *(await group.take(3)).entries)
    assert (await group.take(1)).is_empty
    assert not await group.wait(0.01)


async def test_an_entry_of_the_again_stream_wakes_a_worker(
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


async def test_a_wake_up_group_keeps_nothing_from_being_trimmed(
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
    await group.stop_waiting()  # harmless if no worker waits
    waiting = asyncio.create_task(group.wait(60))

    async def asked() -> bool:
        await group.stop_waiting()
        return waiting.done()

    await eventually(asked)
    assert not await waiting


async def test_all_workers_are_told_of_a_message_that_is_due_before_all_they_knew_of(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    one, two = await open_group("c1"), await open_group("c2")
    await stream.append([message(id=name) for name in ("far", "sooner", "later")])
    far, sooner, later = (await one.take(3)).entries
    await one.settle([Settlement(far.ref, (again(far, delay_ms=3_600_000),))])
    for group in (one, two):
        moved, next_due = await group.release(10)
        assert (moved, round((next_due or 0) / 60)) == (0, 60)
    waiting = [asyncio.create_task(group.wait_for_sooner(30)) for group in (one, two)]
    await eventually(lambda: blocked(redis_client) == 2)

    await one.settle([Settlement(later.ref, (again(later, delay_ms=7_200_000),))])
    await one.settle([Settlement(sooner.ref, (again(sooner, delay_ms=60_000),))])
    await asyncio.wait_for(asyncio.gather(*waiting), 10)
    assert redis_client.xlen(one.partitions[0].sooner) == 1  # only the latest of them is kept
    # A message that was delayed before the worker asked does not wake it.
    await two.release(10)
    await two.wait_for_sooner(0.01)
    forget_follow_ups(redis_client, one)


async def test_a_worker_that_never_asked_waits_for_what_comes_from_now_on(
    open_group: OpenGroup,
) -> None:
    await (await open_group()).wait_for_sooner(0.01)


def test_a_wake_up_group_is_known_by_its_name() -> None:
    assert wakeup_group_of("main") == "main:bell"  # as release 0.1 named it
    assert is_wakeup_group(b"main:bell")
    assert not is_wakeup_group(b"main")
