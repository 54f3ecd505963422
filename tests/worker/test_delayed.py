"""Delayed messages run when they are due, and Redis is not asked for them in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from hookmill.message import Progress
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import FollowUp, Settlement
from hookmill.stream.facts import Pause
from hookmill.stream.pauses import Pauses
from hookmill.stream.producer import Producer
from tests.support import Server, Stream, eventually, message
from worker import delayed
from worker.delayed import Delayed

OpenGroup = Callable[..., Awaitable[Consumer]]


async def delay(stream: Producer, group: Consumer, *delays_ms: int) -> None:
    await stream.append([message() for _ in delays_ms])
    entries = (await group.take(len(delays_ms))).entries
    await group.settle(
        Settlement(
            entry.ref,
            (
                FollowUp(
                    "again",
                    entry.ref.id,
                    {**entry.fields, **Progress(owner=entry.ref.id).to_fields()},
                    delay_ms,
                ),
            ),
        )
        for entry, delay_ms in zip(entries, delays_ms, strict=True)
    )


async def finish(group: Consumer, redis_client: redis.Redis) -> None:
    for entry in (await group.take(1000)).entries:
        await group.settle([Settlement(entry.ref)])
    redis_client.delete(group.partitions[0].delayed, group.partitions[0].delayed_entries)


async def test_while_nothing_is_delayed_a_run_lasts_until_something_is(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    fleet = [await open_group(f"c{number}") for number in range(3)]
    movers = [Delayed(group) for group in fleet]
    await movers[0].run_once()  # it is the releaser from now on, and looks at every partition
    runs = [asyncio.create_task(mover.run_once()) for mover in movers]
    await eventually(lambda: listeners(redis_client) == 3)
    assert not any(run.done() for run in runs)
    await delay(stream, await open_group("other"), 200)
    # All are woken, so that it does not depend on one of them.
    async with asyncio.timeout(10):
        pauses = await asyncio.gather(*runs)
    assert pauses == [delayed.SHORTEST_PAUSE, *[delayed.WATCH_PAUSE] * 2]

    async def is_moved() -> bool:
        await fleet[1].release(1)
        return redis_client.xlen(fleet[0].partitions[0].again) == 1

    await eventually(is_moved)
    await finish(fleet[0], redis_client)


def listeners(client: redis.Redis) -> int:
    info: Any = client.info("clients")
    return int(info["blocked_clients"])


async def test_without_a_wake_up_a_run_ends_after_the_longest_pause(
    open_group: OpenGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delayed, "LONGEST_PAUSE", 0.05)
    releaser, other = Delayed(await open_group()), Delayed(await open_group("c2"))
    for _ in range(3):
        assert await releaser.run_once() == delayed.SHORTEST_PAUSE
        assert await other.run_once() == 0.0


async def test_a_message_delayed_after_the_release_ends_the_wait(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    assert (await group.look_at_delayed()).next_due is None
    await delay(stream, group, 60_000)
    async with asyncio.timeout(30):
        assert await group.wait_for_sooner(60)
    assert round((await group.look_at_delayed()).next_due or 0) == 60
    assert not await group.wait_for_sooner(0.01)
    await finish(group, redis_client)


async def test_only_a_message_that_is_due_before_all_others_wakes_the_workers(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()

    def told() -> Any:
        return redis_client.xrange(group.partitions[0].sooner)

    await delay(stream, group, 60_000)
    first = told()
    await delay(stream, group, 60_001, 90_000)
    assert told() == first
    await delay(stream, group, 59_000, 30_000)
    assert len(told()) == 1
    assert told() != first
    await finish(group, redis_client)


async def test_the_next_run_comes_when_the_next_message_is_due(
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delayed, "LONGEST_PAUSE", 1.0)
    group = await open_group()
    await delay(stream, group, 1, 500)
    run_once = Delayed(group).run_once

    async def are_moved(count: int) -> bool:
        assert await run_once() == delayed.SHORTEST_PAUSE
        return redis_client.xlen(group.partitions[0].again) == count

    await eventually(lambda: are_moved(1))
    await eventually(lambda: are_moved(2))
    await finish(group, redis_client)


async def test_a_full_batch_is_followed_by_another_at_once(
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delayed, "BATCH", 2)
    group = await open_group()
    await delay(stream, group, 1, 1, 1)
    mover = Delayed(group)
    await eventually(lambda: moved_two(mover, redis_client, group))
    monkeypatch.setattr(delayed, "LONGEST_PAUSE", 0.01)
    assert await mover.run_once() == delayed.SHORTEST_PAUSE
    assert redis_client.xlen(group.partitions[0].again) == 3
    await finish(group, redis_client)


async def moved_two(mover: Delayed, client: redis.Redis, group: Consumer) -> bool:
    """Whether this run moved a full batch."""
    return await mover.run_once() == 0.0 and client.xlen(group.partitions[0].again) == 2


# --- one releases, the others look whether it does ------------------------------------------------


async def test_the_first_that_looks_is_the_releaser_and_stays_it(open_group: OpenGroup) -> None:
    one, two = await open_group("c1"), await open_group("c2")
    seen = [await group.look_at_delayed() for group in (one, two, one, two)]
    assert [look.is_releaser for look in seen] == [True, False, True, False]
    assert [look.number for look in seen] == [1, 1, 2, 2]


async def test_of_several_that_take_the_task_over_one_is_the_releaser(
    open_group: OpenGroup,
) -> None:
    first, *fleet = [await open_group(f"c{number}") for number in range(5)]
    number = (await first.look_at_delayed()).number
    seen = await asyncio.gather(*(group.look_at_delayed(instead_of=number) for group in fleet))
    assert [look.is_releaser for look in seen].count(True) == 1
    assert not (await first.look_at_delayed()).is_releaser  # where it only stood still


class Clock:
    """A clock that stands still until it is put forward."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_worker_gives_the_releaser_its_time_and_then_takes_its_task_over(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    gone, group = await open_group("gone"), await open_group()
    assert (await gone.look_at_delayed()).is_releaser
    await delay(stream, gone, 1)
    await eventually(lambda: is_due(group))
    clock = Clock()
    mover = Delayed(group, clock)

    def moved() -> int:
        return int(redis_client.xlen(group.partitions[0].again))

    await mover.run_once()  # it sees for the first time that something is due
    clock.now += delayed.GRACE[0] - 0.01
    await mover.run_once()
    assert not moved()
    await gone.look_at_delayed()  # it works after all
    clock.now += delayed.GRACE[1]
    await mover.run_once()
    assert not moved()
    clock.now += delayed.GRACE[1]
    await mover.run_once()
    assert moved() == 1
    assert (await group.look_at_delayed()).is_releaser
    await finish(group, redis_client)


async def test_a_pause_ends_although_the_releaser_is_of_a_release_that_ends_none(
    stream: Producer, open_group: OpenGroup
) -> None:
    older, group = await open_group("older"), await open_group()
    assert (await older.look_at_delayed()).is_releaser
    pauses = Pauses(stream.client, "main")
    await pauses.pause(Pause(kind="source", value="qstash", until_ms=1))
    assert not (await group.look_at_delayed()).is_releaser
    mover = Delayed(group, Clock())
    await older.look_at_delayed()  # it works, so nobody would take its task over
    await mover.run_once()
    assert await pauses.listed() == []


async def test_a_pause_ends_although_redis_has_lost_when_it_is_due(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group, pauses = await open_group(), Pauses(stream.client, "main")
    await pauses.pause(Pause(kind="source", value="qstash", until_ms=1))
    redis_client.delete(group.partitions[0].due)
    await Delayed(group).run_once()
    assert await pauses.listed() == []


async def is_due(group: Consumer) -> bool:
    return bool((await group.look_at_delayed()).due)


async def test_a_releaser_that_has_nothing_to_do_is_given_the_longest_pause(
    open_group: OpenGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, group, clock = await open_group("gone"), await open_group(), Clock()
    await gone.look_at_delayed()
    monkeypatch.setattr(group, "wait_for_sooner", nothing_sooner)
    mover = Delayed(group, clock)
    await mover.run_once()
    clock.now += delayed.LONGEST_PAUSE
    await mover.run_once()
    assert not (await group.look_at_delayed()).is_releaser
    clock.now += delayed.GRACE[1]
    await mover.run_once()
    assert (await group.look_at_delayed()).is_releaser


async def nothing_sooner(_: float) -> bool:
    return False


async def test_a_retry_does_not_wait_for_a_releaser_that_is_gone(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    gone, group = await open_group("gone"), await open_group()
    await gone.look_at_delayed()
    await delay(stream, gone, 300)
    (due,) = [score for _, score in delayed_ones(redis_client, group)]
    mover = Delayed(group)
    entries: Any = []

    async def is_moved() -> bool:
        await mover.run_once()
        entries[:] = redis_client.xrange(group.partitions[0].again)
        return bool(entries)

    await eventually(is_moved)
    ((entry_id, _),) = entries
    assert int(entry_id.split(b"-")[0]) - due < 5_000  # a second, on a machine that is not busy
    await finish(group, redis_client)


def delayed_ones(client: redis.Redis, group: Consumer) -> Any:
    return client.zrange(group.partitions[0].delayed, 0, -1, withscores=True)


async def test_what_a_worker_of_release_0_1_delayed_is_found_by_the_releaser(
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delayed, "LONGEST_PAUSE", 0.2)
    group = await open_group()
    mover = Delayed(group)
    await mover.run_once()
    await delay(stream, group, 1)
    redis_client.delete(group.partitions[0].due)

    async def is_moved() -> bool:
        await mover.run_once()
        return redis_client.xlen(group.partitions[0].again) == 1

    await eventually(is_moved)
    await finish(group, redis_client)


async def test_a_due_message_costs_the_other_workers_one_script_whatever_the_partitions(
    server: Server, prefix: str, redis_client: redis.Redis
) -> None:
    stream = Stream(server.url, prefix, partitions=8)
    releaser, other = (
        Consumer(stream.client, "main", name, dedup_window=60) for name in ("c1", "c2")
    )
    await releaser.open()
    await releaser.look_at_delayed()
    await delay(stream, releaser, 1)
    await eventually(lambda: is_due(releaser))
    await other.heed_pauses(0)  # once, when it starts
    before = scripts_run(redis_client)
    await Delayed(other).run_once()
    assert scripts_run(redis_client) == before + 1
    moved, _ = await releaser.release(10, (await releaser.look_at_delayed()).due)
    assert moved == 1
    assert scripts_run(redis_client) == before + 3
    assert (await releaser.look_at_delayed()).due == []
    taken = await releaser.take(100)
    await releaser.settle([Settlement(entry.ref) for entry in taken.entries])
    for each in (releaser, other, stream):
        await each.close()


def scripts_run(client: redis.Redis) -> int:
    stats: Any = client.info("commandstats")
    return int(stats["cmdstat_evalsha"]["calls"])
