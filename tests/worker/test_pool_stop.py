"""A topic of the pool: when it becomes quiet or stops, nothing is lost and nothing runs twice."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable

import pytest
import redis

from hookmill import Delivery, Handlers
from hookmill.message import Message
from hookmill.stream.producer import Producer
from tests.support import Server, Stream, eventually, hurry
from tests.worker.pools import (
    MakePool,
    Work,
    is_drained,
    is_waiting,
    names,
    pending,
    scripted,
    send,
)

# --- quiet ----------------------------------------------------------------------------------


async def test_a_waiting_pool_is_quiet_at_once_and_takes_nothing_after(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work()
    pool = await make_pool(work.handlers, stream)
    await is_waiting(redis_client)
    async with asyncio.timeout(2):  # it would have waited for five seconds
        await pool.quiet()
    await send(stream, "m")
    assert pending(redis_client, stream) == 0
    assert not work.ran


async def test_a_pool_that_is_woken_while_it_stops_wakes_another(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    first, second = Work(), Work()
    consumer = scripted(stream)
    pool = await make_pool(first.handlers, consumer=consumer)

    async def stop() -> None:
        pool._is_quiet = True

    consumer.after_wait = stop
    await is_waiting(redis_client)
    other = await make_pool(second.handlers, stream)
    await is_waiting(redis_client, 2)
    await send(stream, "m")
    await eventually(lambda: second.done["m"], timeout=10)  # a lost one is found after 20 s
    await eventually(lambda: is_drained(redis_client, stream))
    await pool.stop(5)
    await other.stop(5)
    assert not first.ran


async def test_a_quiet_pool_finishes_what_it_runs(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work(wait=True)
    pool = await make_pool(work.handlers, stream, concurrency=2)
    await send(stream, *names(5))
    await eventually(lambda: work.running == 2)
    await pool.quiet()
    assert not pool.is_idle
    work.go_on.set()
    await eventually(lambda: pool.is_idle and not pool.held)
    assert work.done == Counter(names(2))
    assert pending(redis_client, stream) == 0


async def test_what_arrives_in_a_quiet_pool_is_requeued(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    first, second = Work(), Work()
    consumer = scripted(stream)
    await send(stream, *names(5))
    pool = await make_pool(first.handlers, consumer=consumer, start=False)
    await consumer.open()
    consumer.after_take = lambda: setattr(pool, "_is_quiet", True)
    pool.start()
    await eventually(lambda: redis_client.xlen(consumer.partitions[0].again) == 5)
    await pool.stop(5)
    assert not first.ran
    assert not pool.held
    await make_pool(second.handlers, stream)
    await eventually(lambda: is_drained(redis_client, stream))
    assert second.done == Counter(names(5))


async def test_whenever_a_pool_is_stopped_nothing_is_lost_and_nothing_runs_twice(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work()
    sent = 0
    chance = random.Random(7)
    for _ in range(25):
        pool = await make_pool(work.handlers, stream, concurrency=chance.choice([1, 2, 50]))
        for _ in range(3):
            count = chance.randrange(4)
            await send(stream, *(f"m{n}" for n in range(sent, sent + count)))
            sent += count
            await asyncio.sleep(chance.choice([0, 0, 0.001, 0.003]))
        await pool.stop(5)
        assert not pool.held
        assert pending(redis_client, stream) == 0
    await make_pool(work.handlers, stream)
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.ran == work.done == Counter(names(sent))


# --- stop -----------------------------------------------------------------------------------


async def test_what_finishes_within_the_deadline_is_settled(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work(wait=True)
    pool = await make_pool(work.handlers, stream)
    await send(stream, *names(3))
    await eventually(lambda: work.running == 3)
    stopping = asyncio.create_task(pool.stop(30))
    await eventually(lambda: pool._is_quiet)
    work.go_on.set()
    await stopping
    assert work.done == Counter(names(3))
    assert is_drained(redis_client, stream)


async def test_what_does_not_finish_is_requeued_and_another_gets_it_at_once(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    slow = Work(wait=True)
    pool = await make_pool(slow.handlers, stream)
    await send(stream, "m")
    await eventually(lambda: slow.running)
    await pool.stop(0)

    attempts = []
    handlers = Handlers()

    @handlers.on("*", name="work")
    async def work(delivery: Delivery[Message]) -> None:
        attempts.append(delivery.attempt)

    await make_pool(handlers, stream)
    await eventually(lambda: attempts)
    assert attempts == [1]  # being requeued does not count
    await eventually(lambda: is_drained(redis_client, stream))


async def test_a_plain_function_past_the_deadline_is_requeued_and_its_thread_noticed(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    handlers = Handlers()
    go_on = threading.Event()
    ran: Counter[str] = Counter()

    @handlers.on("*")
    def work(delivery: Delivery[Message]) -> None:
        ran[delivery.id] += 1
        assert go_on.wait(10)

    pool = await make_pool(handlers, stream)
    await send(stream, *names(6))  # there are four threads
    await eventually(lambda: sum(ran.values()) == 4)
    await pool.stop(0)
    assert pool.is_idle
    assert pool._attempter._threads.running()
    go_on.set()
    await make_pool(handlers, stream)
    await eventually(lambda: is_drained(redis_client, stream))
    # Two had not begun, so they ran in the second pool alone.
    assert sorted(ran.values()) == [1, 1, 2, 2, 2, 2]


async def test_a_handler_that_will_not_be_cancelled_does_not_keep_the_pool(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    handlers = Handlers()
    started, let_go = asyncio.Event(), asyncio.Event()

    @handlers.on("*")
    async def stubborn(delivery: Delivery[Message]) -> None:
        started.set()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    pool = await make_pool(handlers, stream)
    await send(stream, "m")
    await started.wait()
    async with asyncio.timeout(5):
        await pool.stop(0)
    assert not pool.is_idle
    # Neither settled nor requeued: it still runs, and its lease ends when this process ends.
    assert pending(redis_client, stream) == 1
    let_go.set()
    await eventually(lambda: is_drained(redis_client, stream))


@pytest.mark.parametrize("away", ["killed", "frozen"])
@pytest.mark.parametrize("doing", ["waiting", "running", "full"])
async def test_a_pool_ends_in_time_without_redis(
    own_server: Callable[..., Server], make_pool: MakePool, away: str, doing: str
) -> None:
    server = own_server()
    stream = Stream(server.url, "t")
    work = Work(wait=True)
    pool = await make_pool(
        work.handlers,
        concurrency=1 if doing == "full" else 10,
        consumer=scripted(stream),
    )
    if doing != "waiting":
        await send(stream, "m")
        await eventually(lambda: work.running)
    else:
        with redis.Redis.from_url(server.url) as client:
            await is_waiting(client)
    hurry(stream, 0.2)
    if away == "killed":
        server.kill()
    else:
        server.signal(signal.SIGSTOP)
    async with asyncio.timeout(10):
        await pool.stop(0.1)
    assert pool.is_idle
    await stream.close()


async def test_a_stop_does_not_wait_in_line_behind_commands_without_replies(
    server: Server, prefix: str, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    stream = Stream(server.url, prefix, timeout=60)
    pool = await make_pool(Work().handlers, consumer=scripted(stream))
    await is_waiting(redis_client)
    connections = stream.client.servers[0].opened
    connections.most = len(connections.all)
    for _ in connections.all:
        await connections.get(object, is_long=False)
    async with asyncio.timeout(20):
        await pool.stop(0.1)
    assert pool.is_idle
    await stream.close()


async def test_a_wake_up_right_before_redis_dies_does_not_hold_up_the_end(
    own_server: Callable[..., Server], make_pool: MakePool
) -> None:
    server = own_server()
    stream = Stream(server.url, "t")
    consumer = scripted(stream)

    sent, dead = asyncio.Event(), asyncio.Event()

    async def die() -> None:
        await sent.wait()
        server.kill()
        dead.set()

    consumer.after_wait = die
    pool = await make_pool(Work().handlers, consumer=consumer)
    with redis.Redis.from_url(server.url) as client:
        await is_waiting(client)
    await send(stream, "m")
    hurry(stream, 0.2)
    sent.set()
    await dead.wait()
    async with asyncio.timeout(10):
        await pool.quiet()
    assert not pool.held
    await stream.close()
