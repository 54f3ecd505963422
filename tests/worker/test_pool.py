"""The pool runs every message once, and takes no more than it has free slots for."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
import redis
import structlog

from hookmill import Delivery, Discard, Handlers, Retry
from hookmill.errors import StreamUnavailableError
from hookmill.instrumentation.facts import AttemptEnded
from hookmill.message import Message
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.producer import Producer
from tests.support import dead_letters, eventually, message
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
from worker import pool as pool_module
from worker.outcome import Discarded, Done, Outcome

# --- messages run ---------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 7, 1000])
async def test_every_message_is_handled_once_and_settled(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis, concurrency: int
) -> None:
    work = Work()
    await send(stream, *names(100), *names(100))  # each one twice
    pool = await make_pool(work.handlers, stream, concurrency=concurrency)
    await eventually(lambda: sum(work.done.values()) >= 100)
    await send(stream, "later", "m3")
    await eventually(lambda: work.done["later"])
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.done == Counter([*names(100), "later"])
    assert work.most <= concurrency
    await eventually(lambda: not pool.held)


async def test_listeners_are_told_of_every_attempt_that_has_ended(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work, told = Work(), list[AttemptEnded[Outcome]]()
    await make_pool(work.handlers, stream, listeners=(told.append,))
    work.fails = Discard("gone")
    await send(stream, "a")
    await eventually(lambda: len(told) == 1)
    work.fails = None
    await send(stream, "b")
    await eventually(lambda: len(told) == 2)
    await eventually(lambda: is_drained(redis_client, stream))
    assert [ended.outcome for ended in told] == [Discarded("work", "gone"), Done("work")]
    assert [ended.message.id for ended in told if ended.message] == ["a", "b"]
    assert [ended.entry.ref.id for ended in told] == [ended.progress.owner for ended in told]
    assert told[0].began + told[0].seconds <= told[1].began


async def test_an_attempt_is_counted_when_its_outcome_has_been_written(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work, counted = Work(), list[AttemptEnded[Outcome]]()
    pool = await make_pool(work.handlers, stream, concurrency=50)
    pool.counters = (counted.extend,)
    await send(stream, *names(100))
    await eventually(lambda: is_drained(redis_client, stream))
    await eventually(lambda: not pool.held)
    assert Counter(one.message.id for one in counted if one.message) == Counter(names(100))


async def test_two_pools_share_the_work(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    one, two = Work(), Work()
    await make_pool(one.handlers, stream, concurrency=3)
    await make_pool(two.handlers, stream, concurrency=3)
    await send(stream, *names(200))
    await eventually(lambda: is_drained(redis_client, stream))
    assert one.done + two.done == Counter(names(200))


async def test_messages_with_several_handlers_fail_and_succeed_for_each(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    handlers = Handlers()
    ran: Counter[str] = Counter()

    @handlers.on("*")
    async def steady(delivery: Delivery[Message]) -> None:
        ran["steady"] += 1

    @handlers.on("order.*")
    async def moody(delivery: Delivery[Message]) -> None:
        ran["moody"] += 1
        if ran["moody"] < 3:
            raise Retry(after=0)

    await make_pool(handlers, stream)
    await stream.append([message(type="order.paid")])
    await eventually(lambda: ran["moody"] == 3)
    await eventually(lambda: is_drained(redis_client, stream))
    assert ran == {"steady": 1, "moody": 3}


async def test_two_handlers_of_one_message_that_wait_do_not_take_each_others_place(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    handlers = Handlers()
    ran: Counter[str] = Counter()

    def waits(name: str) -> None:
        @handlers.on("*", name=name)
        async def wait(delivery: Delivery[Message]) -> None:
            ran[name] += 1
            if ran[name] == 1:
                raise Retry(after=0.05)

    waits("index")
    waits("mail")
    pool = await make_pool(handlers, stream)
    await send(stream, "m")
    await eventually(lambda: is_drained(redis_client, stream) and ran.total() == 2)

    async def both_again() -> bool:
        await pool._consumer.release(10)
        return ran == {"index": 2, "mail": 2}

    await eventually(both_again)
    await eventually(lambda: is_drained(redis_client, stream))


async def test_what_gave_up_lies_in_the_dead_letters_and_runs_when_it_is_replayed(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    handlers = Handlers()
    works = False
    ran = []

    @handlers.on("*", attempts=1)
    async def book(delivery: Delivery[Message]) -> None:
        if not works:
            raise ValueError("no such account")
        ran.append((delivery.id, delivery.attempt))

    await make_pool(handlers, stream)
    await send(stream, "m")
    await eventually(DeadLetters(stream.client, "main").count)
    (letter,) = await dead_letters(stream)
    assert letter.fields[b"reason"] == b"failed"
    assert b"no such account" in letter.fields[b"error"]
    works = True
    assert await DeadLetters(stream.client, "main").replay([letter.id]) == 1
    await eventually(lambda: ran)
    assert ran == [("m", 1)]
    await eventually(lambda: is_drained(redis_client, stream))


# --- no more than it can run ----------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "taking"])
async def test_no_more_is_taken_than_can_be_run(
    stream: Producer,
    make_pool: MakePool,
    redis_client: redis.Redis,
    concurrency: int,
    waits: bool,
) -> None:
    work = Work(wait=True)
    if not waits:
        await send(stream, *names(20))
    await make_pool(work.handlers, stream, concurrency=concurrency)
    if waits:
        await is_waiting(redis_client)
        await send(stream, *names(20))
    await eventually(lambda: work.running == concurrency)
    # The rest is there for other workers, and nothing had to be requeued.
    assert pending(redis_client, stream) == concurrency
    assert redis_client.xlen(stream.partitions[0].of_group("main").again) == 0
    work.go_on.set()
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.most == concurrency
    assert work.done == Counter(names(20))


async def test_a_take_is_for_most_of_the_free_slots_until_few_are_left(
    stream: Producer, make_pool: MakePool
) -> None:
    asked: list[int] = []
    work = Work(wait=True)
    consumer = scripted(stream)
    consumer.before_take = asked.append
    await send(stream, *names(32))
    await make_pool(work.handlers, concurrency=32, consumer=consumer)
    await eventually(lambda: work.running == 32)
    assert asked == [24, 6, 2]
    work.go_on.set()


async def test_a_single_free_slot_is_used_where_no_other_gets_free(
    stream: Producer, make_pool: MakePool
) -> None:
    may_end = {name: asyncio.Event() for name in names(33)}
    began: list[str] = []
    handlers = Handlers()

    @handlers.on("*")
    async def work(delivery: Delivery[Message]) -> None:
        began.append(delivery.id)
        await may_end[delivery.id].wait()

    await send(stream, *may_end)
    await make_pool(handlers, stream, concurrency=32)
    await eventually(lambda: len(began) == 32)
    may_end[began[0]].set()
    await eventually(lambda: len(began) == 33)
    for event in may_end.values():
        event.set()


async def test_of_two_that_came_at_once_the_one_without_a_slot_waits_and_is_not_requeued(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    # In a rare race, a wake-up comes from both streams, with an entry in each.
    work = Work()
    consumer = scripted(stream)

    async def race() -> None:
        if not work.ran:
            owned = {**message(id="m0").to_fields(), b"owner": b"1-1"}
            redis_client.xadd(consumer.partitions[0].again, owned)  # type: ignore[arg-type]
            await send(stream, "m1")

    consumer.before_wait = race
    with structlog.testing.capture_logs() as logs:
        await make_pool(work.handlers, concurrency=1, consumer=consumer)
        await eventually(lambda: len(work.done) == 2)
        await eventually(lambda: is_drained(redis_client, stream))
    assert work.ran == work.done == Counter(names(2))
    assert work.most == 1
    requeued = [line for line in logs if line["event"] == "requeued"]
    assert not requeued  # it never began, so nothing is logged


async def test_nothing_is_taken_while_too_many_messages_wait_to_be_settled(
    stream: Producer,
    make_pool: MakePool,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "MAX_UNSETTLED", 5)
    work = Work()
    consumer = scripted(stream)
    consumer.settle_fault = StreamUnavailableError("away")
    await send(stream, *names(50))
    pool = await make_pool(work.handlers, concurrency=2, consumer=consumer)
    await eventually(lambda: pool.free_slots == 0 and pool.is_idle)
    assert 5 <= sum(work.done.values()) <= 6
    assert pending(redis_client, stream) == len(pool.held)
    consumer.settle_fault = None
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.done == Counter(names(50))


async def test_after_a_failure_little_is_taken_at_first(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    # Bodies may be so large that a hundred of them never arrive within the time limit.
    def refuse(count: int) -> None:
        asked.append(count)
        if count > 4:
            raise StreamUnavailableError("timed out")

    asked: list[int] = []
    work = Work()
    consumer = scripted(stream)
    consumer.before_take = refuse
    await send(stream, *names(50))
    await make_pool(work.handlers, concurrency=100, consumer=consumer)
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.done == Counter(names(50))
    assert asked[:6] == [75, 1, 2, 4, 8, 1]
