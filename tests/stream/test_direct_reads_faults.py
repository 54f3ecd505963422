"""What goes wrong around a direct read blocks no key, breaks no order and passes no budget."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import redis

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.stream.consumer import Consumer
from hookmill.stream.producer import Producer
from hookmill.stream.takes import LEAST_COUNT
from tests.stream.direct import (
    FEW,
    append,
    append_as_older_release,
    direct,
    finish_all,
    names,
    settle_keyed,
    under_load,
)
from tests.stream.partitioned import PARTITIONS, append_to, partitions_of
from tests.stream.toolkit import OpenGroup, ids, settle_all
from tests.support import ANY_BYTES, message


async def recover_all(group: Consumer) -> list[str]:
    recovered, _ = await group.recover(0, 1000, 60, ANY_BYTES, [])
    await settle_keyed(group, *recovered.entries)
    return ids(recovered.entries)


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
    with pytest.raises(StreamUnavailableError, match="it is not decided what runs") as error:
        await group.take(FEW + 6 + 10)
    assert len(str(error.value)) < 100  # it goes into a line of the log
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
    with pytest.raises(StreamUnavailableError, match="it is not decided what runs"):
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


async def test_of_a_deleted_stream_that_had_very_much_the_index_is_not_read_to_its_end(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group, keys = await open_group(), stream.partitions[0]
    for number in range(100):
        await append(stream, *names(4 * number, 4 * number + 4))
    redis_client.delete(keys.stream)
    await append(stream, *names(1000, 1100))
    await group.open()
    await settle_all(group, *(await group.take(FEW)).entries)
    redis_client.xgroup_setid(keys.stream, "main", "0")  # as where the stream was never read
    redis_client.config_resetstat()
    taken = await group.take(FEW)
    calls = redis_client.info("commandstats")["cmdstat_xrange"]["calls"]
    assert calls < 20  # there are a hundred records
    await settle_all(group, *taken.entries)
    await finish_all(group)


async def test_a_partition_whose_gate_is_shut_is_asked_by_script_in_the_same_take(
    split: tuple[Producer, Consumer], redis_client: redis.Redis
) -> None:
    """This worker may have been woken for it, and then no other worker is."""
    stream, group = split
    for number in range(PARTITIONS):
        await append_to(stream, number, size=10, count=3 * LEAST_COUNT)
    await settle_all(group, *(await group.take(PARTITIONS * LEAST_COUNT)).entries)
    await append_to(stream, 0, size=500)  # larger than all before
    before = direct(redis_client)
    taken = await group.take(PARTITIONS * LEAST_COUNT)
    assert direct(redis_client) - before == PARTITIONS - 1
    assert Counter(partitions_of(taken)) == dict.fromkeys(range(PARTITIONS), LEAST_COUNT)
    await settle_all(group, *taken.entries)
    await finish_all(group)
