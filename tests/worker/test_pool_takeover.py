"""A topic of the pool: what was lost on its way, or is held by a silent worker, is taken over."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import redis
import structlog

from hookmill import Delivery, Handlers, Retry
from hookmill.errors import StreamUnavailableError
from hookmill.message import Message
from hookmill.stream.producer import Producer
from tests.support import eventually, watch_for
from tests.worker.pools import (
    FOR_EVER,
    MakePool,
    Work,
    is_drained,
    is_waiting,
    names,
    pending,
    scripted,
    send,
)


async def test_messages_whose_take_was_never_answered_are_recovered(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    faults = [StreamUnavailableError("timed out")]

    def lose() -> None:
        if faults:
            raise faults.pop()

    work = Work()
    consumer = scripted(stream)
    consumer.after_take = lose
    await send(stream, *names(5))
    pool = await make_pool(work.handlers, consumer=consumer, lease=0.1)
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.ran == Counter(names(5))
    await eventually(lambda: not pool.held)


async def test_a_silent_worker_loses_its_messages_and_its_late_outcome_is_dropped(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    # No thread renews here: the first pool is as silent as a stopped process.
    silent, other = Work(wait=True), Work()
    silent.fails = ValueError("too late")
    first = await make_pool(silent.handlers, stream)
    await send(stream, *names(3))
    await eventually(lambda: silent.running == 3)

    consumer = scripted(stream, "other")
    await make_pool(other.handlers, consumer=consumer, lease=0.1)
    await eventually(lambda: other.done == Counter(names(3)))
    await eventually(lambda: is_drained(redis_client, stream))
    with structlog.testing.capture_logs() as logs:
        silent.go_on.set()
        await eventually(lambda: not first.held)
    (late,) = [line for line in logs if line["event"].startswith("dropped late outcomes")]
    assert len(late["entries"]) == 3
    assert redis_client.zcard(consumer.partitions[0].delayed) == 0


async def test_a_retry_after_the_takeover_does_not_disturb_the_new_holder(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    silent, other = Work(wait=True), Work(wait=True)
    silent.fails = Retry(after=0)
    first = await make_pool(silent.handlers, stream)
    await send(stream, "m")
    await eventually(lambda: silent.running)
    consumer = scripted(stream, "other")
    second = await make_pool(other.handlers, consumer=consumer, lease=0.1)
    await eventually(lambda: other.running)
    silent.go_on.set()
    await eventually(lambda: not first.held)
    assert len(second.held) == 1
    assert pending(redis_client, stream) == 1
    assert redis_client.xlen(consumer.partitions[0].again) == 0
    other.go_on.set()
    await eventually(lambda: is_drained(redis_client, stream))
    assert (silent.ran + other.ran)["m"] == 2


async def test_a_takeover_that_is_always_due_keeps_nothing_new_waiting(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work()
    pool = await make_pool(work.handlers, stream)
    pool._takeover.wait = lambda: 0.0  # type: ignore[method-assign] # nothing is there to take over
    await send(stream, "m")
    await eventually(lambda: work.done["m"])
    await eventually(lambda: is_drained(redis_client, stream))


async def test_a_recovery_leaves_alone_what_is_held_and_unsettled(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work()
    consumer = scripted(stream)
    consumer.settle_fault = StreamUnavailableError("away")
    recovered: list[int] = []
    consumer.after_recovery = lambda taken: recovered.append(len(taken.entries))
    await send(stream, *names(3))
    pool = await make_pool(work.handlers, consumer=consumer, lease=0.1)
    await eventually(lambda: len(work.done) == 3)
    pool._takeover.lost_reply()
    await eventually(lambda: len(recovered) >= 2)
    consumer.settle_fault = None
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.ran == Counter(names(3))
    assert sum(recovered) == 0


async def test_a_failed_wait_moves_no_takeover_and_nothing_is_recovered_after_it(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    # A proxy cuts the connection that waits, again and again.
    work = Work()
    waits: list[float] = []

    async def cut() -> None:
        waits.append(1)
        raise StreamUnavailableError("cut")

    gone = scripted(stream, "gone")
    await gone.open()
    await send(stream, "m")
    await gone.take(1)
    consumer = scripted(stream)
    consumer.before_wait = cut
    recovered: list[int] = []
    consumer.after_recovery = lambda taken: recovered.append(len(taken.entries))
    await make_pool(work.handlers, consumer=consumer, lease=0.3)
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.ran == {"m": 1}
    assert waits
    assert not recovered
    await gone.close()


async def test_after_a_wake_up_the_new_message_goes_before_a_takeover_that_is_due(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work()
    consumer = scripted(stream)
    pool = await make_pool(work.handlers, consumer=consumer, start=False)
    steps: list[str] = []
    consumer.before_take = lambda _: steps.append("take")
    consumer.after_takeover = lambda _: steps.append("takeover")

    async def make_due() -> None:
        steps.clear()
        pool._takeover._found = [0]

    consumer.after_wait = make_due
    await consumer.open()
    pool.start()
    for number in range(5):
        await is_waiting(redis_client)
        await send(stream, f"m{number}")
        await eventually(lambda: sum(work.done.values()) > number)  # noqa: B023 - waited for here
        await eventually(lambda: "takeover" in steps)
        assert steps[0] == "take"
    await eventually(lambda: is_drained(redis_client, stream))


async def test_a_message_whose_wake_up_was_lost_is_found_after_a_quarter_of_a_lease(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work()
    consumer = scripted(stream)
    key = consumer.partitions[0].stream

    async def wake_another() -> None:
        if not redis_client.xlen(key):
            await send(stream, "m")
            redis_client.delete(consumer.partitions[0].wake)  # the worker that was woken has died

    consumer.before_wait = wake_another
    await make_pool(work.handlers, consumer=consumer, lease=0.5)
    await eventually(lambda: work.done["m"])
    await eventually(lambda: is_drained(redis_client, stream))


async def test_a_duplicate_that_ended_a_wait_is_dropped(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work()
    await send(stream, "m")
    pool = await make_pool(work.handlers, stream)
    await eventually(lambda: is_drained(redis_client, stream))
    await is_waiting(redis_client)
    with structlog.testing.capture_logs() as logs:
        await send(stream, "m")
        await eventually(lambda: logs)
    assert logs == [{"event": "duplicate dropped", "id": "m", "log_level": "info"}]
    assert not pool.held
    assert work.ran == {"m": 1}


async def test_a_takeover_claims_no_more_than_there_are_free_slots_and_the_rest_is_for_others(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    busy, idle = Work(wait=True), Work()
    gone = scripted(stream, "gone")
    await gone.open()
    await send(stream, *names(8))
    held: list[Any] = [entry.ref.id for entry in (await gone.take(8)).entries]
    key = gone.partitions[0].stream
    redis_client.xclaim(key, "main", "gone", 0, held, idle=60_000, justid=True)
    pools = []
    for number, (work, concurrency) in enumerate(((busy, 2), (idle, 10))):
        consumer = scripted(stream, f"c{number}")
        pool = await make_pool(
            work.handlers, consumer=consumer, concurrency=concurrency, lease=FOR_EVER, start=False
        )
        pool._takeover._found, pool._takeover._lease = [0], 30.0  # as it has found
        pools.append(pool)
    await watch_for(consumer, 30)

    pools[0].start()
    await eventually(lambda: busy.running == 2)
    await asyncio.sleep(0.1)  # time for what must not happen
    assert (busy.running, len(pools[0].held)) == (2, 2)
    pools[1].start()
    await eventually(lambda: idle.done == Counter(names(8)[2:]))
    busy.go_on.set()
    await eventually(lambda: is_drained(redis_client, stream))
    assert busy.ran == Counter(names(2))
    await gone.close()


async def test_a_settlement_whose_answer_is_lost_is_carried_out_once(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    handlers = Handlers()
    attempts: list[int] = []
    faults = [StreamUnavailableError("timed out")]

    @handlers.on("*")
    async def work(delivery: Delivery[Message]) -> None:
        attempts.append(delivery.attempt)
        if len(attempts) == 1:
            raise Retry(after=0)

    def lose() -> None:
        if faults:
            raise faults.pop()

    consumer = scripted(stream)
    consumer.after_settle = lose
    pool = await make_pool(handlers, consumer=consumer)
    await send(stream, "m")
    await eventually(lambda: len(attempts) >= 2)
    await eventually(lambda: is_drained(redis_client, stream) and not pool.held)
    assert attempts == [1, 1]


async def test_what_a_lost_reply_brought_goes_to_others_where_no_slot_is_free(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work(wait=True)
    consumer = scripted(stream)
    faults = [StreamUnavailableError("timed out")]

    def lose() -> None:
        if faults:
            raise faults.pop()

    consumer.after_take = lose
    await send(stream, "lost", "long")
    await make_pool(work.handlers, consumer=consumer, lease=8, concurrency=1)
    await eventually(lambda: work.running == 1)
    assert work.ran == {"long": 1}
    other = Work()
    await make_pool(other.handlers, stream)
    await eventually(lambda: other.done["lost"])
    work.go_on.set()
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.ran + other.ran == Counter(["lost", "long"])


async def test_what_was_settled_while_it_came_back_is_not_held_for_ever(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    # The outcome was late, and while its reply is on the way the message is taken over from the
    # other worker, which has died.
    work, on_the_way, arrives = Work(), asyncio.Event(), asyncio.Event()
    consumer, other = scripted(stream), scripted(stream, "other")
    settle = consumer.settle

    async def late(settlements: Any) -> Any:
        if not on_the_way.is_set():
            key, name = consumer.partitions[0].stream, "other"
            (row,) = redis_client.xpending_range(key, "main", "-", "+", 1)
            redis_client.xclaim(key, "main", name, 0, [row["message_id"]])
            reply = await settle(settlements)
            on_the_way.set()
            await arrives.wait()
            return reply
        return await settle(settlements)

    consumer.settle = late  # type: ignore[method-assign] # a reply to delay
    taken: list[int] = []
    consumer.after_takeover = lambda found: taken.append(len(found.entries))
    work.fails = Retry(0)
    await send(stream, "m")
    pool = await make_pool(work.handlers, consumer=consumer, lease=0.4)
    await asyncio.wait_for(on_the_way.wait(), 10)
    work.fails = None
    await eventually(lambda: sum(taken) == 1 and not pool._takeover._is_asking)
    arrives.set()
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.done == {"m": 1}
    await other.close()
