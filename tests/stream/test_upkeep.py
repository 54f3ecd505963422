"""Trimming, the low-water mark, and consumers that are gone."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from hookmill.errors import GroupLostError
from hookmill.stream.consumer import Consumer
from hookmill.stream.facts import Heartbeat
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.toolkit import (
    OpenGroup,
    ids,
    now_ms,
    pending,
    settle_all,
)
from tests.support import (
    eventually,
    message,
)


def make_consumers(client: redis.Redis, group: Consumer, *names: str) -> None:
    """A read in vain makes a consumer on some servers only."""
    for key in (group.partitions[0].stream, group.partitions[0].again):
        for name in names:
            client.xgroup_createconsumer(key, group.name, name)


def consumers(client: redis.Redis, group: Consumer) -> dict[str, list[bytes]]:
    found = {}
    for which, key in (
        ("stream", group.partitions[0].stream),
        ("again", group.partitions[0].again),
    ):
        rows: Any = client.xinfo_consumers(key, group.name)
        found[which] = sorted(row["name"] for row in rows)
    return found


async def test_a_claim_does_not_outlast_its_time_where_the_clock_was_set_back(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    """sidekiq-scheduler/sidekiq-scheduler#283: nothing was trimmed until the clock had made up."""
    group = await open_group()
    upkeep = Upkeep(stream.client, "main")
    assert await upkeep.claim(5) == 0
    assert 0 < await upkeep.claim(5) <= 5
    # As if the clock had been set back by an hour since.
    redis_client.pexpire(group.partitions[0].upkeep, 3_605_000)
    assert await upkeep.claim(5) == 0
    assert 0 < await upkeep.claim(5) <= 5


async def test_only_an_idle_and_empty_consumer_is_removed(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    holds, empty = await open_group("holds"), await open_group("empty")
    await stream.append([message()])
    (entry,) = (await holds.take(1)).entries
    make_consumers(redis_client, empty, "holds", "empty")

    assert await Upkeep(stream.client, "main").retire(idle=3600) == 0
    # The one that holds an entry of the stream holds none of the again stream.
    assert await Upkeep(stream.client, "main").retire(idle=0) == 3
    assert consumers(redis_client, holds) == {"stream": [b"holds"], "again": []}
    assert pending(redis_client, holds) == 1
    await settle_all(holds, entry)


async def test_a_consumer_can_be_removed_by_name(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    one = await open_group("one")
    make_consumers(redis_client, one, "one", "two")
    assert await Upkeep(stream.client, "main").retire(0, "one") == 2
    assert consumers(redis_client, one) == {"stream": [b"two"], "again": [b"two"]}


@pytest.mark.parametrize("named", ["", "empty"])
async def test_a_lease_number_goes_with_its_consumer(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis, named: str
) -> None:
    holds, empty = await open_group("holds"), await open_group("empty")
    await stream.append([message()])
    (entry,) = (await holds.take(1)).entries
    make_consumers(redis_client, empty, "empty")
    numbers = holds.partitions[0].lease_numbers
    redis_client.hset(numbers, mapping={"holds": 1, "empty": 1, "fresh": 1})
    # It has not taken anything yet, so Redis does not know it as a consumer.
    await Heartbeats(stream.client, "main").write(Heartbeat(name="fresh", lease=60))

    await Upkeep(stream.client, "main").retire(0, named)

    assert redis_client.hgetall(numbers) == {b"holds": b"1", b"fresh": b"1"}
    await settle_all(holds, entry)


async def test_removing_consumers_of_a_lost_group_is_no_error(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    redis_client.delete(group.partitions[0].stream, group.partitions[0].again)
    assert await Upkeep(stream.client, "main").retire(0) == 0


async def test_trimming_never_drops_what_some_group_has_not_finished(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    quick, slow = await open_group(name="quick"), await open_group(name="slow")
    *_, last = await stream.append([message(id=f"m{n}") for n in range(10)])
    # What came in this very millisecond is never trimmed.
    await eventually(lambda: now_ms(redis_client) > int(last.partition("-")[0]))
    await settle_all(quick, *(await quick.take(10)).entries)
    assert (
        await Upkeep(stream.client, "main").trim(retention=0) == 0
    )  # the slow one has read nothing yet

    held = (await slow.take(6)).entries
    await settle_all(slow, *held[:3], held[5])
    assert await Upkeep(stream.client, "main").trim(retention=0) == 3  # up to the oldest it holds
    await settle_all(slow, *held[3:5])
    assert (
        await Upkeep(stream.client, "main").trim(retention=0) == 3
    )  # up to the first it has yet to read
    rest = (await slow.take(10)).entries
    assert ids(rest) == ["m6", "m7", "m8", "m9"]
    await settle_all(slow, *rest)
    assert await Upkeep(stream.client, "main").trim(retention=0) == 4
    assert redis_client.xlen(stream.partitions[0].stream) == 0


async def test_trimming_keeps_what_retention_covers(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    now = now_ms(redis_client)
    for age in (90_000, 61_000, 59_000, 1_000):
        redis_client.xadd(group.partitions[0].stream, {"version": "9"}, id=f"{now - age}-0")
    await settle_all(group, *(await group.take(10)).entries)
    assert await Upkeep(stream.client, "main").trim(retention=3600) == 0
    assert await Upkeep(stream.client, "main").trim(retention=60) == 2
    assert await Upkeep(stream.client, "main").trim(retention=0) == 2


async def test_nothing_is_trimmed_before_there_is_a_group(
    stream: Producer, redis_client: redis.Redis
) -> None:
    assert await Upkeep(stream.client, "main").trim(retention=0) == 0
    await stream.append([message()])
    assert await Upkeep(stream.client, "main").trim(retention=0) == 0
    assert redis_client.xlen(stream.partitions[0].stream) == 1


async def test_a_lost_group_restarts_behind_what_it_had_finished(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group, other = await open_group(), await open_group(name="other")  # the other pins the stream
    await stream.append([message(id=f"m{n}") for n in range(6)])
    entries = (await group.take(5)).entries
    await settle_all(group, *entries[:3], entries[4])
    await Upkeep(stream.client, "main").trim(retention=3600)
    redis_client.xgroup_destroy(group.partitions[0].stream, "main")

    with pytest.raises(GroupLostError):
        await group.take(1)
    assert await group.open() == 1
    taken = (await group.take(10)).entries
    assert ids(taken) == ["m3", "m4", "m5"]  # m3 was held, m4 finished since: above the mark
    await settle_all(group, *taken)
    await settle_all(other, *(await other.take(10)).entries)


@pytest.mark.parametrize(
    ("entry_ids", "mark"),
    [
        (["5-3"], b"5-2"),
        (["5-0"], b"4-18446744073709551615"),
        (["4-18446744073709551615"], b"4-9007199254740991"),  # where Lua can still count
        (["0-1"], b"0-0"),
        ([], b"0-0"),
    ],
)
async def test_the_low_water_mark_lies_just_below_the_oldest_unfinished_entry(
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    entry_ids: list[str],
    mark: bytes,
) -> None:
    group = await open_group()
    for entry_id in entry_ids:
        redis_client.xadd(group.partitions[0].stream, {"version": "9"}, id=entry_id)
    held = (await group.take(10)).entries
    await Upkeep(stream.client, "main").trim(retention=0)
    lowest = redis_client.get(group.partitions[0].low_water)
    assert lowest == mark
    redis_client.xgroup_destroy(group.partitions[0].stream, "main")
    await group.open()
    again_taken = (await group.take(10)).entries
    assert [entry.ref for entry in again_taken] == [entry.ref for entry in held]
    await settle_all(group, *again_taken)
