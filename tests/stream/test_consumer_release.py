"""Delayed messages: when they are due, and in which order they are taken again."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from hookmill.errors import StreamUnavailableError
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Settlement
from hookmill.stream.producer import Producer
from tests.stream.toolkit import (
    OpenGroup,
    OwnServer,
    again,
    forget_follow_ups,
    ids,
    now_ms,
    opened,
    settle_all,
    written,
)
from tests.support import (
    eventually,
    message,
    taken_over,
)

AOF = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")


async def test_delayed_messages_are_let_go_in_the_order_in_which_they_are_due(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(id=name) for name in "abcd"])
    a, b, c, d = (await group.take(4)).entries
    delays = ((a, 3), (b, 1), (c, 2), (d, 120_000))
    await group.settle([Settlement(e.ref, (again(e, delay_ms=ms),)) for e, ms in delays])
    await eventually(
        lambda: redis_client.zcount(group.partitions[0].delayed, 0, now_ms(redis_client)) == 3
    )

    assert await group.release(0) == (0, 0.0)  # some are due
    assert (await group.release(2))[0] == 2
    moved, wait = await group.release(100)
    assert moved == 1
    assert wait is not None
    assert 115 < wait <= 120
    entries = (await group.take(10)).entries
    assert ids(entries) == ["b", "c", "a"]
    assert written(redis_client, group) == (3, 1, 1, 0)
    await settle_all(group, *entries)
    forget_follow_ups(redis_client, group)
    assert await group.release(100) == (0, None)


async def test_a_delay_is_counted_in_redis_own_milliseconds(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(id="m")])
    (entry,) = (await group.take(1)).entries
    before = now_ms(redis_client)
    await group.settle([Settlement(entry.ref, (again(entry, "h", delay_ms=7001),))])
    after = now_ms(redis_client)
    rows: Any = redis_client.zrange(group.partitions[0].delayed, 0, -1, withscores=True)
    ((token, due),) = rows
    assert token == f"{entry.ref.id}/h".encode()
    assert before + 7001 <= due <= after + 7001

    redis_client.zadd(group.partitions[0].delayed, {token: now_ms(redis_client) + 1000})
    assert (await group.release(10))[0] == 0
    redis_client.zadd(
        group.partitions[0].delayed, {token: now_ms(redis_client)}
    )  # due to the millisecond
    assert (await group.release(10))[0] == 1
    assert written(redis_client, group) == (1, 0, 0, 0)
    await settle_all(group, *(await group.take(1)).entries)


async def test_one_release_moves_no_more_than_some_megabytes(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(bytes(7_000_000), id=f"m{n}") for n in range(4)])
    entries = (await group.take(4, 30_000_000)).entries
    for entry in entries:
        await group.settle([Settlement(entry.ref, (again(entry, delay_ms=1),))])
    await eventually(
        lambda: redis_client.zcount(group.partitions[0].delayed, 0, now_ms(redis_client)) == 4
    )
    assert await group.release(100) == (3, 0.0)
    assert await group.release(100) == (1, None)
    entries = (await group.take(4, 30_000_000)).entries
    assert ids(entries) == ["m0", "m1", "m2", "m3"]
    await settle_all(group, *entries)


async def test_what_waits_in_redis_survives_its_restart(own_server: OwnServer) -> None:
    server = own_server(*AOF)
    async with opened(server) as (stream, group):
        await group.open()
        await stream.append([message(id=name) for name in ("delayed", "again", "held", "new")])
        delayed, retried, _ = (await group.take(3)).entries
        await group.settle(
            [
                Settlement(delayed.ref, (again(delayed, "later", delay_ms=1),)),
                Settlement(retried.ref, (again(retried),)),
            ]
        )
        server.kill()
        with pytest.raises(StreamUnavailableError):
            await group.release(10)
        server.start()

        assert await group.release(10) == (1, None)
        taken = (await group.take(10)).entries
        assert ids(taken) == ["again", "delayed", "new"]
        assert taken[1].fields[b"handler"] == b"later"
        other = Consumer(stream.client, "main", "other", dedup_window=3600)
        found = [*(await taken_over(other, 2)).entries, *(await taken_over(other)).entries]
        assert ids(found) == ["again", "delayed", "held", "new"]
        await settle_all(other, *found)
        await other.close()


def times_of(redis_client: redis.Redis, key: str) -> dict[bytes, float]:
    """Return the members of a sorted set in their order, with the times at which they are due."""
    rows: Any = redis_client.zrange(key, 0, -1, withscores=True)
    return dict(rows)


def set_clock_back(redis_client: redis.Redis, group: Consumer, ms: int) -> None:
    """Make what is there look as it does after Redis' clock was set back by so much."""
    keys = group.partitions[0]
    redis_client.hincrby(keys.counts, "clock", ms)
    for key in (keys.delayed, keys.due):
        for name, due in times_of(redis_client, key).items():
            redis_client.zadd(key, {name: due + ms})


HOUR_MS = 3_600_000


async def test_after_redis_clock_was_set_back_delayed_messages_do_not_wait_for_it_to_catch_up(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(id=name) for name in "abc"])
    a, b, c = (await group.take(3)).entries
    await group.settle([Settlement(a.ref, (again(a, delay_ms=1),))])
    await group.settle([Settlement(b.ref, (again(b, delay_ms=120_000),))])
    await eventually(
        lambda: redis_client.zcount(group.partitions[0].delayed, 0, now_ms(redis_client)) == 1
    )
    set_clock_back(redis_client, group, HOUR_MS)

    assert (await group.release(0))[0] == 0
    await eventually(
        lambda: redis_client.zcount(group.partitions[0].delayed, 0, now_ms(redis_client)) == 1
    )
    moved, wait = await group.release(100)

    assert moved == 1
    assert wait is not None
    assert 100 < wait <= 120
    entries = (await group.take(10)).entries
    assert ids(entries) == ["a"]
    set_clock_back(redis_client, group, HOUR_MS)
    await group.settle([Settlement(c.ref, (again(c, delay_ms=60_000),))])
    moved, wait = await group.release(100)
    assert moved == 0
    assert wait is not None
    assert 50 < wait <= 60, "what is delayed after the step is not moved with the rest"
    await settle_all(group, *entries)
    forget_follow_ups(redis_client, group)


async def test_many_delayed_messages_keep_their_order_when_redis_clock_was_set_back(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(id=f"{number:04}") for number in range(1_203)])
    entries = (await group.take(2_000)).entries
    await group.settle(
        [
            Settlement(entry.ref, (again(entry, delay_ms=60_000 + 10 * number),))
            for number, entry in enumerate(entries)
        ]
    )
    key = group.partitions[0].delayed
    before = times_of(redis_client, key)
    set_clock_back(redis_client, group, HOUR_MS)

    assert (await group.release(100))[0] == 0

    after = times_of(redis_client, key)
    assert list(after) == list(before)
    shifts = {round(after[name] - before[name]) for name in before}
    assert len(shifts) == 1
    assert 0 <= shifts.pop() < 20_000
    forget_follow_ups(redis_client, group)
