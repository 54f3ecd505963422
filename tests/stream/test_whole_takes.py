"""Of the workers of a group, one takes from all partitions now and then, so that a lost wake-up is
found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis

from hookmill.stream.consumer import Consumer
from hookmill.stream.producer import Producer
from tests.stream.test_wakeup import calls
from tests.stream.toolkit import blocked, ids, partitioned, settle_all
from tests.support import Server, eventually, message


async def test_of_several_idle_workers_one_asks_all_partitions(
    server: Server, prefix: str, redis_client: redis.Redis
) -> None:
    async with partitioned(server, prefix) as (stream, _), workers_of(stream, 3) as workers:
        for worker in workers:
            assert (await worker.take(10)).is_empty
        for _ in range(2):
            before = calls(redis_client, "evalsha")
            for worker in workers:
                assert not await worker.wait(0.01)
                taken = await worker.take(10)
                assert (taken.is_empty, taken.has_more) == (True, False)
            assert calls(redis_client, "evalsha") - before == len(workers) + 8


async def test_a_lost_wake_up_is_found_though_the_last_worker_that_asked_all_has_died(
    server: Server, prefix: str, redis_client: redis.Redis
) -> None:
    async with partitioned(server, prefix) as (stream, _), workers_of(stream, 2) as workers:
        dies, lives = workers
        for worker in (dies, lives):
            assert (await worker.take(10)).is_empty
        assert not await dies.wait(0.01)
        assert (await dies.take(10)).is_empty
        await stream.append([message(id="lost")])
        redis_client.delete(lives.partitions[0].wake)  # it went to the one that has died
        assert not await lives.wait(0.01)
        assert (await lives.take(10)).is_empty
        assert not await lives.wait(0.01)
        await settle_all(lives, *(found := await lives.take(10)).entries)
        assert ids(found.entries) == ["lost"]


async def test_a_worker_whose_wait_was_cut_asks_all_partitions(
    server: Server, prefix: str, redis_client: redis.Redis
) -> None:
    async with partitioned(server, prefix) as (stream, _), workers_of(stream, 2) as workers:
        cut, other = workers
        for worker in (cut, other):
            assert (await worker.take(10)).is_empty
        waiting = asyncio.create_task(cut.wait(5))
        await eventually(lambda: blocked(redis_client) == 1)
        await stream.client.servers[0].drop()
        assert not await waiting
        assert not await other.wait(0.01)
        assert (await other.take(10)).is_empty  # so it is not the turn of the first one
        await stream.append([message(id="lost")])
        redis_client.delete(cut.partitions[0].wake)
        await settle_all(cut, *(found := await cut.take(10)).entries)
        assert ids(found.entries) == ["lost"]


@asynccontextmanager
async def workers_of(stream: Producer, count: int) -> AsyncIterator[list[Consumer]]:
    """Several workers of a group."""
    workers = [
        Consumer(stream.client, "main", f"w{number}", dedup_window=3600) for number in range(count)
    ]
    yield workers
    for worker in workers:
        await worker.close()
