"""Which worker is woken, by which entry, and by which delayed message."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from hookmill.errors import GroupLostError
from hookmill.stream import wakeup
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import Settlement
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from hookmill.stream.wakeup import is_wakeup_group, wakeup_group_of
from tests.stream.toolkit import (
    OpenGroup,
    again,
    blocked,
    bodies,
    dead,
    forget_follow_ups,
    ids,
    partitioned,
    pending,
    settle_all,
)
from tests.support import (
    Server,
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


@pytest.mark.since_7_0
async def test_no_wake_up_brings_a_body(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    def sent() -> int:
        info: Any = redis_client.info("stats")
        return int(info["total_net_output_bytes"])

    group, other = await open_group(), await open_group("c2")
    assert (await group.take(1)).is_empty
    waiting = asyncio.create_task(group.wait(30))
    await eventually(lambda: blocked(redis_client) == 1)
    before = sent()
    await stream.append([message(bytes(10_000_000), id="m")])
    assert await waiting
    assert sent() - before < 50_000
    (entry,) = (await group.take(1)).entries
    assert sent() - before > 10_000_000

    waiting = asyncio.create_task(other.wait(30))
    await eventually(lambda: blocked(redis_client) == 1)
    before = sent()
    await group.settle([Settlement(entry.ref, (again(entry),))])
    assert await waiting
    assert sent() - before < 50_000
    await settle_all(other, *(await other.take(1)).entries)


@pytest.mark.since_7_0
async def test_a_batch_wakes_one_worker_after_the_other_until_nothing_is_left(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    groups = [await open_group(f"c{number}") for number in range(4)]
    for group in groups:
        assert (await group.take(1)).is_empty
    waiting = {asyncio.create_task(group.wait(30)): group for group in groups}
    await eventually(lambda: blocked(redis_client) == 4)
    await stream.append([message(id=f"m{number}") for number in range(3)])
    for number in range(3):
        await eventually(lambda: any(task.done() for task in waiting))
        (woken,) = [task for task in waiting if task.done()]
        group = waiting.pop(woken)
        taken = await group.take(1)
        assert ids(taken.entries) == [f"m{number}"]
        assert taken.has_more == (number < 2)
        await settle_all(group, *taken.entries)
    ((last, group),) = waiting.items()
    assert not last.done()
    await group.stop_waiting()
    assert not await last


async def test_a_worker_that_takes_nothing_more_wakes_another_in_its_place(
    stream: Producer, open_group: OpenGroup
) -> None:
    group, other = await open_group(), await open_group("c2")
    await stream.append([message(id="m")])
    assert await group.wait(30)
    assert not await other.wait(0.01)
    await group.wake_another()
    assert await other.wait(30)
    await settle_all(other, *(await other.take(1)).entries)


async def test_each_group_is_woken(stream: Producer, open_group: OpenGroup) -> None:
    groups = [await open_group(name=name) for name in ("main", "other")]
    await stream.append([message(id="m")])
    for group in groups:
        assert await group.wait(30)
        await settle_all(group, *(await group.take(1)).entries)


async def test_what_is_appended_while_the_group_is_lost_wakes_a_worker_that_makes_it_again(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group, other = await open_group(), await open_group("c2")
    assert (await group.take(1)).is_empty
    waiting = asyncio.create_task(group.wait(30))
    await eventually(lambda: blocked(redis_client) == 1)
    redis_client.flushdb()
    await stream.append([message(id="m")])
    assert await waiting
    await group.wake_another()
    assert await other.wait(30)
    with pytest.raises(GroupLostError):
        await other.take(1)
    assert await other.open() == 2
    await settle_all(other, *(await other.take(1)).entries)


@pytest.mark.since_7_0
async def test_after_an_entry_that_came_without_a_wake_up_waits_are_short(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    assert (await group.take(1)).is_empty
    await stream.append([message(id="m")])
    redis_client.delete(group.partitions[0].wake)  # as a receiver of release 0.1 leaves it
    assert not await group.wait(0.01)
    await settle_all(group, *(await group.take(1)).entries)
    async with asyncio.timeout(5):
        assert not await group.wait(60)


async def test_a_wait_ends_when_all_partitions_have_to_be_looked_at(
    open_group: OpenGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "WHOLE_TAKE_PERIOD", 0.05)
    group = await open_group()
    assert (await group.take(1)).is_empty
    async with asyncio.timeout(5):
        assert not await group.wait(60)


async def test_a_woken_worker_asks_the_partition_that_has_something_and_no_other(
    server: Server, prefix: str, redis_client: redis.Redis
) -> None:
    async with partitioned(server, prefix) as (stream, group):
        assert (await group.take(10)).is_empty
        for number, body in enumerate(bodies(8)):
            await stream.append([message(body, id=f"m{number}")])
            assert await group.wait(30)
            before = calls(redis_client, "evalsha")
            taken = await group.take(10)
            assert calls(redis_client, "evalsha") == before + 1
            assert (ids(taken.entries), taken.has_more) == ([f"m{number}"], False)
            await settle_all(group, *taken.entries)


def calls(client: redis.Redis, command: str) -> int:
    stats: Any = client.info("commandstats")
    return int(stats[f"cmdstat_{command}"]["calls"])


async def test_a_lost_wake_up_is_repaired_by_a_worker_that_is_woken_all_the_time(
    server: Server, prefix: str, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "WHOLE_TAKE_PERIOD", 0.3)
    first, *_, last = bodies(8)
    async with partitioned(server, prefix) as (stream, group):
        assert (await group.take(1)).is_empty
        await stream.append([message(last, id="lost")])
        redis_client.delete(group.partitions[0].wake)  # the worker that was woken has died

        async def is_found() -> bool:
            await stream.append([message(first)])
            await group.wait(0.01)
            found: list[str] = []
            has_more = True
            while has_more:
                taken = await group.take(1)
                await settle_all(group, *taken.entries)
                found += ids(taken.entries)
                has_more = taken.has_more
            return "lost" in found

        await eventually(is_found)
        await settle_all(group, *(await group.take(100)).entries)


async def test_the_next_message_of_a_key_whose_head_is_a_duplicate_wakes_a_worker(
    stream: Producer, open_group: OpenGroup
) -> None:
    group, letters = await open_group(), DeadLetters(stream.client, "main")
    await stream.append([message(id=name, key="k") for name in ("a", "b")])
    (head,) = (await group.take(2)).entries
    await group.settle(
        [Settlement(head.ref, (again(head, "x"), again(head, "y")), head.key, head.owner)]
    )
    one, two = (await group.take(2)).entries
    await group.settle([Settlement(one.ref, (dead(one),), one.key, one.owner)])
    await letters.drop([str(await letters.newest())])  # releases the ID
    await stream.append([message(id="a", key="k")])
    assert (await group.take(10)).parked == 1
    await group.settle([Settlement(two.ref, (again(two, "y"),), two.key, two.owner)])
    assert [each.message_id for each in (await group.take(10)).duplicates] == ["a"]

    for name in ("b", "a"):
        assert await group.wait(30)
        (entry,) = (await group.take(10)).entries
        assert ids([entry]) == [name]
        await group.settle([Settlement(entry.ref, (), entry.key, entry.owner)])


async def test_a_wake_up_group_of_release_0_1_keeps_nothing_from_being_trimmed(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    redis_client.xgroup_create(group.partitions[0].stream, "main:bell", "0")
    await stream.append([message() for _ in range(3)])
    await settle_all(group, *(await group.take(3)).entries)
    await Upkeep(stream.client, "main").trim(0)
    assert redis_client.xlen(group.partitions[0].stream) == 0


@pytest.mark.since_7_0
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
        assert round(((await group.look_at_delayed()).next_due or 0) / 60) == 60
    waiting = [asyncio.create_task(group.wait_for_sooner(30)) for group in (one, two)]
    await eventually(lambda: blocked(redis_client) == 2)

    await one.settle([Settlement(later.ref, (again(later, delay_ms=7_200_000),))])
    await one.settle([Settlement(sooner.ref, (again(sooner, delay_ms=60_000),))])
    assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == [True, True]
    assert redis_client.xlen(one.partitions[0].sooner) == 1  # only the latest of them is kept
    # A message that was delayed before the worker asked does not wake it.
    assert round(((await two.look_at_delayed()).next_due or 0) / 60) == 1
    assert not await two.wait_for_sooner(0.01)
    forget_follow_ups(redis_client, one)


async def test_a_worker_that_never_asked_waits_for_what_comes_from_now_on(
    open_group: OpenGroup,
) -> None:
    assert not await (await open_group()).wait_for_sooner(0.01)


def test_a_wake_up_group_of_release_0_1_is_known_by_its_name() -> None:
    assert wakeup_group_of("main") == "main:bell"
    assert is_wakeup_group(b"main:bell")
    assert not is_wakeup_group(b"main")
