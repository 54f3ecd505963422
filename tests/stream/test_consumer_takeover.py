"""Which entries are taken over from a silent consumer, and which a consumer recovers."""

from __future__ import annotations

import asyncio
import signal
from contextlib import closing
from typing import Any

import redis

from hookmill.message import Progress
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Settlement, Taken
from hookmill.stream.producer import Producer
from tests.stream.toolkit import (
    OpenGroup,
    OwnServer,
    again,
    ids,
    pending,
    settle_all,
)
from tests.support import (
    ANY_BYTES,
    Stream,
    message,
    taken_over,
    watch_for,
)


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


async def test_entries_behind_those_of_living_workers_are_found_at_once(
    stream: Producer, open_group: OpenGroup
) -> None:
    living, gone, group = [await open_group(name) for name in ("living", "gone", "c2")]
    await stream.append([message(id=f"m{n}") for n in range(300)])
    held = (await living.take(297)).entries
    lost = (await gone.take(3)).entries
    looks = group.looks()
    for number in range(1, 4):
        with closing(living.leases()) as leases:
            leases._number = number
            leases.renew([entry.ref for entry in held])
        await looks.ask(str(number - 1))
        await looks.watch(str(number), 1.0, str(number - 1), 1.5)
    # It is of release 0.1 as it seems, so its entries have to be idle as well.
    silent: list[Any] = [entry.ref.id for entry in lost]
    keys = group.partitions[0]
    await stream.client.execute(
        0, "XCLAIM", keys.stream, "main", "gone", 0, *silent, "IDLE", 60_000, "JUSTID"
    )
    taken, has_more = await group.take_over(0, 2, 1.5, ANY_BYTES)
    assert (ids(taken.entries), has_more) == (["m297", "m298"], True)
    taken, has_more = await group.take_over(0, 2, 1.5, ANY_BYTES)
    assert (ids(taken.entries), has_more) == (["m299"], False)
    await settle_all(group, *held, *lost)


async def test_a_takeover_stops_at_the_first_entry_that_passes_its_budget(
    stream: Producer, open_group: OpenGroup
) -> None:
    gone, group = await open_group("gone"), await open_group("c2")
    sizes = (5_000, 100, 100, 3_000, 100)
    await stream.append([message(b"x" * size, id=f"m{size}-{n}") for n, size in enumerate(sizes)])
    held = (await gone.take(5)).entries
    await watch_for(group, 0)
    replies = []
    has_more = True
    while has_more:
        taken, has_more = await group.take_over(0, 100, 0, 2_000)
        replies.append(ids(taken.entries))
    assert replies == [["m5000-0"], ["m100-1", "m100-2"], ["m3000-3"], ["m100-4"]]
    await settle_all(group, *held)


async def test_suspects_are_taken_over_one_at_a_time_after_all_others(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    gone, group = await open_group("gone"), await open_group("c2")
    await stream.append([message(id=name) for name in ("s1", "calm", "s2", "calm too")])
    held = (await gone.take(4)).entries
    key = stream.partitions[0].stream
    for entry in (held[0], held[2]):
        redis_client.xclaim(key, "main", "gone", 0, [entry.ref.id], retrycount=2, justid=True)
    await watch_for(group, 0)
    replies = []
    has_more = True
    while has_more:
        taken, has_more = await group.take_over(0, 100, 0, ANY_BYTES)
        replies.append([(*ids([entry]), entry.is_suspect) for entry in taken.entries])
    assert replies == [[("calm", False), ("calm too", False)], [("s1", True)], [("s2", True)], []]
    await settle_all(group, *held)


async def test_a_consumer_recovers_what_it_does_not_know_of(
    stream: Producer, open_group: OpenGroup
) -> None:
    group, other = await open_group(), await open_group("other")
    await stream.append([message(id=f"m{n}") for n in range(350)])
    held = (await group.take(300)).entries
    others = (await other.take(50)).entries
    known = [entry.ref for entry in held[:299]]
    taken, has_more = await group.recover(0, 10, 60, ANY_BYTES, known)
    assert ([entry.ref for entry in taken.entries], has_more) == ([held[299].ref], False)
    await settle_all(group, *held)
    await settle_all(other, *others)


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


async def test_a_takeover_that_is_carried_out_after_an_outage_takes_nothing(
    own_server: OwnServer,
) -> None:
    # The holder is of release 0.1, so its entries go by idle time, to which an outage adds.
    server = own_server()
    stream = Stream(server.url, "t")
    group, gone = (
        Consumer(stream.client, "main", name, dedup_window=3600) for name in ("c1", "gone")
    )
    await group.open()
    await stream.append([message()])
    held = (await gone.take(1)).entries
    looks, lease = group.looks(), 2.0
    await looks.ask("")
    for number in ("1", "2"):
        await looks.watch(
            number, lease, "1", lease
        )  # it has held something for longer than a lease
    server.signal(signal.SIGSTOP)
    taking = asyncio.create_task(group.take_over(0, 10, lease, 10**6))
    await asyncio.sleep(2.2)
    server.signal(signal.SIGCONT)
    assert await taking == (Taken([], []), False)
    await settle_all(gone, *held)
    await group.close()
    await gone.close()
    await stream.close()


async def test_a_deleted_retry_releases_no_key_of_an_entry_with_the_same_id(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    # Both streams number their entries by Redis' clock, so an ID may occur in both.
    gone, group = await open_group("gone"), await open_group("c2")
    keys = group.partitions[0]
    await stream.append([message(id="head", key="k"), message(id="next", key="k")])
    (head,) = (await group.take(2)).entries
    fields = message(id="deleted").to_fields()
    redis_client.xadd(keys.again, fields, id=head.ref.id)  # type: ignore[arg-type] # a plain dict
    (deleted,) = (await gone.take(1)).entries
    assert deleted.ref.id == head.ref.id
    redis_client.xdel(keys.again, deleted.ref.id)
    assert (await taken_over(group)).is_empty
    assert (await group.take(1)).is_empty
    await group.settle([Settlement(head.ref, key=head.key, owner=head.owner)])
    (following,) = (await group.take(1)).entries
    assert ids([following]) == ["next"]
    await group.settle([Settlement(following.ref, key=following.key, owner=following.owner)])
