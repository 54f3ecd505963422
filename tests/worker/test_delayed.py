"""Delayed messages are let go when they are due, and looked at no more often than needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import redis

from hookmill.entries import FollowUp, Settlement
from hookmill.message import Progress
from hookmill.stream import Group, Stream
from tests.support import eventually, message
from worker import delayed
from worker.delayed import Delayed

OpenGroup = Callable[..., Awaitable[Group]]


async def delay(stream: Stream, group: Group, *delays_ms: int) -> None:
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


async def finish(group: Group, redis_client: redis.Redis) -> None:
    for entry in (await group.take(1000)).entries:
        await group.settle([Settlement(entry.ref)])
    redis_client.delete(group.partitions[0].delayed, group.partitions[0].delayed_entries)


async def test_where_nothing_waits_a_duty_pauses(open_group: OpenGroup) -> None:
    assert await Delayed(await open_group()).turn() == 1.0


async def test_the_next_turn_comes_when_the_next_message_is_due(
    stream: Stream, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await delay(stream, group, 1, 500)
    turn = Delayed(group).turn
    pauses = []

    async def is_let_go() -> bool:
        pauses.append(await turn())
        return redis_client.xlen(group.partitions[0].again) == 1

    await eventually(is_let_go)
    assert 0.02 <= pauses[-1] <= 0.5
    await finish(group, redis_client)


async def test_what_is_due_later_is_looked_at_once_a_second(
    stream: Stream, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await delay(stream, group, 60_000)
    assert await Delayed(group).turn() == 1.0
    await finish(group, redis_client)


async def test_a_full_batch_is_followed_by_another_at_once(
    stream: Stream,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delayed, "BATCH", 2)
    group = await open_group()
    await delay(stream, group, 1, 1, 1)
    duty = Delayed(group)
    await eventually(lambda: turns_until_two(duty, redis_client, group))
    assert await duty.turn() == 1.0
    assert redis_client.xlen(group.partitions[0].again) == 3
    await finish(group, redis_client)


async def turns_until_two(duty: Delayed, client: redis.Redis, group: Group) -> bool:
    """Whether this turn moved a full batch."""
    return await duty.turn() == 0.0 and client.xlen(group.partitions[0].again) == 2
