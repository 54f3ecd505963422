"""What consumes nothing is found, and what has a reason to take nothing is left alone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from hookmill.stream.first_waiting import FirstIDs, FirstWaiting
from hookmill.stream.producer import Producer
from hookmill.stream.takes import TAKE_BYTES
from tests.support import Clock, Server, Stream, eventually
from tests.worker.pools import MakePool, Work, names, scripted, send
from worker.consumption import PATIENCE, Consumption, patience_for
from worker.pool import Pool

pytestmark = pytest.mark.one_server


class Watched:
    """A pool whose consumption is looked at whenever the test's clock moves."""

    def __init__(self, pool: Pool, stream: Producer) -> None:
        self.pool = pool
        self.clock = Clock()
        self.is_paused = False
        self.consumption = Consumption(
            pool,
            FirstWaiting(stream.client, "main"),
            is_paused=lambda: self.is_paused,
            clock=self.clock,
        )

    async def after(self, seconds: float, each: Callable[[], Awaitable[Any]] | None = None) -> str:
        """Let so many seconds pass; return the code of what is found then."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            if each is not None:
                await each()
            pause = await self.consumption.run_once()  # the clock may move meanwhile
            self.clock.now += pause
        return "" if self.consumption.fault is None else self.consumption.fault.code


async def for_ever() -> Any:
    await asyncio.Event().wait()


async def wedged(make_pool: MakePool, stream: Producer) -> Watched:
    """A pool whose task hangs for ever instead of asking Redis."""
    consumer, hangs = scripted(stream), asyncio.Event()

    async def hang(*_: Any) -> Any:
        hangs.set()
        await for_ever()

    consumer.before_wait = hang
    pool = await make_pool(Work().handlers, consumer=consumer)
    await hangs.wait()  # until then it still takes
    return Watched(pool, stream)


async def test_a_pool_that_no_longer_turns_is_found_within_30_seconds_and_also_without_work(
    stream: Producer, make_pool: MakePool
) -> None:
    watched = await wedged(make_pool, stream)
    assert await watched.after(PATIENCE - 2) == ""
    assert await watched.after(30 - PATIENCE) == "consumes_nothing"
    assert "has not asked for messages" in str(watched.consumption.fault)


async def test_a_pool_that_turns_but_never_gets_what_waits_is_found_within_30_seconds(
    stream: Producer, make_pool: MakePool
) -> None:
    watched = await wedged(make_pool, stream)
    assert await watched.after(7) == ""
    await send(stream, "m0")

    async def turn() -> None:
        watched.pool.takes += 1

    assert await watched.after(PATIENCE - 2, turn) == ""
    assert await watched.after(30 - PATIENCE, turn) == "consumes_nothing"
    assert "a message has waited" in str(watched.consumption.fault)


async def test_an_idle_pool_is_healthy_however_long_nothing_comes(
    stream: Producer, make_pool: MakePool
) -> None:
    consumer = scripted(stream)
    watched = Watched(await make_pool(Work().handlers, consumer=consumer), stream)
    await watched.pool.opened.wait()
    assert await watched.after(600, consumer.stop_waiting) == ""


@pytest.mark.parametrize("reason", ["paused", "stopping", "not open yet"])
async def test_one_that_may_take_nothing_is_healthy(
    stream: Producer, make_pool: MakePool, reason: str
) -> None:
    watched = await wedged(make_pool, stream)
    await send(stream, "m0")
    watched.is_paused = reason == "paused"
    watched.pool._is_quiet = reason == "stopping"
    if reason == "not open yet":
        watched.pool.opened.clear()
    assert await watched.after(100) == ""


async def test_full_hands_are_healthy_while_work_waits(
    stream: Producer, make_pool: MakePool
) -> None:
    work = Work(wait=True)
    await send(stream, *names(5))
    watched = Watched(await make_pool(work.handlers, stream, concurrency=2), stream)
    await eventually(lambda: work.running == 2)
    assert await watched.after(100) == ""
    work.go_on.set()
    await eventually(lambda: len(work.done) == 5)


async def test_one_that_settles_nothing_is_found_unless_redis_is_to_blame(
    stream: Producer, make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer, hangs = scripted(stream), asyncio.Event()
    pool = await make_pool(Work().handlers, consumer=consumer)

    async def settle(*_: Any) -> list[str]:
        hangs.set()
        return await for_ever()  # type: ignore[no-any-return]  # it never does

    monkeypatch.setattr(consumer, "settle", settle)
    watched = Watched(pool, stream)
    await send(stream, "m0")
    await hangs.wait()
    assert await watched.after(30, consumer.stop_waiting) == "settles_nothing"
    pool._settler._log_pace.failed()
    assert await watched.after(2) == ""
    monkeypatch.undo()
    assert pool._settler._flushing is not None
    pool._settler._flushing.cancel()
    await eventually(lambda: pool._settler._flushing is None)
    await pool._settler.drain()


@pytest.fixture
def frozen(own_server: Callable[..., Server]) -> Server:
    """A server that a test freezes."""
    return own_server()


@pytest.fixture
async def patient(frozen: Server) -> AsyncIterator[Stream]:
    """A stream on it that waits as long as a busy machine needs."""
    stream = Stream(frozen.url, "t", timeout=30.0)
    yield stream
    await stream.close()


@pytest.fixture
async def hasty(frozen: Server) -> AsyncIterator[Stream]:
    """A stream on it that does not wait for long, and is asked only while it is frozen."""
    stream = Stream(frozen.url, "t", timeout=0.1)
    yield stream
    await stream.close()


async def test_while_redis_does_not_answer_nobody_is_unhealthy(
    frozen: Server, patient: Stream, hasty: Stream, make_pool: MakePool
) -> None:
    watched = await wedged(make_pool, patient)
    assert await watched.after(PATIENCE - 2) == ""
    frozen.signal(signal.SIGSTOP)
    watched.consumption._waiting = FirstWaiting(hasty.client, "main")
    assert await watched.after(10) == ""
    frozen.signal(signal.SIGCONT)
    watched.consumption._waiting = FirstWaiting(patient.client, "main")
    assert await watched.after(PATIENCE - 2) == ""  # the time counts anew
    assert await watched.after(8) == "consumes_nothing"


class Slow(FirstWaiting):
    """Answers after so many seconds of the test's clock."""

    def __init__(self, stream: Producer, clock: Clock, seconds: float) -> None:
        super().__init__(stream.client, "main")
        self._clock, self._seconds = clock, seconds

    async def look(self) -> FirstIDs:
        self._clock.now += self._seconds
        return await super().look()


async def test_the_time_until_an_answer_of_redis_does_not_count(
    stream: Producer, make_pool: MakePool
) -> None:
    watched = await wedged(make_pool, stream)
    await send(stream, "m0")
    quick = watched.consumption._waiting
    assert await watched.after(PATIENCE - 4) == ""
    watched.consumption._waiting = Slow(stream, watched.clock, 30.0)
    assert await watched.after(1) == ""
    watched.consumption._waiting = quick
    assert await watched.after(6) == "consumes_nothing"


async def test_a_pool_that_no_longer_turns_is_found_also_where_each_answer_comes_late(
    stream: Producer, make_pool: MakePool
) -> None:
    watched = await wedged(make_pool, stream)
    await send(stream, "m0")
    watched.consumption._waiting = Slow(stream, watched.clock, 4.0)
    assert await watched.after(PATIENCE) == ""
    assert await watched.after(3 * PATIENCE) == "consumes_nothing"


async def test_a_process_that_stood_still_is_given_its_time(
    stream: Producer, make_pool: MakePool
) -> None:
    watched = await wedged(make_pool, stream)
    assert await watched.after(10) == ""
    watched.clock.now += 60
    assert await watched.after(4) == ""


def test_a_worker_that_takes_much_at_once_over_a_slow_line_is_given_longer() -> None:
    assert patience_for(1) == patience_for(TAKE_BYTES) == PATIENCE
    assert patience_for(TAKE_BYTES + 100 * 1024 * 1024) == PATIENCE + 100
