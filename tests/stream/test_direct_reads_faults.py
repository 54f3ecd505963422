"""What goes wrong around a direct read blocks no key, breaks no order and passes no budget."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.stream import direct_reads
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, Settlement
from hookmill.stream.producer import Producer
from tests.stream.direct import append, append_as_older_release, names
from tests.stream.toolkit import OpenGroup, ids, settle_all
from tests.support import ANY_BYTES, message

FEW = direct_reads.LEAST


async def settle_keyed(group: Consumer, *entries: Entry) -> None:
    done = [Settlement(entry.ref, (), entry.key, entry.owner) for entry in entries]
    assert await group.settle(done) == []


async def finish_all(group: Consumer) -> list[str]:
    found = []
    while not (taken := await group.take(100)).is_empty:
        found += ids(taken.entries)
        await settle_keyed(group, *taken.entries)
    return found


async def recover_all(group: Consumer) -> list[str]:
    recovered, _ = await group.recover(0, 1000, 60, ANY_BYTES, [])
    await settle_keyed(group, *recovered.entries)
    return ids(recovered.entries)


async def under_load(stream: Producer, group: Consumer) -> None:
    await append(stream, *names(1000, 1000 + 2 * FEW), body=bytes(100))
    await settle_all(group, *(await group.take(FEW)).entries)


def delete(client: redis.Redis, stream: Producer, *some: str) -> None:
    """Delete the last entry of each of these messages, as an operator does."""
    key = stream.partitions[0].stream
    entries: Any = client.xrange(key)
    for name in some:
        client.xdel(key, [i for i, fields in entries if fields[b"id"] == name.encode()][-1])


async def test_a_deleted_entry_is_no_head_where_the_index_lacks_as_many(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await under_load(stream, group)
    await stream.append([message(id=f"k{n}", key=f"key{n}") for n in range(6)])
    append_as_older_release(redis_client, stream, "old1", "old2")
    await append(stream, *names(0, 40))
    delete(redis_client, stream, "k3", "k4")
    with pytest.raises(StreamUnavailableError, match="not decided about"):
        await group.take(FEW + 6 + 10)
    await recover_all(group)
    await finish_all(group)
    await stream.append([message(id="later", key="key3")])
    assert await finish_all(group) == ["later"]


async def test_a_deleted_duplicate_ends_no_decision_halfway(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await under_load(stream, group)
    await append(stream, *names(1000, 1006))
    append_as_older_release(redis_client, stream, "old")
    await append(stream, *names(0, 40))
    delete(redis_client, stream, "m1003")
    with pytest.raises(StreamUnavailableError, match="not decided about"):
        await group.take(FEW + 6 + 10)
    assert redis_client.hget(group.partitions[0].counts, "repeats") == b"5"
    found = await recover_all(group) + await finish_all(group)
    assert found == [*names(1000 + FEW, 1000 + 2 * FEW), "old", *names(0, 40)]


async def test_what_the_index_has_of_a_deleted_stream_is_not_decided_about(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group, other = await open_group("c1"), await open_group("c2")
    await stream.append([message(id=f"x{n}", key=f"key{n}") for n in range(20)])
    await append(stream, *names(0, 40))
    for _ in range(2):
        await settle_keyed(group, *(await group.take(20)).entries)
    redis_client.delete(stream.partitions[0].stream)
    await append(stream, *names(100, 140))
    with pytest.raises(GroupLostError):
        await other.take(5)
    await other.open()
    taken = await group.take(20)
    assert ids(taken.entries) == names(100, 120)
    await settle_keyed(group, *taken.entries)
    await finish_all(group)


async def test_a_gate_that_was_left_open_is_shut_where_a_larger_entry_has_come(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await append(stream, *names(0, 100))
    await settle_all(group, *(await group.take(20)).entries)
    redis_client.xgroup_create(group.partitions[0].gate, "main", "0", mkstream=True)
    for number in range(5):
        await append(stream, f"large{number}", body=bytes(400_000))
    taken = await group.take(110, 1_000_000)
    assert taken.weight < 1_500_000
    await settle_all(group, *taken.entries)
    await finish_all(group)


async def test_a_full_redis_is_drained_without_an_error(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    """Redis refuses all commands of a transaction while it is full."""
    group = await open_group()
    await append(stream, *names(0, 200))
    await settle_all(group, *(await group.take(40)).entries)
    redis_client.config_set("maxmemory", 1)
    try:
        for _ in range(4):
            taken = await group.take(40)
            assert len(taken.entries) == 40
            await settle_all(group, *taken.entries)
    finally:
        redis_client.config_set("maxmemory", 0)
