"""A take brings entries until their bytes pass its budget."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
import redis

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.stream.arrival import row_of
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import Settlement, Taken, weight_of
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.slow_line import SlowLine
from tests.stream.partitioned import PARTITIONS, append_to, partitions_of
from tests.stream.toolkit import OpenGroup, OwnServer, again, dead, opened, settle_all
from tests.support import Server, Stream, hurry, message

KB, MB = 1000, 1_000_000


async def append(stream: Producer, *sizes: int) -> None:
    await stream.append([message(bytes(size), id=f"m{n}") for n, size in enumerate(sizes)])


def sizes(taken: Taken) -> list[int]:
    """The bytes of the bodies that were taken."""
    return [len(entry.fields[b"body"]) for entry in taken.entries]


def largest(client: redis.Redis, stream: Producer) -> int | None:
    found: Any = client.hget(stream.partitions[0].backlog, "largest")
    return None if found is None else int(found)


def reads(client: redis.Redis) -> int:
    """How many commands have read from a group until now."""
    stats: Any = client.info("commandstats")
    return int(stats.get("cmdstat_xreadgroup", {}).get("calls", 0))


async def finish(group: Consumer, taken: Taken) -> None:
    await settle_all(group, *taken.entries)


async def finish_all(group: Consumer) -> None:
    while not (taken := await group.take(100)).is_empty:
        await finish(group, taken)


async def test_a_take_stops_at_the_first_entry_that_passes_its_budget(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await append(stream, *[100 * KB] * 20)
    taken = await group.take(20, 250 * KB)
    assert sizes(taken) == [100 * KB] * 3
    assert taken.weight == sum(weight_of(entry.fields) for entry in taken.entries)
    await finish(group, taken)
    await finish_all(group)


async def test_one_entry_that_is_larger_than_the_budget_comes_alone(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await append(stream, 100 * KB, 100 * KB)
    for _ in range(2):
        taken = await group.take(10, 1)
        assert sizes(taken) == [100 * KB]
        await finish(group, taken)


async def test_small_entries_are_read_at_once(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await append(stream, *[10] * 60)
    before = reads(redis_client)
    taken = await group.take(60)
    assert (len(taken.entries), reads(redis_client) - before) == (60, 2)  # one for each stream
    await finish(group, taken)


async def test_where_the_largest_is_not_known_entries_are_read_one_by_one(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await append(stream, *[100 * KB] * 20)
    redis_client.hdel(stream.partitions[0].backlog, "largest")  # as release 0.1 leaves it
    taken = await group.take(20, 250 * KB)
    assert len(taken.entries) == 3
    await append(stream, 10)
    assert largest(redis_client, stream) is None  # what came before may be larger
    await finish(group, taken)
    await finish_all(group)


async def test_what_a_release_that_does_not_note_it_appends_is_noted_when_it_is_taken(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await append(stream, 10)
    await finish(group, await group.take(1))
    for n in range(6):
        row = row_of(message(bytes(100 * KB), id=f"old{n}"))
        redis_client.xadd(group.partitions[0].stream, row.fields)  # type: ignore[arg-type] # bytes
    taken = await group.take(1, 150 * KB)
    assert largest(redis_client, stream) == weight_of(taken.entries[0].fields)
    more = await group.take(5, 150 * KB)
    assert len(more.entries) == 2
    await finish(group, taken)
    await finish(group, more)
    await finish_all(group)


async def test_the_largest_goes_when_the_stream_is_empty(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group, upkeep = await open_group(), Upkeep(stream.client, "main")
    await append(stream, 1000, 10)
    noted = largest(redis_client, stream)
    assert noted is not None
    assert noted > 1000
    taken = await group.take(2)
    await upkeep.measure_backlog()
    assert largest(redis_client, stream) == noted  # both are unfinished
    await finish(group, taken)
    await upkeep.measure_backlog()
    assert largest(redis_client, stream) == noted  # a new group would begin with both
    await upkeep.trim(0)
    await upkeep.measure_backlog()
    assert largest(redis_client, stream) is None
    await append(stream, 10)
    noted = largest(redis_client, stream)
    assert noted is not None
    assert noted < 1000
    await finish_all(group)


async def test_a_replayed_dead_letter_counts_as_well(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group, letters = await open_group(), DeadLetters(stream.client, "main")
    await append(stream, *[100 * KB] * 20)
    taken = await group.take(20)
    await group.settle([Settlement(one.ref, (dead(one),)) for one in taken.entries])
    redis_client.delete(stream.partitions[0].backlog)
    replayed = 0
    while some := await letters.survey("0-0", "9" * 15, 20):  # fewer at once, as they are large
        replayed += await letters.replay([one.id for one in some])
    assert replayed == 20
    await append(stream, 10)
    taken = await group.take(21, 250 * KB)
    assert len(taken.entries) in {3, 4}  # with the small one, if the stream went first
    await finish(group, taken)
    await finish_all(group)


async def test_neither_the_new_nor_what_runs_again_takes_the_whole_budget_each_time(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await append(stream, *[10 * KB] * 40)
    taken = await group.take(20)
    await group.settle([Settlement(one.ref, (again(one),)) for one in taken.entries])
    streams: set[int] = set()
    for _ in range(20):
        taken = await group.take(10, 1)
        streams.add(taken.entries[0].ref.key_number)
        await finish(group, taken)
    assert streams == {1, 2}
    await finish_all(group)


# --- several partitions ---


async def test_partitions_share_the_budget_and_do_not_pass_it(
    split: tuple[Producer, Consumer],
) -> None:
    stream, group = split
    for partition in range(PARTITIONS):
        await append_to(stream, partition, 10 * KB, 5)
    taken = await group.take(20, 100 * KB)
    assert sorted(partitions_of(taken)) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert taken.weight <= 100 * KB
    await finish(group, taken)
    await finish_all(group)


async def test_a_partition_with_a_large_entry_is_asked_alone_for_the_rest_of_the_budget(
    split: tuple[Producer, Consumer],
) -> None:
    stream, group = split
    await append_to(stream, 0, 10, 3)
    await append_to(stream, 2, 80 * KB, 5)
    taken = await group.take(20, 100 * KB)
    assert sorted(partitions_of(taken)) == [0, 0, 0, 2, 2]
    await finish(group, taken)
    await finish_all(group)


async def test_partitions_with_large_entries_take_turns(split: tuple[Producer, Consumer]) -> None:
    stream, group = split
    for partition in range(3):
        await append_to(stream, partition, 80 * KB, 3)
    order = []
    for _ in range(9):
        taken = await group.take(20, 50 * KB)
        order += partitions_of(taken)
        await finish(group, taken)
    assert order == [0, 1, 2] * 3


async def test_where_asking_alone_fails_what_was_taken_before_is_returned(
    split: tuple[Producer, Consumer], redis_client: redis.Redis
) -> None:
    stream, group = split
    await append_to(stream, 0, 10, 3)
    await append_to(stream, 2, 80 * KB, 1)
    run, fault = group._scripts.try_each, StreamUnavailableError("gone")
    asked = 0

    async def fails_at_the_second(*args: Any, **named: Any) -> Any:
        nonlocal asked
        asked += 1
        return [fault] if asked == 2 else await run(*args, **named)

    group._scripts.try_each = fails_at_the_second  # type: ignore[method-assign] # a fault to order
    taken = await group.take(20, 100 * KB)
    assert partitions_of(taken) == [0, 0, 0]
    with pytest.raises(StreamUnavailableError):
        await group.take(20, 100 * KB)
    await finish(group, taken)
    await finish_all(group)


async def test_a_lost_group_is_found_where_nothing_is_known_of_the_largest(
    split: tuple[Producer, Consumer], redis_client: redis.Redis
) -> None:
    _, group = split
    assert (await group.take(20)).is_empty
    redis_client.delete(*(keys.stream for keys in group.partitions))
    with pytest.raises(GroupLostError):
        await group.take(20)


@pytest.mark.since_7_0
async def test_a_partition_whose_entries_are_all_taken_is_not_asked_once_more(
    split: tuple[Producer, Consumer], redis_client: redis.Redis
) -> None:
    stream, group = split
    await append_to(stream, 0, 80 * KB, 1)
    taken = await group.take(20, 100 * KB)
    calls = redis_client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert (await group.take(20, 100 * KB)).is_empty
    after = redis_client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert after - calls == PARTITIONS
    await finish(group, taken)


# --- time limits ---


async def test_a_reply_that_takes_longer_than_the_timeout_arrives(
    server: Server, prefix: str
) -> None:
    async with SlowLine(server.url, 4 * MB, both_ways=True).open() as line:
        near, far = Stream(server.url, prefix), Client(line.url, prefix, timeout=1.0)
        group = Consumer(far, "main", "c1", dedup_window=3600)
        await group.open()
        await append(near, *[MB] * 8)
        taken = await group.take(8)
        assert sizes(taken) == [MB] * 8
        await finish(group, taken)
        await group.close()
        await far.close()
        await near.close()


async def test_a_frozen_redis_is_found_in_time_also_where_much_may_come(
    own_server: OwnServer,
) -> None:
    server = own_server()
    async with opened(server) as (stream, group):
        await group.open()
        await append(stream, *[MB] * 8)
        assert group._takes._allowance({0: 8}, 16 * MB) > 10
        hurry(stream, 0.2)
        server.signal(signal.SIGSTOP)
        async with asyncio.timeout(8):
            with pytest.raises(StreamUnavailableError):
                await group.take(8)
        server.signal(signal.SIGCONT)
