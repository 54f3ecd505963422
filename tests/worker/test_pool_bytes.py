"""A pool holds no more bytes than its budget allows."""

from __future__ import annotations

import asyncio

import redis

from hookmill.stream.producer import Producer
from tests.support import eventually, message
from tests.worker.pools import MakePool, Work, is_drained

KB = 1000


async def append(stream: Producer, *sizes: int) -> None:
    await stream.append([message(bytes(size), id=f"m{n}") for n, size in enumerate(sizes)])


async def test_a_pool_takes_nothing_while_what_it_holds_uses_up_its_budget(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work(wait=True)
    await append(stream, *[100 * KB] * 10)
    pool = await make_pool(work.handlers, stream, max_bytes=250 * KB)
    await eventually(lambda: work.running == 3)
    assert pool.free_slots == 0
    work.go_on.set()
    await eventually(lambda: is_drained(redis_client, stream) and not pool.held)
    assert (work.most, len(work.done), pool.free_slots) == (3, 10, 10)


async def test_a_message_larger_than_the_budget_is_handled_alone(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work()
    await append(stream, 10, 500 * KB, 10, 500 * KB)
    pool = await make_pool(work.handlers, stream, max_bytes=100 * KB)
    await eventually(lambda: is_drained(redis_client, stream) and not pool.held)
    assert len(work.done) == 4


async def test_a_message_that_is_settled_makes_room_for_the_next(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work(wait=True)
    await append(stream, 150 * KB, 10)
    pool = await make_pool(work.handlers, stream, max_bytes=100 * KB)
    await eventually(lambda: work.running == 1)
    await asyncio.sleep(0.05)  # time in which it could take more
    assert work.most == 1
    work.go_on.set()
    await eventually(lambda: is_drained(redis_client, stream) and not pool.held)
    assert len(work.done) == 2


async def test_small_messages_use_all_slots(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work(wait=True)
    await append(stream, *[1 * KB] * 20)
    pool = await make_pool(work.handlers, stream, concurrency=20)
    await eventually(lambda: work.running == 20)
    work.go_on.set()
    await eventually(lambda: is_drained(redis_client, stream) and not pool.held)
