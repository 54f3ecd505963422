"""A source's own dedup window: under which one each path records message IDs."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from hookmill.message import PACKED_VERSION, Message
from hookmill.stream.arrival import Arrival
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.direct_reads import LEAST
from hookmill.stream.entries import Settlement
from hookmill.stream.producer import Producer
from hookmill.stream.whereabouts import Whereabouts
from tests.stream.direct import settle_keyed
from tests.stream.toolkit import OpenGroup, again, dead, ids, settle_all
from tests.support import dead_letters, message

MINUTE, HOUR = 60, 3600


def arrival(name: str, window: int, **fields: Any) -> Arrival:
    plain = message(id=name, **fields)
    values = {name: getattr(plain, name) for name in plain.__struct_fields__}
    return Arrival(**values, window=window)


async def append(stream: Producer, *messages: Message) -> None:
    await stream.append(messages, PACKED_VERSION)


def recorded(client: redis.Redis, group: Consumer) -> dict[int, int]:
    """How many IDs are recorded apart under which window, 0 for that of the workers."""
    found: dict[int, int] = {}
    for partition in group.partitions:
        sizes: Any = client.hgetall(partition.owners)
        for field, size in sizes.items():
            name, _, kind = field.decode().partition(":")
            if kind == "size":
                window = int(name.partition("s")[2] or 0)
                found[window] = found.get(window, 0) + int(size)
    return found


async def test_each_message_is_recorded_under_the_window_of_its_source(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group(dedup_window=HOUR)
    given = [arrival("a", MINUTE), arrival("b", 0), message(id="c"), arrival("d", 2 * MINUTE)]
    await append(stream, *given)
    entries = (await group.take(10)).entries
    assert ids(entries) == ["a", "b", "c", "d"]
    assert recorded(redis_client, group) == {MINUTE: 1, 0: 2, 2 * MINUTE: 1}
    await append(stream, arrival("a", 0), message(id="d"), arrival("b", MINUTE))
    taken = await group.take(10)
    assert [one.message_id for one in taken.duplicates] == ["a", "d", "b"]
    await settle_all(group, *entries)


@pytest.mark.parametrize("key", ["", "k"], ids=["without a key", "with a key"])
async def test_a_direct_read_records_the_same(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis, key: str
) -> None:
    group = await open_group(dedup_window=HOUR)
    some = [arrival(f"m{n}", MINUTE if n % 2 else 0) for n in range(2 * LEAST)]
    some += [arrival(f"k{n}", MINUTE, key=key and f"{key}{n}") for n in range(LEAST)]
    await append(stream, *some)
    await append(stream, *some[LEAST:])
    found = (await group.take(LEAST)).entries
    calls: Any = redis_client.info("commandstats")
    transactions = calls.get("cmdstat_exec", {}).get("calls", 0)
    while not (taken := await group.take(LEAST)).is_empty:
        found = [*found, *taken.entries]
    calls = redis_client.info("commandstats")
    assert calls["cmdstat_exec"]["calls"] > transactions, "it was not a direct read"
    assert sorted(ids(found)) == sorted(one.id for one in some)
    assert recorded(redis_client, group) == {0: LEAST, MINUTE: 2 * LEAST}
    await settle_keyed(group, *found)


async def test_a_retry_and_a_dead_letter_keep_the_window_and_a_dropped_one_frees_the_id(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group(dedup_window=HOUR)
    await append(stream, arrival("m", MINUTE))
    (entry,) = (await group.take(1)).entries
    await group.settle([Settlement(entry.ref, (again(entry),))])
    (entry,) = (await group.take(1)).entries
    assert entry.fields[b"window"] == b"60"
    assert recorded(redis_client, group) == {MINUTE: 1}
    await group.settle([Settlement(entry.ref, (dead(entry),))])
    letters = DeadLetters(stream.client, "main")
    dead_ids = [letter.id for letter in await dead_letters(stream)]
    assert await letters.replay(dead_ids) == 1
    (entry,) = (await group.take(1)).entries
    assert entry.fields[b"window"] == b"60"

    await group.settle([Settlement(entry.ref, (dead(entry),))])
    dead_ids = [letter.id for letter in await dead_letters(stream)]
    assert await letters.drop(dead_ids) == 1
    await append(stream, arrival("m", MINUTE))
    taken = await group.take(1)
    assert (ids(taken.entries), taken.duplicates) == (["m"], [])
    await settle_all(group, *taken.entries)


async def test_the_owner_of_an_id_is_found_under_each_window(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group(dedup_window=HOUR)
    given = [arrival("a", MINUTE), arrival("b", 0)]
    await append(stream, *given)
    entries = (await group.take(2)).entries
    found = await Whereabouts(stream.client).owners("main", [one.digest for one in given])
    assert [one.token for one in found] == [entry.ref.id for entry in entries]
    await settle_all(group, *entries)
