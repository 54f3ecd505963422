"""What a settlement writes, and what a late one may not."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest
import redis

from hookmill.errors import StreamUnavailableError
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import Entry, FollowUp, Settlement
from hookmill.stream.producer import Producer
from tests.stream.toolkit import (
    OpenGroup,
    again,
    dead,
    forget_follow_ups,
    ids,
    pending,
    settle_all,
    written,
)
from tests.support import (
    Server,
    Stream,
    dead_letters,
    message,
    taken_over,
)


async def test_done_acknowledges_and_only_an_again_entry_is_deleted(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(id="a"), message(id="b")])
    a, b = (await group.take(2)).entries
    await group.settle([Settlement(a.ref), Settlement(b.ref, (again(b),))])
    assert redis_client.xlen(group.partitions[0].again) == 1
    await settle_all(group, *(await group.take(1)).entries)
    assert pending(redis_client, group) == 0
    assert redis_client.xlen(group.partitions[0].stream) == 2
    assert redis_client.xlen(group.partitions[0].again) == 0


FOLLOW_UPS: dict[str, Callable[[Entry], tuple[FollowUp, ...]]] = {
    "retry at once": lambda entry: (again(entry),),
    "retry later": lambda entry: (again(entry, delay_ms=60_000),),
    "dead": lambda entry: (dead(entry),),
    "fan-out": lambda entry: (again(entry, "one"), again(entry, "two")),
}


@pytest.fixture(params=list(FOLLOW_UPS))
def follow_ups(request: pytest.FixtureRequest) -> Callable[[Entry], tuple[FollowUp, ...]]:
    return FOLLOW_UPS[request.param]


async def test_what_a_group_takes_again_no_other_group_sees(
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    follow_ups: Callable[[Entry], tuple[FollowUp, ...]],
) -> None:
    group, other = await open_group(), await open_group(name="other")
    await stream.append([message(id="m")])
    (entry,) = (await group.take(1)).entries
    await settle_all(other, *(await other.take(1)).entries)
    await group.settle([Settlement(entry.ref, follow_ups(entry))])
    delayed: Any = redis_client.zrange(group.partitions[0].delayed, 0, -1)
    for token in delayed:
        redis_client.zadd(group.partitions[0].delayed, {token: 0})
    await group.release(10)
    letters = await dead_letters(stream)
    await DeadLetters(stream.client, "main").replay([letter.id for letter in letters])

    assert (await other.take(10)).is_empty
    assert redis_client.xlen(stream.partitions[0].stream) == 1
    taken = await group.take(10)
    assert len(taken.entries) == len(follow_ups(entry))
    assert (set(ids(taken.entries)), taken.duplicates) == ({"m"}, [])
    await settle_all(group, *taken.entries)


async def test_a_late_done_acknowledges(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    late, other = await open_group("late"), await open_group("other")
    await stream.append([message()])
    (entry,) = (await late.take(1)).entries
    (theirs,) = (await taken_over(other)).entries
    assert await late.settle([Settlement(entry.ref)]) == []
    assert pending(redis_client, late) == 0
    # Success has won: what the other makes of it comes too late in its turn.
    assert await other.settle([Settlement(theirs.ref, (again(theirs),))]) == [entry.ref.id]
    assert written(redis_client, late) == (0, 0, 0, 0)


async def test_a_late_outcome_without_success_is_dropped_and_reported(
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    follow_ups: Callable[[Entry], tuple[FollowUp, ...]],
) -> None:
    late, other = await open_group("late"), await open_group("other")
    await stream.append([message()])
    (entry,) = (await late.take(1)).entries
    (theirs,) = (await taken_over(other)).entries

    assert await late.settle([Settlement(entry.ref, follow_ups(entry))]) == [entry.ref.id]
    assert written(redis_client, late) == (0, 0, 0, 0)
    assert pending(redis_client, late) == 1
    assert redis_client.hget(late.partitions[0].counts, "late") == b"1"
    await settle_all(other, theirs)


async def test_a_settlement_whose_reply_was_lost_may_be_sent_again(
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    follow_ups: Callable[[Entry], tuple[FollowUp, ...]],
) -> None:
    group = await open_group()
    await stream.append([message(id="a"), message(id="b")])
    a, b = (await group.take(2)).entries
    batch = [Settlement(a.ref), Settlement(b.ref, follow_ups(b))]
    assert await group.settle(batch) == []
    once = written(redis_client, group)
    assert await group.settle(batch) == [b.ref.id]
    assert written(redis_client, group) == once
    assert once in {(1, 0, 0, 0), (0, 1, 1, 0), (0, 0, 0, 1), (2, 0, 0, 0)}
    assert pending(redis_client, group) == 0
    forget_follow_ups(redis_client, group)


async def test_each_settlement_of_a_batch_stands_for_itself(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group, other = await open_group("c1"), await open_group("other")
    await stream.append([message(id=name) for name in "abcd"])
    a, b, c, d = (await group.take(4)).entries
    redis_client.xclaim(group.partitions[0].stream, "main", "other", 0, [b.ref.id])
    late = await group.settle(
        [
            Settlement(a.ref, (again(a),)), Settlement(b.ref, (dead(b),)),
            Settlement(c.ref), Settlement(d.ref, (dead(d),)),
        ]
    )  # fmt: skip
    assert late == [b.ref.id]
    assert written(redis_client, group) == (1, 0, 0, 1)
    assert pending(redis_client, group) == 1
    await settle_all(other, b)
    await settle_all(group, *(await group.take(1)).entries)
    redis_client.delete(group.partitions[0].dead)


@pytest.mark.since_7_0
async def test_a_batch_of_thousands_is_settled_in_one_step(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message() for _ in range(3000)])
    entries = (await group.take(3000)).entries
    batch = [Settlement(e.ref, (again(e),) if n % 2 else ()) for n, e in enumerate(entries)]
    assert await group.settle(batch) == []
    entries = (await group.take(3000)).entries
    assert len(entries) == 1500
    await settle_all(group, *entries)
    assert pending(redis_client, group) == 0


async def test_an_entry_stays_pending_when_what_should_follow_it_cannot_be_written(
    server: Server, stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    # An operator's ACL that forgot a command is one way to get there.
    group = await open_group()
    user = f"u{secrets.token_hex(4)}"
    redis_client.acl_setuser(
        user, enabled=True, nopass=True, keys=["*"], commands=["+@all", "-zadd"]
    )
    try:
        limited = Stream(
            server.url.replace("//", f"//{user}:x@"), stream.partitions[0].base.split(":")[0]
        )
        with_limits = Consumer(limited.client, "main", "c1", dedup_window=3600)
        await stream.append([message()])
        (entry,) = (await with_limits.take(1)).entries
        for _ in range(2):
            with pytest.raises(StreamUnavailableError, match=r"permissions|can't run"):
                await with_limits.settle([Settlement(entry.ref, (again(entry, delay_ms=9),))])
        assert pending(redis_client, group) == 1
        await with_limits.close()
        await limited.close()
    finally:
        redis_client.acl_deluser(user)
    await settle_all(group, entry)
