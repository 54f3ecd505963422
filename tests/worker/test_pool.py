"""The pool runs no more than it has hands for, and loses nothing whatever happens around it."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import structlog

from hookmill import Delivery, Handlers, Retry
from hookmill.errors import StreamUnavailableError
from hookmill.message import Message, Progress
from hookmill.runtime.tasks import cancel_and_wait
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import Entry, Settlement, Taken
from hookmill.stream.producer import Producer
from tests.support import Server, dead_letters, eventually, hurry, message
from worker import pool as pool_module
from worker import settler as settler_module
from worker.attempt import Attempter
from worker.outcome import Outcome
from worker.pool import Pool
from worker.takeover import Takeover

OpenGroup = Callable[..., Awaitable[Consumer]]
MakePool = Callable[..., Awaitable[Pool]]

FOR_EVER = 1e9


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "PAUSE", 0.02)
    monkeypatch.setattr(pool_module, "LAST_STEP", 0.15)
    monkeypatch.setattr(settler_module, "PAUSE", 0.02)


class Trouble(Consumer):
    """A group that behaves as a test tells it to."""

    before_take: Callable[[int], Any] = staticmethod(lambda _: None)
    after_take: Callable[[], Any] = staticmethod(lambda: None)
    before_wait: Callable[[], Awaitable[Any]] = staticmethod(lambda: asyncio.sleep(0))
    after_sweep: Callable[[Taken], Any] = staticmethod(lambda _: None)
    after_wait: Callable[[], Awaitable[Any]] = staticmethod(lambda: asyncio.sleep(0))
    after_settle: Callable[[], Any] = staticmethod(lambda: None)
    settle_fault: Exception | None = None
    uptime: float | None = None

    async def take(self, count: int) -> Taken:
        self.before_take(count)
        taken = await super().take(count)
        self.after_take()
        return taken

    async def take_over(
        self, count: int, lease: float, pause: float, in_touch: int = 0
    ) -> tuple[Taken, float]:
        taken, wait = await super().take_over(count, lease, pause, in_touch)
        self.after_sweep(taken)
        return taken, wait

    async def wait(self, seconds: float) -> bool:
        await self.before_wait()
        rung = await super().wait(seconds)
        if rung:
            await self.after_wait()
        return rung

    async def settle(self, settlements: Iterable[Settlement]) -> list[str]:
        if self.settle_fault is not None:
            raise self.settle_fault
        late = await super().settle(settlements)
        self.after_settle()
        return late

    async def redis_uptime(self) -> float:
        return await super().redis_uptime() if self.uptime is None else self.uptime


@pytest.fixture
async def make_pool() -> AsyncIterator[MakePool]:
    """Start a pool: `await make_pool(handlers, stream, concurrency=1)`; stopped at the end."""
    pools: list[Pool] = []
    threads = ThreadPoolExecutor(4, thread_name_prefix="handler")

    async def make(
        handlers: Handlers[Any],
        stream: Producer | None = None,
        *,
        concurrency: int = 10,
        lease: float = FOR_EVER,
        group: Consumer | None = None,
        attempter: type[Attempter] = Attempter,
        start: bool = True,
    ) -> Pool:
        if group is None:
            assert stream is not None
            group = trouble(stream, f"c{len(pools)}")
        pool = Pool(
            group,
            attempter(handlers, None, threads, grace=600),
            Takeover(group, lease),
            concurrency,
        )
        pools.append(pool)
        if start:
            await group.open()
            pool.start()
        return pool

    yield make
    for pool in pools:
        await pool.stop(0)
        await pool._group.close()
    threads.shutdown()


def trouble(stream: Producer, consumer: str = "troubled") -> Trouble:
    return Trouble(stream, "main", consumer, dedup_window=3600)


class Work:
    """Handlers that count what ran, and wait for `go_on` where they are told to."""

    def __init__(self, *, wait: bool = False) -> None:
        self.handlers = Handlers()
        self.ran: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.running = self.most = 0
        self.go_on = asyncio.Event()
        self.fails: Exception | None = None
        if not wait:
            self.go_on.set()
        self.handlers.on("*", name="work", attempts=3)(self.work)

    async def work(self, delivery: Delivery[Message]) -> None:
        self.ran[delivery.id] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go_on.wait()
            await asyncio.sleep(0)
        finally:
            self.running -= 1
        if self.fails is not None:
            raise self.fails
        self.done[delivery.id] += 1


def names(count: int) -> list[str]:
    return [f"m{n}" for n in range(count)]


async def send(stream: Producer, *message_ids: str) -> None:
    await stream.append([message(id=message_id) for message_id in message_ids])


def pending(client: redis.Redis, stream: Producer) -> int:
    keys = stream.partitions[0].of_group("main")
    return sum(int(client.xpending(key, "main")["pending"]) for key in (keys.stream, keys.again))


def is_drained(client: redis.Redis, stream: Producer) -> bool:
    """Whether all there is was read and settled."""
    keys = stream.partitions[0].of_group("main")
    unread = client.xread({keys.stream: last_read(client, keys.stream)}, count=1)
    return not unread and not pending(client, stream) and not client.xlen(keys.again)


def last_read(client: redis.Redis, key: str) -> Any:
    groups: Any = client.xinfo_groups(key)
    return next(group["last-delivered-id"] for group in groups if group["name"] == b"main")


async def is_waiting(client: redis.Redis) -> None:
    await eventually(lambda: any("b" in row["flags"] for row in client.client_list()))


# --- the plain run --------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 7, 1000])
async def test_every_message_is_handled_once_and_settled(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis, concurrency: int
) -> None:
    work = Work()
    await send(stream, *names(100), *names(100))  # and each one repeated
    pool = await make_pool(work.handlers, stream, concurrency=concurrency)
    await eventually(lambda: sum(work.done.values()) >= 100)
    await send(stream, "later", "m3")
    await eventually(lambda: work.done["later"])
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.done == Counter([*names(100), "later"])
    assert work.most <= concurrency
    await eventually(lambda: not pool.in_hand)


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
        await pool._group.release(10)
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
    await eventually(DeadLetters(stream, "main").count)
    (letter,) = await dead_letters(stream)
    assert letter.fields[b"reason"] == b"failed"
    assert b"no such account" in letter.fields[b"error"]
    works = True
    assert await DeadLetters(stream, "main").replay([letter.id]) == 1
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
    # The rest is there for other workers, and nothing had to be handed back.
    assert pending(redis_client, stream) == concurrency
    assert redis_client.xlen(stream.partitions[0].of_group("main").again) == 0
    work.go_on.set()
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.most == concurrency
    assert work.done == Counter(names(20))


async def test_most_of_the_free_hands_take_at_a_time_until_few_are_left(
    stream: Producer, make_pool: MakePool
) -> None:
    asked: list[int] = []
    work = Work(wait=True)
    group = trouble(stream)
    group.before_take = asked.append
    await send(stream, *names(32))
    await make_pool(work.handlers, concurrency=32, group=group)
    await eventually(lambda: work.running == 32)
    assert asked == [24, 6, 2]
    work.go_on.set()


async def test_a_single_free_hand_is_used_where_no_other_gets_free(
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


async def test_of_two_that_came_at_once_the_one_without_a_hand_is_handed_back(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    # A wait looks at both streams, and in a rare race brings an entry of each.
    work = Work()
    group = trouble(stream)

    async def race() -> None:
        if not work.ran:
            owned = {**message(id="m0").to_fields(), b"owner": b"1-1"}
            redis_client.xadd(group.partitions[0].again, owned)  # type: ignore[arg-type]
            await send(stream, "m1")

    group.before_wait = race
    with structlog.testing.capture_logs() as logs:
        await make_pool(work.handlers, concurrency=1, group=group)
        await eventually(lambda: len(work.done) == 2)
        await eventually(lambda: is_drained(redis_client, stream))
    assert work.ran == work.done == Counter(names(2))
    assert work.most == 1
    handed_back = [line for line in logs if line["event"] == "handed back"]
    assert not handed_back  # it never began, so there is nothing to say


async def test_nothing_is_taken_while_too_many_outcomes_are_unwritten(
    stream: Producer,
    make_pool: MakePool,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "UNSETTLED", 5)
    work = Work()
    group = trouble(stream)
    group.settle_fault = StreamUnavailableError("away")
    await send(stream, *names(50))
    pool = await make_pool(work.handlers, concurrency=2, group=group)
    await eventually(lambda: pool.free_hands == 0 and pool.is_idle)
    assert 5 <= sum(work.done.values()) <= 6
    assert pending(redis_client, stream) == len(pool.in_hand)
    group.settle_fault = None
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.done == Counter(names(50))


async def test_after_a_failure_little_is_taken_at_first(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    # Bodies may be so huge that a hundred of them never arrive in time.
    def refuse(count: int) -> None:
        asked.append(count)
        if count > 4:
            raise StreamUnavailableError("timed out")

    asked: list[int] = []
    work = Work()
    group = trouble(stream)
    group.before_take = refuse
    await send(stream, *names(50))
    await make_pool(work.handlers, concurrency=100, group=group)
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.done == Counter(names(50))
    assert asked[:6] == [75, 1, 2, 4, 8, 1]


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
    await eventually(lambda: pool.is_idle and not pool.in_hand)
    assert work.done == Counter(names(2))
    assert pending(redis_client, stream) == 0


async def test_what_comes_after_quiet_was_asked_for_is_handed_back(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    first, second = Work(), Work()
    group = trouble(stream)
    await send(stream, *names(5))
    pool = await make_pool(first.handlers, group=group, start=False)
    await group.open()
    group.after_take = lambda: setattr(pool, "_quiet", True)
    pool.start()
    await eventually(lambda: redis_client.xlen(group.partitions[0].again) == 5)
    await pool.stop(5)
    assert not first.ran
    assert not pool.in_hand
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
        assert not pool.in_hand
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
    await eventually(lambda: pool._quiet)
    work.go_on.set()
    await stopping
    assert work.done == Counter(names(3))
    assert is_drained(redis_client, stream)


async def test_what_does_not_finish_is_handed_back_and_another_gets_it_at_once(
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
    assert attempts == [1]  # being handed back does not count
    await eventually(lambda: is_drained(redis_client, stream))


async def test_a_plain_function_past_the_deadline_is_handed_back_and_its_thread_noticed(
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
    assert pool._attempter.has_busy_threads
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
    # Neither settled nor handed back: it is still running, and its lease runs out with us.
    assert pending(redis_client, stream) == 1
    let_go.set()
    await eventually(lambda: is_drained(redis_client, stream))


@pytest.mark.parametrize("away", ["killed", "frozen"])
@pytest.mark.parametrize("doing", ["waiting", "running", "full"])
async def test_a_pool_ends_in_time_without_redis(
    own_server: Callable[..., Server], make_pool: MakePool, away: str, doing: str
) -> None:
    server = own_server()
    stream = Producer(server.url, "t")
    work = Work(wait=True)
    pool = await make_pool(
        work.handlers,
        concurrency=1 if doing == "full" else 10,
        group=trouble(stream),
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


async def test_a_bell_that_rang_with_the_last_breath_of_redis_does_not_hold_up_the_end(
    own_server: Callable[..., Server], make_pool: MakePool
) -> None:
    server = own_server()
    stream = Producer(server.url, "t")
    group = trouble(stream)

    sent, dead = asyncio.Event(), asyncio.Event()

    async def die() -> None:
        await sent.wait()
        server.kill()
        dead.set()

    group.after_wait = die
    pool = await make_pool(Work().handlers, group=group)
    with redis.Redis.from_url(server.url) as client:
        await is_waiting(client)
    await send(stream, "m")
    hurry(stream, 0.2)
    sent.set()
    await dead.wait()
    async with asyncio.timeout(10):
        await pool.quiet()
    assert not pool.in_hand
    await stream.close()


# --- lost and found -------------------------------------------------------------------------


async def test_messages_whose_taking_was_never_answered_are_taken_over(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    faults = [StreamUnavailableError("timed out")]

    def lose() -> None:
        if faults:
            raise faults.pop()

    work = Work()
    group = trouble(stream)
    group.uptime = FOR_EVER
    group.after_take = lose
    await send(stream, *names(5))
    pool = await make_pool(work.handlers, group=group, lease=0.1)
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.ran == Counter(names(5))
    await eventually(lambda: not pool.in_hand)


async def test_a_silent_worker_loses_its_messages_and_its_late_outcome_is_dropped(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    # Nobody renews here: the first pool is as silent as a stopped process.
    silent, other = Work(wait=True), Work()
    silent.fails = ValueError("too late")
    first = await make_pool(silent.handlers, stream)
    await send(stream, *names(3))
    await eventually(lambda: silent.running == 3)

    group = trouble(stream, "other")
    group.uptime = FOR_EVER
    await make_pool(other.handlers, group=group, lease=0.1)
    await eventually(lambda: other.done == Counter(names(3)))
    await eventually(lambda: is_drained(redis_client, stream))
    with structlog.testing.capture_logs() as logs:
        silent.go_on.set()
        await eventually(lambda: not first.in_hand)
    (late,) = [line for line in logs if line["event"].startswith("dropped late outcomes")]
    assert len(late["entries"]) == 3
    assert redis_client.zcard(group.partitions[0].delayed) == 0


async def test_a_retry_after_the_takeover_does_not_disturb_the_new_holder(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    silent, other = Work(wait=True), Work(wait=True)
    silent.fails = Retry(after=0)
    first = await make_pool(silent.handlers, stream)
    await send(stream, "m")
    await eventually(lambda: silent.running)
    group = trouble(stream, "other")
    group.uptime = FOR_EVER
    second = await make_pool(other.handlers, group=group, lease=0.1)
    await eventually(lambda: other.running)
    silent.go_on.set()
    await eventually(lambda: not first.in_hand)
    assert len(second.in_hand) == 1
    assert pending(redis_client, stream) == 1
    assert redis_client.xlen(group.partitions[0].again) == 0
    other.go_on.set()
    await eventually(lambda: is_drained(redis_client, stream))
    assert (silent.ran + other.ran)["m"] == 2


async def test_a_sweep_that_is_always_due_keeps_nothing_new_waiting(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work()
    group = trouble(stream, "c1")
    group.uptime = FOR_EVER
    await send(stream, "before")  # it rings for nobody
    await make_pool(work.handlers, group=group, lease=0.0)
    await eventually(lambda: work.done["before"])
    await send(stream, "after")
    await eventually(lambda: work.done["after"])
    await eventually(lambda: is_drained(redis_client, stream))


async def test_a_sweep_leaves_alone_what_is_in_hand_and_unsettled(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work()
    group = trouble(stream)
    group.uptime = FOR_EVER
    group.settle_fault = StreamUnavailableError("away")
    sweeps: list[int] = []
    group.after_sweep = lambda taken: sweeps.append(len(taken.entries))
    await send(stream, *names(3))
    await make_pool(work.handlers, group=group, lease=0.1)
    await eventually(lambda: sum(sweeps) >= 3)
    group.settle_fault = None
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.ran == Counter(names(3))


async def test_a_bell_that_rings_while_a_sweep_is_due_is_heeded(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work()
    group = trouble(stream)
    group.uptime = FOR_EVER
    pool = await make_pool(work.handlers, group=group, lease=0.5, start=False)

    async def make_due() -> None:
        pool._takeover._next = 0

    group.after_wait = make_due
    await group.open()
    pool.start()
    for number in range(5):
        await is_waiting(redis_client)
        await send(stream, f"m{number}")
        await eventually(lambda: sum(work.done.values()) > number)  # noqa: B023 - waited for here
    await eventually(lambda: is_drained(redis_client, stream))


async def test_a_message_whose_bell_nobody_heard_is_found_between_two_sweeps(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    work = Work()
    group = trouble(stream)
    group.uptime = FOR_EVER
    key = group.partitions[0].stream

    async def ring_for_another() -> None:
        if not redis_client.xlen(key):
            await send(stream, "m")
            redis_client.xgroup_setid(key, "main:bell", "$")  # who heard it has died

    group.before_wait = ring_for_another
    await make_pool(work.handlers, group=group, lease=0.5)
    await eventually(lambda: work.done["m"])
    await eventually(lambda: is_drained(redis_client, stream))


async def test_a_repeat_that_was_waited_for_is_let_go(
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
    assert logs == [{"event": "repeat dropped", "id": "m", "log_level": "info"}]
    assert not pool.in_hand
    assert work.ran == {"m": 1}


async def test_a_sweep_claims_no_more_than_there_are_free_hands_and_the_rest_is_for_others(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    busy, idle = Work(wait=True), Work()
    gone = trouble(stream, "gone")
    await gone.open()
    await send(stream, *names(8))
    held: list[Any] = [entry.ref.id for entry in (await gone.take(8)).entries]
    key = gone.partitions[0].stream
    redis_client.xclaim(key, "main", "gone", 0, held, idle=60_000, justid=True)
    pools = []
    for number, (work, concurrency) in enumerate(((busy, 2), (idle, 10))):
        group = trouble(stream, f"c{number}")
        group.uptime = FOR_EVER
        pool = await make_pool(
            work.handlers, group=group, concurrency=concurrency, lease=30, start=False
        )
        pool._takeover._next = 0  # it has been in touch for long
        pools.append(pool)

    pools[0].start()
    await eventually(lambda: busy.running == 2)
    await asyncio.sleep(0.1)  # time for what must not happen
    assert (busy.running, len(pools[0].in_hand)) == (2, 2)
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

    group = trouble(stream)
    group.after_settle = lose
    pool = await make_pool(handlers, group=group)
    await send(stream, "m")
    await eventually(lambda: len(attempts) >= 2)
    await eventually(lambda: is_drained(redis_client, stream) and not pool.in_hand)
    assert attempts == [1, 1]


# --- suspects -------------------------------------------------------------------------------


async def suspect(stream: Producer, client: redis.Redis) -> str:
    """Have a message be held by a worker that died of it, as one did before; return its entry."""
    gone = trouble(stream, "gone")
    await gone.open()
    await send(stream, "suspect")
    (entry,) = (await gone.take(1)).entries
    held: list[Any] = [entry.ref.id]
    key = gone.partitions[0].stream
    client.xclaim(key, "main", "gone", 0, held, idle=60_000, retrycount=2, justid=True)
    await gone.close()
    return entry.ref.id


async def pool_that_sweeps(make_pool: MakePool, stream: Producer, work: Work) -> Pool:
    group = trouble(stream, f"c-{id(work)}")
    group.uptime = FOR_EVER
    return await make_pool(work.handlers, group=group, concurrency=5, lease=0.1)


async def test_a_suspect_begins_when_nothing_else_runs_and_nothing_begins_beside_it(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    handlers = Handlers()
    running: set[str] = set()
    beside: list[set[str]] = []
    gates = {"suspect": asyncio.Event(), "others": asyncio.Event()}

    @handlers.on("*")
    async def work(delivery: Delivery[Message]) -> None:
        running.add(delivery.id)
        beside.append(set(running))
        await gates["suspect" if delivery.id == "suspect" else "others"].wait()
        running.remove(delivery.id)

    await suspect(stream, redis_client)
    await send(stream, "m0", "m1")
    group = trouble(stream)
    group.uptime = FOR_EVER
    pool = await make_pool(handlers, group=group, concurrency=5, lease=0.1)
    await eventually(lambda: pool._suspects or "suspect" in running)
    assert running == {"m0", "m1"}
    await send(stream, "m2", "m3")
    gates["others"].set()
    await eventually(lambda: "suspect" in running)
    await asyncio.sleep(0.1)  # time for what must not happen
    gates["suspect"].set()
    await eventually(lambda: is_drained(redis_client, stream))
    assert [each for each in beside if "suspect" in each] == [{"suspect"}]
    assert len(beside) == 5


async def test_what_ended_its_worker_three_times_while_alone_is_buried(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    entry_id = await suspect(stream, redis_client)
    keys = stream.partitions[0].of_group("main")
    redis_client.hset(keys.suspects, f"1 {entry_id}", "3")
    work = Work()
    await pool_that_sweeps(make_pool, stream, work)
    await eventually(lambda: is_drained(redis_client, stream))
    assert not work.ran
    (letter,) = await dead_letters(stream)
    assert letter.fields[b"reason"] == b"crashed"
    assert not redis_client.exists(keys.suspects)
    redis_client.delete(keys.dead)


async def test_a_suspect_that_is_handed_back_is_none_any_longer(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    await suspect(stream, redis_client)
    await send(stream, "m0")
    leaving, staying = Work(wait=True), Work()
    first = await pool_that_sweeps(make_pool, stream, leaving)
    await eventually(lambda: first._suspects)
    await first.stop(0)
    assert pending(redis_client, stream) == 0
    # In nobody's hand, and nobody has to be silent before it is taken again.
    await make_pool(staying.handlers, stream)
    await eventually(lambda: is_drained(redis_client, stream))
    assert staying.done == Counter(["m0", "suspect"])
    assert not redis_client.exists(stream.partitions[0].of_group("main").suspects)


# --- faults ---------------------------------------------------------------------------------


async def test_nothing_is_lost_when_redis_dies_and_comes_back(
    own_server: Callable[..., Server], make_pool: MakePool
) -> None:
    server = own_server("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    stream = Producer(server.url, "t")
    work = Work()
    sent = names(300)
    group = trouble(stream, "c1")
    group.uptime = FOR_EVER  # or the test would wait for Redis to grow old
    await send(stream, *sent)
    pool = await make_pool(work.handlers, concurrency=5, group=group, lease=0.3)
    await eventually(lambda: len(work.done) >= 50)
    server.kill()
    await asyncio.sleep(0)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        await eventually(lambda: is_drained(client, stream))
    assert set(work.done) == set(sent)
    # Only what was in hand can have run twice: its acknowledgement may be lost.
    assert sum(work.ran.values()) <= 300 + 5 + 5
    await pool.stop(5)
    await stream.close()


@pytest.mark.parametrize("lost", ["group", "again", "everything"])
async def test_a_lost_group_is_made_anew(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis, lost: str
) -> None:
    work = Work()
    await make_pool(work.handlers, stream)
    await send(stream, "before")
    await eventually(lambda: is_drained(redis_client, stream))
    await stream.trim(retention=3600)
    await is_waiting(redis_client)
    keys = stream.partitions[0].of_group("main")
    if lost == "group":
        redis_client.xgroup_destroy(keys.stream, "main")
    elif lost == "again":
        redis_client.delete(keys.again)
    else:
        redis_client.delete(keys.stream, keys.again)
    await send(stream, "after")
    await eventually(lambda: work.done["after"])
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.ran == {"before": 1, "after": 1}


async def test_an_unexpected_fault_does_not_end_the_taking(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    faults = [RuntimeError("a fault of ours")]

    def fail(count: int) -> None:
        if faults:
            raise faults.pop()

    work = Work()
    group = trouble(stream)
    group.before_take = fail
    with structlog.testing.capture_logs() as logs:
        await make_pool(work.handlers, group=group)
        await send(stream, "m")
        await eventually(lambda: work.done["m"])
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [
        "taking failed, trying again"
    ]
    await eventually(lambda: is_drained(redis_client, stream))


async def test_a_fault_of_our_own_in_an_attempt_keeps_the_message(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    class Broken(Attempter):
        async def attempt(self, entry: Entry, progress: Progress) -> Outcome:
            raise RuntimeError(f"a fault of ours with {entry.ref.id} of {progress.owner}")

    pool = await make_pool(Work().handlers, stream, concurrency=1, attempter=Broken)
    await send(stream, "a", "b")

    async def both() -> bool:
        return await DeadLetters(stream, "main").count() == 2

    await eventually(both)
    for letter in await dead_letters(stream):
        assert letter.fields[b"reason"] == b"internal_error"
        assert b"a fault of ours" in letter.fields[b"error"]
    await eventually(lambda: not pool.in_hand)
    redis_client.delete(stream.partitions[0].of_group("main").dead)


async def test_a_log_that_cannot_be_written_costs_no_message(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    def full(logger: Any, method: str, line: Any) -> Any:
        raise OSError(28, "No space left on device")

    structlog.configure(processors=[full], cache_logger_on_first_use=False)
    work = Work()
    pool = await make_pool(work.handlers, stream, concurrency=2)
    await send(stream, *names(10))
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.done == Counter(names(10))
    await eventually(lambda: not pool.in_hand)
    structlog.reset_defaults()


async def test_a_pool_that_was_cancelled_is_seen_to_have_ended(
    stream: Producer, make_pool: MakePool
) -> None:
    pool = await make_pool(Work().handlers, stream, start=False)
    taking = pool.start()
    await cancel_and_wait([taking])
    assert taking.done()
    await pool.quiet()
