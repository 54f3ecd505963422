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
from hookmill.stream.producer import Producer
from tests.support import eventually, message
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
    runs = [asyncio.create_task(Delayed(group).run_once()) for group in fleet]
    await eventually(lambda: listeners(redis_client) == 3)
    assert not any(run.done() for run in runs)
    await delay(stream, await open_group("other"), 200)
    # All are woken, so that it does not depend on one of them.
    async with asyncio.timeout(10):
        assert await asyncio.gather(*runs) == [delayed.SHORTEST_PAUSE] * 3

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
    assert await Delayed(await open_group()).run_once() == delayed.SHORTEST_PAUSE


async def test_a_message_delayed_after_the_release_ends_the_wait(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    assert await group.release(1) == (0, None)
    await delay(stream, group, 60_000)
    async with asyncio.timeout(5):
        await group.wait_for_sooner(60)
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
