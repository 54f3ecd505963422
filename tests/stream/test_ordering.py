"""Messages with the same key run one after another, on any worker."""

from __future__ import annotations

import asyncio

import pytest
import redis

from hookmill.errors import BacklogFullError
from hookmill.stream.arrival import Row
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import AGAIN, STREAM, Entry, Taken
from hookmill.stream.facts import Backlog
from hookmill.stream.inspector import Inspector
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.ordering import (
    OpenGroup,
    again,
    dead,
    ids,
    parked,
    run_all,
    send,
    settle,
    settled,
    traces,
)
from tests.support import (
    Server,
    Stream,
    eventually,
    message,
    taken_over,
    written_in,
)


async def test_of_one_key_only_the_first_is_taken_and_other_keys_go_on(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await send(stream, "a-1", "a-2", "b-1", "a-3", "free", "b-2")
    first = await group.take(10)
    assert ids(first) == ["a-1", "b-1", "free"]
    assert first.parked == 3
    assert (await group.take(10)).is_empty
    assert parked(redis_client, group) == 3

    await group.settle([settled(first.entries[0])])
    second = await group.take(10)
    assert ids(second) == ["a-2"]  # b's next waits for its own
    await settle(group, Taken(first.entries[1:], []))
    third = await group.take(10)
    assert ids(third) == ["b-2"]
    await settle(group, second, third)
    assert await run_all(group) == ["a-3"]
    assert parked(redis_client, group) == 0
    assert traces(redis_client, group) == []


async def test_the_order_of_arrival_holds_across_workers(
    stream: Producer, open_group: OpenGroup
) -> None:
    workers = [await open_group(f"c{n}") for n in range(3)]
    await send(stream, *(f"{key}-{n}" for n in range(20) for key in "abcde"))
    ended: list[str] = []

    async def run(group: Consumer, entry: Entry) -> None:
        name = entry.fields[b"id"].decode()
        # The later ones are quicker: begun beside an earlier one they would end before it.
        await asyncio.sleep(0.02 / (1 + int(name[2:])))
        ended.append(name)
        await group.settle([settled(entry)])

    async def work(group: Consumer) -> None:
        while len(ended) < 100:
            taken = await group.take(10)
            await asyncio.gather(*(run(group, entry) for entry in taken.entries))
            await asyncio.sleep(0.001)

    await asyncio.gather(*map(work, workers))
    for key in "abcde":
        assert [one for one in ended if one[0] == key] == [f"{key}-{n}" for n in range(20)]


async def test_a_retry_blocks_only_its_own_key(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await send(stream, "a-1", "a-2", "b-1", "b-2")
    failed, fine = (await group.take(10)).entries
    await group.settle([settled(failed, again(failed, delay_ms=150)), settled(fine)])
    assert await run_all(group) == ["b-2"]
    await send(stream, "a-3", "b-3")
    assert await run_all(group) == ["b-3"]

    async def is_due() -> bool:
        return (await group.release(10))[0] == 1

    await eventually(is_due)
    assert await run_all(group) == ["a-1", "a-2", "a-3"]
    assert traces(redis_client, group) == []


@pytest.mark.parametrize("kind", ["done", "dead", "requeued"])
async def test_a_finished_message_releases_the_next_and_a_requeued_one_does_not(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis, kind: str
) -> None:
    group = await open_group()
    await send(stream, "a-1", "a-2")
    (head,) = (await group.take(10)).entries
    follow_ups = {"done": (), "dead": (dead(head),), "requeued": (again(head),)}[kind]
    await group.settle([settled(head, *follow_ups)])
    next_one = await group.take(10)
    assert ids(next_one) == (["a-1"] if kind == "requeued" else ["a-2"])
    await settle(group, next_one)
    await run_all(group)
    redis_client.delete(group.partitions[0].dead)


async def test_a_key_is_its_heads_for_as_long_as_that_takes(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await send(stream, "a-1", "a-2")
    head = await group.take(10)
    keys = group.partitions[0]
    for key in (keys.busy, keys.parked, f"{keys.parked}:marble:a"):
        assert redis_client.ttl(key) == -1, f"{key} expires"
    await settle(group, head)
    assert await run_all(group) == ["a-2"]


async def test_a_dead_workers_keys_move_on(stream: Producer, open_group: OpenGroup) -> None:
    gone, group = await open_group("gone"), await open_group("c2")
    await send(stream, "a-1", "a-2", "b-1")
    await gone.take(10)
    assert (await group.take(10)).is_empty
    found = await taken_over(group)
    assert ids(found) == ["a-1", "b-1"]
    await settle(group, found)
    assert await run_all(group) == ["a-2"]


async def test_a_late_success_does_not_let_the_next_overtake_a_second_run(
    stream: Producer, open_group: OpenGroup
) -> None:
    # Without a key a late success acknowledges for good. Here another worker runs the message
    # already, and the next one must not begin beside it.
    late, other = await open_group("late"), await open_group("other")
    await send(stream, "a-1", "a-2")
    (entry,) = (await late.take(10)).entries
    theirs = await taken_over(other)
    assert await late.settle([settled(entry)]) == [entry.ref.id]
    assert (await late.take(10)).is_empty
    await settle(other, theirs)
    assert await run_all(late) == ["a-2"]


async def test_a_settlement_whose_reply_was_lost_lets_only_one_go(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await send(stream, "a-1", "a-2", "a-3")
    (head,) = (await group.take(10)).entries
    await group.settle([settled(head)])
    assert await group.settle([settled(head)]) == [head.ref.id]
    taken = await group.take(10)
    assert ids(taken) == ["a-2"]
    await settle(group, taken)
    assert await run_all(group) == ["a-3"]


async def test_a_duplicate_of_a_parked_message_is_dropped(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await send(stream, "a-1", "a-2", "a-1", "a-2")
    taken = await group.take(10)
    assert ids(taken) == ["a-1"]
    assert [one.message_id for one in taken.duplicates] == ["a-1", "a-2"]
    await settle(group, taken)
    assert await run_all(group) == ["a-2"]


async def test_keys_count_per_source_and_per_group(stream: Producer, open_group: OpenGroup) -> None:
    main, search = await open_group(), await open_group("c1", name="search")
    await send(stream, "a-1", "a-2")
    await send(stream, "a-x", source="qstash")
    first = await main.take(10)
    assert ids(first) == ["a-1", "a-x"]
    assert await run_all(search) == ["a-1", "a-x", "a-2"]
    await settle(main, first)
    assert await run_all(main) == ["a-2"]


@pytest.mark.parametrize("order", [(1, 2, 3, 1), (2, 3, 1, 2), (3, 1, 2, 3)])
async def test_what_older_and_newer_releases_wrote_is_kept_in_one_order(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis, order: tuple[int, ...]
) -> None:
    sent = [message(id=f"a-{n}", source="marble", key="a") for n in range(4)]
    await stream.append_rows(
        [Row(written_in(version, one)) for version, one in zip(order, sent, strict=True)]
    )
    group = await open_group()
    first = await group.take(10)
    assert (ids(first), first.parked) == (["a-0"], 3)
    (head,) = first.entries
    await group.settle([settled(head, again(head, delay_ms=1))])  # fails once
    assert (await group.take(10)).is_empty

    async def is_due() -> bool:
        return (await group.release(10))[0] == 1

    await eventually(is_due)
    retried = await group.take(10)
    assert ids(retried) == ["a-0"]
    await group.settle([settled(entry, dead(entry)) for entry in retried.entries])
    second = await group.take(10)
    assert ids(second) == ["a-1"]
    letters = DeadLetters(stream.client, "main")
    await letters.replay([str(await letters.newest())])
    await settle(group, second)
    assert await run_all(group) == ["a-2", "a-3", "a-0"]
    assert parked(redis_client, group) == 0
    assert traces(redis_client, group) == []


async def test_a_head_that_somebody_deleted_does_not_block_its_key_for_ever(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    gone, group = await open_group("gone"), await open_group("c2")
    await send(stream, "a-1", "a-2", "b-1")
    head, _ = (await gone.take(10)).entries
    redis_client.xdel(group.partitions[0].stream, head.ref.id)
    found = await taken_over(group)
    if found.is_empty:  # Redis finds the gap before it comes to the rest
        found = await taken_over(group)
    assert ids(found) == ["b-1"]
    await settle(group, found)
    assert await run_all(group) == ["a-2"]
    assert traces(redis_client, group) == []


async def test_what_is_parked_counts_as_unfinished_and_shows(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await send(stream, *(f"a-{n}" for n in range(5)))
    head = await group.take(10)
    assert head.parked == 4
    await Upkeep(stream.client, "main").trim(0)
    assert (await Upkeep(stream.client, "main").measure_backlog()).messages == 5
    (facts,) = (await Inspector(stream.client).overview()).groups
    assert (facts.held, facts.parked, facts.waiting) == (1, 4, 0)
    assert facts.has_work
    await settle(group, head)
    await run_all(group)


async def test_a_parked_message_survives_trimming_and_keeps_every_field(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    sent = message(
        bytes(range(256)) * 4, id="a-2", key="a", header_block=b"X-Odd: \xe4", source="marble"
    )
    await send(stream, "a-1")
    await stream.append([sent])
    head = await group.take(10)
    await Upkeep(stream.client, "main").trim(0)
    await settle(group, head)
    assert await Upkeep(stream.client, "main").trim(0) == 2
    (entry,) = (await group.take(10)).entries
    progress = {b"owner"}
    assert {k: v for k, v in entry.fields.items() if k not in progress} == sent.to_fields()
    assert entry.ref.key_number == AGAIN
    assert head.entries[0].ref.key_number == STREAM
    await group.settle([settled(entry)])


async def test_a_settlement_that_redis_breaks_off_leaves_the_key_as_it_was(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis, server: Server
) -> None:
    """Redis refuses to write the next one: nothing is acknowledged, nothing is let go twice."""
    group = await open_group()
    await send(stream, "a-1", "a-2")
    (head,) = (await group.take(10)).entries
    kept = redis_client.dump(group.partitions[0].again)
    redis_client.set(group.partitions[0].again, "not a stream")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await group.settle([settled(head)])
    redis_client.delete(group.partitions[0].again)
    redis_client.restore(group.partitions[0].again, 0, kept)  # type: ignore[arg-type] # it was there
    assert parked(redis_client, group) == 1
    await group.settle([settled(head)])
    assert await run_all(group) == ["a-2"]


async def test_a_hot_key_fills_the_backlog_and_not_more(
    server: Server, prefix: str, open_group: OpenGroup
) -> None:
    limited = Stream(server.url, prefix, limit=Backlog(20, 0))
    group = await open_group()
    head = Taken([], [])
    for number in range(20):
        await send(limited, f"a-{number}")
        head = Taken([*head.entries, *(await group.take(10)).entries], [])
        await Upkeep(limited.client, "main").trim(0)
    with pytest.raises(BacklogFullError):
        await send(limited, "a-20")
    await limited.close()
    await settle(group, head)
    assert len(await run_all(group)) == 19
