"""Deliveries that no worker confirms are counted, and in the end make a dead letter."""

from __future__ import annotations

import redis

from hookmill.message import Death, Progress
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.producer import Producer
from tests.stream.ordering import settled
from tests.stream.toolkit import OpenGroup, again, ids, now_ms, pending, settle_all
from tests.support import ANY_BYTES, dead_letters, message
from worker.outcome import DeadLettered
from worker.settlement import settlement_of


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
    assert letter.fields == {**entry.fields, **follow_up.changes}
    assert not redis_client.exists(group.partitions[0].deliveries)
    counted = redis_client.hgetall(group.partitions[0].dead_reasons)
    assert counted == {b"=undeliverable": b"1", b"newest": letter.id.encode()}
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
