"""Workers heed pauses: what is paused does not begin, and after it all of it runs, once."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable

import pytest
import redis

from hookmill import Delivery, Handlers
from hookmill.config.settings import Settings
from hookmill.handlers import Backoff
from hookmill.message import Message
from hookmill.runtime.tasks import cancel_and_wait, run_periodically
from hookmill.stream.consumer import Consumer
from hookmill.stream.facts import Pause
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.pauses import Pauses
from hookmill.stream.producer import Producer
from hookmill.stream.rates import RateHistory
from tests.support import eventually, message
from tests.worker.pools import MakePool, Work, is_drained, scripted, send
from worker.delayed import Delayed
from worker.heartbeat import constant_part
from worker.message_metrics import MessageMetrics
from worker.pool import Pool
from worker.rates import WorkerRates

WORK = Pause(kind="handler", value="work", names=("work",))
ALL = Pause(kind="all")


@pytest.fixture
def pauses(stream: Producer) -> Pauses:
    return Pauses(stream.client, "main")


async def resume(pauses: Pauses, pause: Pause) -> int:
    return sum([step.moved async for step in pauses.resume(pause.name)])


async def held_back(pauses: Pauses) -> int:
    return sum(one.held_back for one in await pauses.listed())


async def are_held_back(pauses: Pauses, count: int) -> bool:
    return await held_back(pauses) == count


@pytest.fixture
async def follow(stream: Producer) -> AsyncIterator[Callable[[Consumer], None]]:
    """Start what moves delayed messages, and tells of pauses: `follow(consumer)`."""
    tasks: list[asyncio.Task[None]] = []

    def start(consumer: Consumer) -> None:
        duty = run_periodically("delayed", Delayed(consumer).run_once)
        tasks.append(asyncio.create_task(duty))

    yield start
    await cancel_and_wait(tasks)


class Notes:
    """Handlers that fail at first and write down what they did, in order."""

    def __init__(self) -> None:
        self.handlers = Handlers()
        self.attempts: defaultdict[str, list[int]] = defaultdict(list)
        self.done: list[str] = []
        soon = Backoff(0.01, 1)
        self.handlers.on("*", name="work", attempts=3, backoff=soon)(self.work)

    async def work(self, delivery: Delivery[Message]) -> None:
        self.attempts[delivery.id].append(delivery.attempt)
        await asyncio.sleep(0.001)
        if delivery.attempt < 3 and delivery.id.endswith("0"):
            raise ValueError("not yet")
        self.done.append(delivery.id)


async def test_a_paused_handler_goes_on_with_every_message_in_order_and_all_its_attempts(
    stream: Producer,
    make_pool: MakePool,
    redis_client: redis.Redis,
    pauses: Pauses,
    follow: Callable[[Consumer], None],
) -> None:
    notes = Notes()
    for number in range(2):
        consumer = scripted(stream, f"w{number}")
        await make_pool(notes.handlers, consumer=consumer, concurrency=20)
        follow(consumer)
    some = [message(id=f"m{n:03}", key=f"k{n % 5}" if n % 2 else "") for n in range(200)]
    await stream.append(some[:100])
    await eventually(lambda: len(notes.done) > 20)
    await pauses.pause(WORK)
    await stream.append(some[100:])
    await eventually(lambda: is_drained(redis_client, stream))
    assert await held_back(pauses) > 50
    begun = Counter({name: len(attempts) for name, attempts in notes.attempts.items()})
    await asyncio.sleep(0.2)  # nothing begins meanwhile
    assert begun == Counter({name: len(attempts) for name, attempts in notes.attempts.items()})

    await resume(pauses, WORK)
    await eventually(lambda: len(notes.done) == 200)
    await eventually(lambda: is_drained(redis_client, stream))
    assert sorted(notes.done) == [one.id for one in some]
    assert all(
        attempts == ([1, 2, 3] if name.endswith("0") else [1])
        for name, attempts in notes.attempts.items()
    )
    by_key: defaultdict[str, list[str]] = defaultdict(list)
    keys = {one.id: one.key for one in some}
    for name in notes.done:
        by_key[keys[name]].append(name)
    assert all(names == sorted(names) for key, names in by_key.items() if key)


async def test_only_the_paused_handlers_copy_is_held_back(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis, pauses: Pauses
) -> None:
    work = Work()
    ran: list[str] = []
    work.handlers.on("*", name="other")(lambda delivery: ran.append(delivery.id))
    await pauses.pause(WORK)
    await make_pool(work.handlers, stream)
    await send(stream, "m0", "m1")
    await eventually(lambda: len(ran) == 2)
    await eventually(lambda: is_drained(redis_client, stream))
    assert (await held_back(pauses), work.ran) == (2, Counter())
    await resume(pauses, WORK)
    await eventually(lambda: work.done == Counter(m0=1, m1=1))
    await eventually(lambda: is_drained(redis_client, stream))
    assert sorted(ran) == ["m0", "m1"]


@pytest.mark.parametrize(
    "pause",
    [
        Pause(kind="source", value="acme"),
        Pause(kind="key", source="acme", value="k"),
    ],
)
async def test_a_paused_source_or_key_touches_no_other(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis, pauses: Pauses, pause: Pause
) -> None:
    work = Work()
    await pauses.pause(pause)
    pool = await make_pool(work.handlers, stream)
    # All that counts what was settled: an error of theirs would end the settling.
    rates = WorkerRates(RateHistory(stream.client), "main")
    pool.counters = (MessageMetrics("main", ["work"], 10).settled, rates.settled)
    some = [message(id=f"p{n}", source="acme", key="k") for n in range(3)]
    await stream.append([*some, message(id="other", source="stripe", key="k")])
    await eventually(lambda: work.done == Counter(other=1))
    await eventually(lambda: is_drained(redis_client, stream))
    assert await held_back(pauses) == 1  # the others of its key are parked behind it
    await resume(pauses, pause)
    await eventually(lambda: work.done == Counter(other=1, p0=1, p1=1, p2=1))
    await eventually(lambda: is_drained(redis_client, stream))


async def test_while_all_is_paused_nothing_begins_and_nobody_asks_all_the_time(
    stream: Producer,
    make_pool: MakePool,
    redis_client: redis.Redis,
    pauses: Pauses,
    follow: Callable[[Consumer], None],
) -> None:
    work, consumer = Work(), scripted(stream)
    takes: list[int] = []
    consumer.before_take = takes.append
    await make_pool(work.handlers, consumer=consumer)
    follow(consumer)
    await pauses.pause(ALL)
    await eventually(lambda: consumer.pauses.is_all)
    await send(stream, "m0", "m1", "m2")
    before = len(takes)
    await asyncio.sleep(0.5)
    assert len(takes) - before <= 3
    assert not work.ran
    await resume(pauses, ALL)
    await eventually(lambda: work.done == Counter(m0=1, m1=1, m2=1))
    await eventually(lambda: is_drained(redis_client, stream))


async def test_what_waits_for_a_thread_does_not_begin_after_a_pause(
    stream: Producer,
    make_pool: MakePool,
    redis_client: redis.Redis,
    pauses: Pauses,
    follow: Callable[[Consumer], None],
) -> None:
    handlers, begun = Handlers(), list[str]()
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    @handlers.on("*")
    def work(delivery: Delivery[Message]) -> None:
        begun.append(delivery.id)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()

    @handlers.on("never")
    async def so_that_not_all_need_a_thread(delivery: Delivery[Message]) -> None:
        pass

    consumer = scripted(stream)
    pool = await make_pool(handlers, consumer=consumer, concurrency=10)
    follow(consumer)
    await send(stream, *(f"m{n}" for n in range(10)))
    await eventually(lambda: len(begun) == 4 and pool.free_slots == 0)  # there are four threads
    await pauses.pause(Pause(kind="handler", value="work", names=("work",)))
    await eventually(lambda: are_held_back(pauses, 6))
    assert len(begun) == 4
    go_on.set()
    await resume(pauses, WORK)
    await eventually(lambda: sorted(begun) == [f"m{n}" for n in range(10)])
    await eventually(lambda: is_drained(redis_client, stream))


async def test_a_pause_ends_by_itself_when_its_time_has_come(
    stream: Producer,
    make_pool: MakePool,
    redis_client: redis.Redis,
    pauses: Pauses,
    follow: Callable[[Consumer], None],
) -> None:
    work, consumer = Work(), scripted(stream)
    await make_pool(work.handlers, consumer=consumer)
    follow(consumer)
    now: tuple[int, int] = redis_client.time()
    until_ms = now[0] * 1000 + 1500
    for pause in (WORK, ALL):
        await pauses.pause(Pause(kind=pause.kind, value=pause.value, until_ms=until_ms))
    await send(stream, "m0", "m1")
    await eventually(lambda: work.done == Counter(m0=1, m1=1))
    ended: tuple[int, int] = redis_client.time()
    assert ended[0] * 1000 + ended[1] / 1000 >= until_ms
    assert await pauses.listed() == []
    await eventually(lambda: is_drained(redis_client, stream))


async def test_a_paused_message_of_an_unknown_type_begins_its_grace_anew(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis, pauses: Pauses
) -> None:
    handlers, pause = Handlers(), Pause(kind="source", value="qstash")
    handlers.on("known", name="work")(lambda _: None)
    await pauses.pause(pause)
    await make_pool(handlers, stream)
    await stream.append([message(type="unknown")])
    await eventually(lambda: are_held_back(pauses, 1))
    key = stream.partitions[0].of_group("main").paused + ":source:qstash"
    (packed,) = redis_client.lrange(key, 0, -1)
    assert b"unknown\xa10" in packed
    redis_client.delete(key)


async def test_suspects_and_what_is_taken_over_are_held_back_too(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis, pauses: Pauses
) -> None:
    for name in ("dead1", "dead2"):
        gone = scripted(stream, name)
        await gone.open()
        if name == "dead1":
            await send(stream, "m0")
            await gone.take(1)
        else:
            await gone.recover(0, 1, 60, 9**9, [])
        await gone.close()
    keys = stream.partitions[0].of_group("main")
    redis_client.xclaim(keys.stream, "main", "dead2", 0, ["0-0"])
    await pauses.pause(WORK)
    work = Work()
    await make_pool(work.handlers, stream, lease=0.5)
    await eventually(lambda: are_held_back(pauses, 1))
    assert not work.ran
    await resume(pauses, WORK)
    await eventually(lambda: work.done == Counter(m0=1))
    await eventually(lambda: is_drained(redis_client, stream))


async def test_a_stop_while_paused_loses_nothing(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis, pauses: Pauses
) -> None:
    work = Work()
    pool: Pool = await make_pool(work.handlers, stream)
    await pauses.pause(WORK)
    await send(stream, *(f"m{n}" for n in range(20)))
    await pool.stop(5)
    await resume(pauses, WORK)
    await make_pool(work.handlers, stream)
    await eventually(lambda: work.done == Counter({f"m{n}": 1 for n in range(20)}))
    await eventually(lambda: is_drained(redis_client, stream))


async def test_a_worker_says_that_it_heeds_pauses_and_which_names_its_handlers_had(
    stream: Producer,
) -> None:
    handlers = Handlers()
    handlers.on("a", name="new", aliases=("old",))(lambda _: None)
    heartbeats = Heartbeats(stream.client, "main")
    await heartbeats.write(constant_part("w", Settings(), handlers))
    (beat,) = await heartbeats.read()
    assert (beat.can, beat.aliases) == (("pause", "replay", "stacks"), {"old": "new"})
