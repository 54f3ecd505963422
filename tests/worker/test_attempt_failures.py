"""A topic of attempts: however a handler fails or is cancelled, the outcome says it truly."""

from __future__ import annotations

import asyncio
import concurrent.futures
import re
import sys
from typing import Any

import pytest
import structlog

from hookmill import Delivery, Handlers
from hookmill.error_text import MAX_ERROR, MAX_SUMMARY
from hookmill.handlers import Backoff
from hookmill.message import Message, Progress
from hookmill.stream.entries import Entry
from tests.support import eventually
from tests.worker.attempts import NOW, OWNER, Paid, Try, attempted, entry
from worker.attempt import Attempter
from worker.outcome import (
    DeadLettered,
    Done,
    Outcome,
    Requeued,
    RetryLater,
)

# --- failures -------------------------------------------------------------------------------


async def test_a_failure_is_counted_and_retried_after_its_backoff(
    handlers: Handlers[Any], attempt: Try
) -> None:
    @handlers.on(Paid, attempts=3, backoff=Backoff(first=10, factor=2))
    async def book(delivery: Delivery[Paid]) -> None:
        raise ValueError("no such account")

    first = await attempt()
    assert isinstance(first, RetryLater)
    assert first.progress == Progress(
        owner=OWNER, handler="book", attempts=1, failed_ms=int(NOW * 1000)
    )
    assert 0 <= first.after <= 10
    assert first.reason == "ValueError: no such account"
    assert "Traceback" in first.error
    assert "in book" in first.error

    attempt.now += 100
    second = await attempt(entry(progress=first.progress))
    assert isinstance(second, RetryLater)
    assert (second.progress.attempts, second.progress.failed_ms) == (2, int(NOW * 1000))

    third = await attempt(entry(progress=second.progress))
    assert isinstance(third, DeadLettered)
    assert (third.reason, third.progress.attempts) == ("failed", 3)
    assert third.error.endswith("ValueError: no such account\n")


async def test_the_errors_of_a_task_group_and_their_notes_are_summed_up(
    handlers: Handlers[Any], attempt: Try
) -> None:
    async def fail(error: Exception) -> None:
        error.add_note("for order o1")
        raise error

    @handlers.on(Paid, attempts=2)
    async def book(delivery: Delivery[Paid]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(ValueError("no such account")))
            group.create_task(fail(KeyError("o1")))

    said = "ValueError: no such account; KeyError: 'o1'; note: for order o1; note: for order o1"
    first = await attempt()
    assert isinstance(first, RetryLater)
    assert first.reason == said
    last = await attempt(entry(progress=first.progress))
    assert isinstance(last, DeadLettered)
    assert last.error.splitlines()[-1] == said
    assert "in book" in last.error


class Odd(BaseException):
    """An error that is no `Exception`, as some libraries raise."""


def leave() -> None:
    sys.exit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


def be_odd() -> None:
    raise Odd("odd")


def cancel() -> None:
    raise asyncio.CancelledError("mine")


def cancel_future() -> None:
    raise concurrent.futures.CancelledError


def several() -> None:
    raise BaseExceptionGroup("two", [ValueError("one"), Odd("other")])


def stop_iteration() -> None:
    next(iter([]))


def close_generator() -> None:
    raise GeneratorExit


def recurse() -> None:
    recurse()


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize(
    ("end", "error"),
    [
        (leave, "SystemExit: 3"),
        (interrupt, "KeyboardInterrupt"),
        (be_odd, "Odd: odd"),
        (close_generator, "GeneratorExit"),
        (cancel, "CancelledError"),
        (cancel_future, "CancelledError"),
        (several, "BaseExceptionGroup: two"),
        (stop_iteration, "RuntimeError: .*raised StopIteration"),
        (recurse, "RecursionError: maximum recursion depth"),
    ],
)
async def test_however_a_handler_ends_it_is_a_failure_of_this_message_alone(
    handlers: Handlers[Any], attempt: Try, kind: str, end: Any, error: str
) -> None:
    @handlers.on("async")
    async def on_the_loop(delivery: Delivery[Message]) -> None:
        end()

    @handlers.on("plain")
    def in_a_thread(delivery: Delivery[Message]) -> None:
        end()

    async with asyncio.timeout(5):
        outcome = await attempt(entry(event_type=kind))
    assert isinstance(outcome, RetryLater)
    assert outcome.progress.attempts == 1
    assert re.search(error, outcome.error)


async def test_a_handler_that_cancels_its_own_task_fails(
    handlers: Handlers[Any], attempt: Try
) -> None:
    # Old timeout libraries do so. If it were requeued, it would run again for ever.
    @handlers.on(Paid)
    async def book(delivery: Delivery[Paid]) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)

    outcome = await asyncio.create_task(attempt())
    assert isinstance(outcome, RetryLater)
    assert outcome.progress.attempts == 1


async def test_something_the_handler_awaited_was_cancelled(
    handlers: Handlers[Any], attempt: Try
) -> None:
    @handlers.on(Paid)
    async def book(delivery: Delivery[Paid]) -> None:
        inner = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        inner.cancel()
        await inner

    outcome = await attempt()
    assert isinstance(outcome, RetryLater)
    assert outcome.reason == "asyncio.exceptions.CancelledError"


async def test_a_handler_beyond_its_timeout_is_cancelled_and_has_failed(
    handlers: Handlers[Any], attempt: Try
) -> None:
    ended = []

    @handlers.on(Paid, timeout=0.01)
    async def book(delivery: Delivery[Paid]) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    outcome = await attempt()
    assert isinstance(outcome, RetryLater)
    assert outcome.reason == "TimeoutError: ran longer than its timeout of 0.01 s"
    assert "await asyncio.sleep(60)" in outcome.error  # where it was
    assert ended == [True]


async def test_a_timeout_of_the_handlers_own_is_shown_as_such(
    handlers: Handlers[Any], attempt: Try
) -> None:
    @handlers.on(Paid)
    async def book(delivery: Delivery[Paid]) -> None:
        raise TimeoutError("the bank is slow")

    outcome = await attempt()
    assert isinstance(outcome, RetryLater)
    assert outcome.reason == "TimeoutError: the bank is slow"


async def test_a_handler_that_swallows_its_cancellation_and_ends_well_is_done(
    handlers: Handlers[Any], attempt: Try
) -> None:
    @handlers.on(Paid, timeout=0.01)
    async def book(delivery: Delivery[Paid]) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    with structlog.testing.capture_logs() as logs:
        assert await attempt() == Done("book")
    assert [line["event"] for line in logs] == ["handler overran its timeout"]


@pytest.mark.parametrize("length", [10, 10_000_000])
async def test_a_huge_error_is_cut(handlers: Handlers[Any], attempt: Try, length: int) -> None:
    @handlers.on(Paid, attempts=2)
    async def book(delivery: Delivery[Paid]) -> None:
        raise ValueError("x" * length + "!")

    first = await attempt()
    assert isinstance(first, RetryLater)
    assert len(first.reason) <= MAX_SUMMARY
    assert first.reason.startswith("ValueError: xxx")
    assert len(first.error) <= MAX_ERROR
    last = await attempt(entry(progress=first.progress))
    assert isinstance(last, DeadLettered)
    assert len(last.error) <= MAX_ERROR
    assert last.error.endswith("x!\n")


async def test_an_error_that_cannot_be_shown_is_an_error_all_the_same(
    handlers: Handlers[Any], attempt: Try
) -> None:
    class ShyError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not now")

    @handlers.on(Paid)
    async def book(delivery: Delivery[Paid]) -> None:
        raise ShyError

    outcome = await attempt()
    assert isinstance(outcome, RetryLater)
    assert "ShyError" in outcome.reason


# --- requeued -------------------------------------------------------------------------------


async def cancelled(attempter: Attempter, given: Entry, running: Any) -> Outcome:
    """Cancel an attempt in the middle, as a pool does past its deadline."""
    task = asyncio.create_task(attempted(attempter, given))
    await eventually(running)
    attempter.expect_cancellation()
    task.cancel()
    return await task


async def test_an_attempt_that_the_worker_cancels_is_requeued_uncounted(
    handlers: Handlers[Any], attempt: Try
) -> None:
    started = asyncio.Event()

    @handlers.on(Paid)
    async def book(delivery: Delivery[Paid]) -> None:
        started.set()
        await asyncio.sleep(60)

    before = Progress(owner=OWNER, handler="book", attempts=2, failed_ms=7)
    outcome = await cancelled(attempt.attempter, entry(progress=before), started.is_set)
    assert outcome == Requeued(before)


async def test_an_error_while_it_is_being_cancelled_does_not_count_either(
    handlers: Handlers[Any], attempt: Try
) -> None:
    started = asyncio.Event()

    @handlers.on(Paid, attempts=1)
    async def book(delivery: Delivery[Paid]) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ConnectionError("the pool is closed") from None

    outcome = await cancelled(attempt.attempter, entry(), started.is_set)
    assert outcome == Requeued(Progress(owner=OWNER))


async def test_a_handler_that_ends_well_although_it_is_cancelled_is_done(
    handlers: Handlers[Any], attempt: Try
) -> None:
    started = asyncio.Event()

    @handlers.on(Paid)
    async def book(delivery: Delivery[Paid]) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    assert await cancelled(attempt.attempter, entry(), started.is_set) == Done("book")


async def test_a_worker_that_stops_requeues_whatever_the_error_rules_say(
    handlers: Handlers[Any], attempt: Try
) -> None:
    started = asyncio.Event()

    @handlers.on(Paid, retry_on=(OSError,))
    async def book(delivery: Delivery[Paid]) -> None:
        started.set()
        await asyncio.sleep(60)

    outcome = await cancelled(attempt.attempter, entry(), started.is_set)
    assert outcome == Requeued(Progress(owner=OWNER))
