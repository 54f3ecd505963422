"""Which entries are taken over from a silent consumer, and how the group's sweep continues."""

from __future__ import annotations

from typing import Any

import redis

from hookmill.message import Progress
from hookmill.stream.entries import Settlement
from hookmill.stream.producer import Producer
from tests.stream.toolkit import (
    OpenGroup,
    again,
    ids,
    pending,
    settle_all,
)
from tests.support import (
    message,
    taken_over,
)


async def test_a_suspect_is_marked_among_other_entries_that_are_taken_over(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    first, other = await open_group("first"), await open_group("other")
    await stream.append([message(id=name) for name in ("calm", "suspect", "calm too")])
    entries = (await first.take(3)).entries
    redis_client.xclaim(
        stream.partitions[0].stream, "main", "first", 0, [entries[1].ref.id], retrycount=3
    )
    found = (await taken_over(other)).entries
    assert ids(found) == ["calm", "suspect", "calm too"]
    assert [entry.is_suspect for entry in found] == [False, True, False]
    await settle_all(other, *found)


async def test_only_what_was_silent_for_a_lease_is_taken_over(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    gone, group = await open_group("gone"), await open_group("c2")
    await stream.append([message(id="idle"), message(id="fresh")])
    idle, fresh = (await gone.take(2)).entries
    redis_client.xclaim(group.partitions[0].stream, "main", "gone", 0, [idle.ref.id], idle=60_000)

    taken = await taken_over(group, lease=60)
    assert ids(taken.entries) == ["idle"]
    assert (await taken_over(group, lease=60)).is_empty
    assert taken.entries[0].fields == idle.fields
    await settle_all(group, idle)
    await settle_all(gone, fresh)


async def test_what_runs_again_is_taken_over_as_well(
    stream: Producer, open_group: OpenGroup
) -> None:
    gone, group = await open_group("gone"), await open_group("c2")
    await stream.append([message(id="m")])
    (entry,) = (await gone.take(1)).entries
    await gone.settle([Settlement(entry.ref, (again(entry, "mailer", attempts=3),))])
    await gone.take(1)
    taken = await taken_over(group)
    (entry,) = taken.entries
    assert Progress.from_fields(entry.fields, "").attempts == 3
    assert taken.duplicates == []
    await settle_all(group, entry)


async def test_a_sweep_goes_on_where_it_stopped(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    # Redis looks at ten times the count in one go; a sweep that began again each time would
    # never come to the entries beyond.
    gone, group = await open_group("gone"), await open_group("c2")
    await stream.append([message(id=f"m{n}") for n in range(95)])
    held = (await gone.take(95)).entries
    silent: list[Any] = [entry.ref.id for entry in held[-3:]]
    redis_client.xclaim(group.partitions[0].stream, "main", "gone", 0, silent, idle=60_000)

    found, calls, wait = [], 0, 0.0
    while not wait:
        taken, wait = await group.take_over(2, lease=30, pause=60)
        found += ids(taken.entries)
        calls += 1
    assert found == ["m92", "m93", "m94"]
    assert calls > 4
    await settle_all(group, *held)


async def test_a_deleted_entry_is_not_taken_over_and_no_longer_pending(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    gone, group = await open_group("gone"), await open_group("c2")
    deleted, _ = await stream.append([message(id="deleted"), message(id="kept")])
    await gone.take(2)
    redis_client.xdel(group.partitions[0].stream, deleted)
    taken = await taken_over(group)
    assert ids(taken.entries) == ["kept"]
    assert pending(redis_client, group) == 1
    await settle_all(group, *taken.entries)


async def test_duplicates_among_entries_that_are_taken_over_are_acknowledged(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(id="m"), message(id="m")])
    # A worker that died between reading and recording.
    redis_client.xreadgroup("main", "gone", {group.partitions[0].stream: ">"})
    taken = await taken_over(group)
    assert ids(taken.entries) == ["m"]
    assert [one.message_id for one in taken.duplicates] == ["m"]
    assert pending(redis_client, group) == 1
    await settle_all(group, *taken.entries)
