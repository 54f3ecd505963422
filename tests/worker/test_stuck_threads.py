"""Threads that are stuck in plain functions: their messages fail, and the worker ends."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import Any

import redis
import structlog

from hookmill import Delivery, Handlers
from hookmill.handlers import Next
from tests.support import eventually, wait_until
from tests.worker.attempts import Paid, Try, entry
from tests.worker.processes import WorkerProcesses
from worker.outcome import DeadLettered, Done, RetryLater
from worker.stuck_threads import watch_stuck_threads

DEAD = "hookmill:{0}:main:dead"


async def test_stuck_attempts_have_failed_and_what_is_in_time_goes_on(
    handlers: Handlers[Any], attempt: Try
) -> None:
    go_on, ended = threading.Event(), threading.Event()

    @handlers.on(Paid, timeout=0.01)
    def book(delivery: Delivery[Paid]) -> None:
        assert go_on.wait(10)
        ended.set()

    @handlers.on("in.time")
    def in_time(delivery: Delivery[Any]) -> None:
        assert go_on.wait(10)

    with structlog.testing.capture_logs() as logs:
        watch = asyncio.create_task(watch_stuck_threads(attempt.threads, 1))
        stuck = asyncio.create_task(attempt(entry(id="m1")))
        other = asyncio.create_task(attempt(entry(event_type="in.time")))
        outcome = await stuck
        await watch
    assert isinstance(outcome, RetryLater)
    assert outcome.progress.attempts == 1
    assert outcome.reason.startswith("TimeoutError: timeout in a thread")
    assert not other.done()
    (line,) = (line for line in logs if line["event"].startswith("too many"))
    assert re.fullmatch(r"m1 in book for \d\.\d s", line["messages"][0])
    go_on.set()
    assert await other == Done("in_time")
    await eventually(ended.is_set)  # it changes nothing any more
    await eventually(lambda: attempt.threads.usable == 2)


async def test_a_function_that_its_middleware_no_longer_waits_for_counts_too(
    handlers: Handlers[Any], attempt: Try
) -> None:
    go_on = threading.Event()

    @handlers.middleware
    async def impatient(delivery: Delivery[Any], call_next: Next) -> None:
        async with asyncio.timeout(0.02):
            await call_next(delivery)

    @handlers.on(Paid, timeout=0.05, attempts=1)
    def book(delivery: Delivery[Paid]) -> None:
        assert go_on.wait(10)

    assert isinstance(await attempt(), DeadLettered)
    async with asyncio.timeout(10):
        await watch_stuck_threads(attempt.threads, 1)
    go_on.set()
    await eventually(lambda: not attempt.threads.running())


async def test_with_0_a_worker_never_ends_because_of_stuck_threads(
    handlers: Handlers[Any], attempt: Try
) -> None:
    go_on = threading.Event()

    @handlers.on(Paid, timeout=0.01)
    def book(delivery: Delivery[Paid]) -> None:
        assert go_on.wait(10)

    watch = asyncio.create_task(watch_stuck_threads(attempt.threads, 0))
    running = asyncio.create_task(attempt())
    await eventually(attempt.threads.stuck)
    await asyncio.sleep(0.6)  # longer than the time between two looks
    assert not watch.done()
    watch.cancel()
    go_on.set()
    assert await running == Done("book")


# --- real processes -------------------------------------------------------------------------

POISON = """
from hookmill.handlers import Backoff

@handlers.on("poison", timeout=0.5, attempts=2, backoff=Backoff(first=0))
def poison(delivery):
    say(f"poison {delivery.attempt}")
    time.sleep(600)

@handlers.on("good")
def good(delivery):
    say("good")

@handlers.on("slow")
async def slow(delivery):
    say("slow began")
    await asyncio.sleep(3)
    say("slow ended")
"""


def test_poison_that_sticks_to_threads_ends_each_worker_and_becomes_a_dead_letter(
    processes: WorkerProcesses,
) -> None:
    """python-arq/arq#395: the leases of stuck messages were renewed for ever."""
    limits = {"HOOKMILL_THREADS": "4", "HOOKMILL_LEASE": "3600"}
    first = processes.start(POISON, **limits)
    first.wait_for("working")
    processes.send("slow", "poison", "poison")
    assert first.wait() == 1
    assert first.log.count("poison 1") == 2
    assert "slow ended" in first.log
    assert len(re.findall(r"m\d-\w+ in poison for \d\.\d s", first.log)) == 2
    assert processes.pending == 0
    second = processes.start(POISON, **limits)
    assert second.wait() == 1
    assert second.log.count("poison 2") == 2
    assert processes.is_drained()
    with redis.Redis.from_url(processes.server.url) as client:
        rows: Any = client.xrange(DEAD)
    assert [fields[b"attempts"] for _, fields in rows] == [b"2", b"2"]
    assert all(b"timeout in a thread" in fields[b"error"] for _, fields in rows)
    third = processes.start(POISON, **limits)
    processes.send("good")
    third.wait_for("good")
    wait_until(processes.is_drained)
    assert third.stop() == 0


def test_fewer_stuck_threads_keep_their_messages_and_the_worker_works_on(
    processes: WorkerProcesses,
) -> None:
    worker = processes.start(POISON, HOOKMILL_THREADS="4", HOOKMILL_STUCK_THREADS="3")
    worker.wait_for("working")
    processes.send("poison", "poison")
    wait_until(lambda: worker.log.count("overruns its timeout") == 2)
    processes.send("good")
    worker.wait_for("good")
    wait_until(lambda: processes.pending == 2)
    assert worker.returncode is None
