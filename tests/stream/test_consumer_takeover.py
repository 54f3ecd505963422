"""Which entries are taken over from a silent consumer, and which a consumer recovers."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import redis

from hookmill.message import Death, Progress
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import Settlement
from hookmill.stream.producer import Producer
from tests.stream.ordering import settled
from tests.stream.toolkit import (
    OpenGroup,
    again,
    ids,
    now_ms,
    pending,
    settle_all,
)
from tests.support import (
    ANY_BYTES,
    dead_letters,
    message,
    taken_over,
    watch_for,
)
from worker.outcome import DeadLettered
from worker.settlement import settlement_of


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


async def lose(group: Consumer, times: int) -> None:
    """Have entries given out again and again, in replies that do not arrive."""
    for _ in range(times):
        await group.recover(0, 1, 60, ANY_BYTES, [])


async def test_an_undeliverable_entry_is_a_dead_letter_as_a_worker_would_write_it(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(b"body", id="m", type="order.paid", key="k")])
    (entry,) = (await group.take(1)).entries
    await lose(group, 10)
    taken, _ = await group.recover(0, 1, 60, ANY_BYTES, [])
    assert taken.entries == []
    (found,) = taken.undeliverable
    assert (found.ref, found.message_id) == (entry.ref, "m")
    assert "10 times" in found.error
    assert pending(redis_client, group) == 0

    (letter,) = await dead_letters(stream)
    progress = Progress.from_fields(letter.fields, "")
    assert progress == Progress(owner=entry.ref.id)
    death = Death.from_fields(letter.fields)
    assert (death.reason, death.error) == ("undeliverable", found.error)
    assert abs(death.died_ms - now_ms(redis_client)) < 60_000
    outcome = DeadLettered(progress, death.reason, death.error)
    (follow_up,) = settlement_of(entry, outcome, lambda: death.died_ms / 1000).follow_ups
    assert letter.fields == follow_up.fields
    assert not redis_client.exists(group.partitions[0].deliveries)
    redis_client.delete(group.partitions[0].dead)


async def test_behind_an_undeliverable_entry_its_ordering_key_goes_on_and_it_can_be_replayed(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await stream.append([message(id=name, key="k") for name in ("first", "second")])
    (first,) = (await group.take(2)).entries
    await group.settle([settled(first, again(first, "mailer", attempts=3))])
    await group.take(2)
    await lose(group, 11)
    (second,) = (await group.take(2)).entries
    assert ids([second]) == ["second"]
    await group.settle([settled(second)])

    (letter,) = await dead_letters(stream)
    progress = Progress.from_fields(letter.fields, "")
    assert (progress.owner, progress.handler, progress.attempts) == (first.ref.id, "mailer", 3)
    assert await DeadLetters(stream.client, "main").replay([letter.id]) == 1
    (replayed,) = (await group.take(1)).entries
    assert ids([replayed]) == ["first"]
    await group.settle([settled(replayed)])


async def test_only_deliveries_that_nobody_confirmed_count_and_only_where_an_entry_was_alone(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(id="m0")])
    (first,) = (await group.take(1)).entries
    await lose(group, 9)
    await group.confirm([first.ref])
    await lose(group, 10)
    assert pending(redis_client, group) == 1
    await group.confirm([first.ref])
    await stream.append([message(id="m1"), message(id="m2")])
    rest = (await group.take(2)).entries
    key = group.partitions[0].stream
    for _ in range(12):
        redis_client.xclaim(
            key, "main", "c1", 0, [one.ref.id for one in rest], retrycount=1, justid=True
        )
        taken, _ = await group.recover(0, 10, 60, ANY_BYTES, [first.ref])
        assert len(taken.entries) == 2
    await settle_all(group, first, *rest)


async def test_what_is_noted_of_deliveries_is_forgotten_once_they_are_finished(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(), message()])
    one, two = (await group.take(2)).entries
    for entry in (one, two):
        redis_client.hset(group.partitions[0].deliveries, f"1 {entry.ref.id}", "3")
    assert await group.run_alone(one.ref, "first") == 1
    assert await group.run_alone(one.ref, "first") == 1
    assert await group.run_alone(one.ref, "second") == 2
    await settle_all(group, one)
    await group.looks().watch("1", 0, "", 60)
    assert redis_client.hkeys(group.partitions[0].deliveries) == [f"1 {two.ref.id}".encode()]
    await settle_all(group, two)
    await group.looks().watch("2", 0, "", 60)
    assert not redis_client.exists(group.partitions[0].deliveries)
