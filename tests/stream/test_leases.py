"""Leases are renewed by the thread's own view of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import STREAM, EntryRef
from hookmill.stream.leases import BlockingLeases
from hookmill.stream.producer import Producer
from tests.stream.toolkit import OpenGroup, OwnServer, settle_all
from tests.support import (
    ANY_BYTES,
    Server,
    eventually,
    message,
    server_binaries,
    watch_for,
)


@pytest.fixture
async def group(open_group: OpenGroup) -> Consumer:
    return await open_group()


@pytest.fixture
def leases(group: Consumer) -> Iterator[BlockingLeases]:
    with closing(group.leases()) as opened:
        yield opened


def idle_ms(client: redis.Redis, group: Consumer) -> int:
    (pending,) = client.xpending_range(group.partitions[0].stream, group.name, "-", "+", 1)
    return int(pending["time_since_delivered"])


async def test_a_renewed_lease_begins_again_and_is_no_further_delivery(
    stream: Producer, group: Consumer, leases: BlockingLeases, redis_client: redis.Redis
) -> None:
    await stream.append([message()])
    (entry,) = (await group.take(1)).entries
    await eventually(lambda: idle_ms(redis_client, group) >= 30)
    assert leases.renew([entry.ref]) == []
    assert idle_ms(redis_client, group) < 30
    (pending,) = redis_client.xpending_range(group.partitions[0].stream, "main", "-", "+", 1)
    assert pending["times_delivered"] == 1
    await settle_all(group, entry)


async def test_what_is_settled_or_never_was_is_lost(
    stream: Producer, group: Consumer, leases: BlockingLeases
) -> None:
    await stream.append([message(), message()])
    settled, held = (await group.take(2)).entries
    await settle_all(group, settled)
    unknown = EntryRef(STREAM, "1-1")
    assert leases.renew([settled.ref, held.ref, unknown]) == [settled.ref, unknown]
    await settle_all(group, held)


async def test_each_renewal_raises_the_lease_number_also_where_nothing_is_held(
    stream: Producer, group: Consumer, leases: BlockingLeases, redis_client: redis.Redis
) -> None:
    key = group.partitions[0].lease_numbers
    assert leases.renew([]) == []
    assert redis_client.hgetall(key) == {b"c1": b"1"}

    await stream.append([message()])
    (entry,) = (await group.take(1)).entries
    assert leases.renew([entry.ref]) == []
    assert redis_client.hgetall(key) == {b"c1": b"2"}

    # The worker counts. So a number that Redis lost does not begin again.
    redis_client.delete(key)
    leases.renew([])
    assert redis_client.hgetall(key) == {b"c1": b"3"}
    await settle_all(group, entry)


async def test_the_number_rises_in_the_partitions_in_which_something_is_or_may_be_held(
    server: Server, prefix: str, redis_client: redis.Redis
) -> None:
    async with Client(server.url, prefix, partitions=4) as client:
        group = Consumer(client, "main", "c1", dedup_window=3600)
        await group.open()
        with closing(group.leases()) as leases:
            leases.renew([])
            assert leases.renew([EntryRef(STREAM, "1-1", 2)], [3]) == [EntryRef(STREAM, "1-1", 2)]
        await group.close()
        keys = [keys.of_group("main").lease_numbers for keys in client.partitions]
        assert [redis_client.hget(key, "c1") for key in keys] == [b"2", b"1", b"2", b"2"]


async def test_a_server_that_sentinels_tell_of_is_not_looked_for_at_their_addresses(
    server: Server, prefix: str, redis_client: redis.Redis
) -> None:
    url = server.url.replace("redis://", "redis+sentinel://") + "/main"
    async with Client(url, prefix) as client:
        leases = BlockingLeases(client, "main", "c1", timeout=0.1)
        with closing(leases), pytest.raises(StreamUnavailableError, match="not known yet"):
            await asyncio.to_thread(leases.renew, [])
        assert redis_client.keys(f"{prefix}*") == []


@pytest.mark.parametrize("binary", list(server_binaries()))
def test_a_full_redis_takes_a_lease_number(own_server: OwnServer, binary: str) -> None:
    # A number that stands still would say that the worker no longer holds what it holds.
    server = own_server(binary=binary)
    with (
        redis.Redis.from_url(server.url) as client,
        closing(BlockingLeases(Client(server.url, "t"), "main", "c1")) as leases,
    ):
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        leases.renew([])
        assert client.hgetall("t:{0}:main:lease-numbers") == {b"c1": b"1"}


def test_a_lost_group_is_distinguished_from_a_redis_that_is_away(own_server: OwnServer) -> None:
    server = own_server()
    with closing(BlockingLeases(Client(server.url, "t"), "main", "c1")) as leases:
        with pytest.raises(GroupLostError):
            leases.renew([EntryRef(STREAM, "1-1")])
        server.kill()
        with pytest.raises(StreamUnavailableError):
            leases.renew([EntryRef(STREAM, "1-1")])


async def test_the_first_renewal_gives_a_number_in_every_partition(
    server: Server, prefix: str, redis_client: redis.Redis
) -> None:
    async with Client(server.url, prefix, partitions=3) as client:
        group = Consumer(client, "main", "c1", dedup_window=3600)
        await group.open()
        with closing(group.leases()) as leases:
            leases.renew([])
            leases.renew([])
        numbers = [redis_client.hget(keys.lease_numbers, "c1") for keys in group.partitions]
        assert numbers == [b"2", b"1", b"1"]
        await group.close()


async def test_a_step_back_of_redis_clock_postpones_no_takeover_from_a_killed_worker(
    server: Server, prefix: str, redis_client: redis.Redis
) -> None:
    # It took its first entry of this partition, and died before the next renewal.
    async with Client(server.url, prefix, partitions=3) as client:
        gone, group = (Consumer(client, "main", name, dedup_window=3600) for name in ("gone", "c1"))
        await group.open()
        with closing(gone.leases()) as leases:
            leases.renew([])
        keys = group.partitions[2]
        fields = message().to_fields()
        entry_id = redis_client.xadd(keys.stream, fields)  # type: ignore[arg-type] # a plain dict
        held = (await gone.take(1)).entries
        in_an_hour = (redis_client.time()[0] + 3600) * 1000
        redis_client.xclaim(keys.stream, "main", "gone", 0, [entry_id], time=in_an_hour)
        assert await watch_for(group, 8.0) == [2]
        taken, _ = await group.take_over(2, 1, 8.0, ANY_BYTES)
        assert [entry.ref for entry in taken.entries] == [entry.ref for entry in held]
        await settle_all(group, *taken.entries)
        await group.close()
        await gone.close()
