"""Whatever a handler does, an attempt says what happened, and says it truly."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import re
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from hookmill import Delivery, Discard, Event, Handlers, Retry
from hookmill.handlers import Backoff, Next
from hookmill.message import Message, Progress
from hookmill.stream.entries import STREAM, Entry, EntryRef
from tests.support import eventually, message
from worker.attempt import MAX_ERROR, MAX_SUMMARY, Attempter
from worker.outcome import (
    DeadLettered,
    Discarded,
    Done,
    FannedOut,
    Ignored,
    Outcome,
    Requeued,
    RetryLater,
)

NOW = 1_800_000_000.0
OWNER = "1700000000000-0"


class Paid(Event, tag="order.paid"):
    order: str
    amount: int


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2, thread_name_prefix="handler") as pool:
        yield pool


@pytest.fixture
def handlers() -> Handlers[Any]:
    return Handlers()


def entry(
    body: bytes = b'{"order": "o1", "amount": 5}',
    event_type: str = "order.paid",
    progress: Progress | None = None,
    **fields: Any,
) -> Entry:
    sent = message(body, type=event_type, **fields).to_fields()
    extra = progress.to_fields() if progress else {}
    return Entry(EntryRef(STREAM, OWNER), {**sent, **extra})


class Try:
    """Attempts with a clock that stands still: `await attempt(entry)`."""

    def __init__(self, handlers: Handlers[Any], threads: ThreadPoolExecutor) -> None:
        self.now = NOW
        self.attempter = Attempter(
            handlers, {"db": "pool"}, threads, grace=600, clock=lambda: self.now
        )

    async def __call__(self, given: Entry | None = None) -> Outcome:
        return await attempted(self.attempter, given or entry())


def attempted(attempter: Attempter, given: Entry) -> Coroutine[Any, Any, Outcome]:
    """Attempt it as a pool does."""
    return attempter.attempt(given, Progress.from_fields(given.fields, given.ref.id))


@pytest.fixture
def attempt(handlers: Handlers[Any], threads: ThreadPoolExecutor) -> Try:
    return Try(handlers, threads)


# --- good ends ------------------------------------------------------------------------------


async def test_a_handler_that_returns_is_done_and_was_given_the_typed_event(
    handlers: Handlers[Any], attempt: Try
) -> None:
    seen: list[Delivery[Paid]] = []

    @handlers.on(Paid)
    async def book(delivery: Delivery[Paid]) -> None:
        seen.append(delivery)

    assert await attempt(entry(id="msg_1")) == Done("book")
    (delivery,) = seen
    assert delivery.event == Paid(order="o1", amount=5)
    assert (delivery.id, delivery.attempt) == ("msg_1", 1)


async def test_a_handler_of_a_pattern_is_given_the_raw_message(
    handlers: Handlers[Any], attempt: Try
) -> None:
    seen: list[Message] = []

    @handlers.on("order.*")
    async def keep(delivery: Delivery[Message]) -> None:
        seen.append(delivery.event)

    assert await attempt(entry(b"\xff\x00")) == Done("keep")
    assert seen[0].body == b"\xff\x00"


async def test_the_attempt_counts_the_failures_before_it(
    handlers: Handlers[Any], attempt: Try
) -> None:
    seen: list[int] = []

    @handlers.on(Paid)
    async def book(delivery: Delivery[Paid]) -> None:
        seen.append(delivery.attempt)

    await attempt(entry(progress=Progress(owner=OWNER, handler="book", attempts=3)))
    assert seen == [4]


async def test_the_lifespans_resources_reach_a_handler_that_asks_for_them(
    threads: ThreadPoolExecutor,
) -> None:
    @asynccontextmanager
    async def lifespan() -> Any:
        yield {}

    handlers = Handlers(lifespan)
    seen: list[object] = []

    @handlers.on("async")
    async def on_the_loop(delivery: Delivery[Message], resources: object) -> None:
        seen.append(resources)

    @handlers.on("plain")
    def in_a_thread(delivery: Delivery[Message], resources: object) -> None:
        seen.append(resources)

    attempt = Try(handlers, threads)
    for event_type in ("async", "plain"):
        assert isinstance(await attempt(entry(event_type=event_type)), Done)
    assert seen == [{"db": "pool"}, {"db": "pool"}]


async def test_middleware_wraps_a_handler_the_first_one_outermost(
    handlers: Handlers[Any], attempt: Try
) -> None:
    order: list[str] = []

    def named(name: str) -> None:
        @handlers.middleware
        async def wrap(delivery: Delivery[Any], call_next: Next) -> None:
            order.append(f"{name} in")
            await call_next(delivery)
            order.append(f"{name} out")

    named("outer")
    named("inner")

    @handlers.on("async")
    async def on_the_loop(delivery: Delivery[Message]) -> None:
        order.append("async")

    @handlers.on("plain")
    def in_a_thread(delivery: Delivery[Message]) -> None:
        order.append("plain")

    for event_type in ("async", "plain"):
        order.clear()
        assert isinstance(await attempt(entry(event_type=event_type)), Done)
        assert order == ["outer in", "inner in", event_type, "inner out", "outer out"]


async def test_middleware_may_steer_the_message_as_a_handler_may(
    handlers: Handlers[Any], attempt: Try
) -> None:
    @handlers.middleware
    async def closed(delivery: Delivery[Any], call_next: Next) -> None:
        raise Retry(after=5, reason="closed today")

    @handlers.on(Paid)
    async def book(delivery: Delivery[Paid]) -> None:
        pytest.fail("it ran")

    outcome = await attempt()
    assert isinstance(outcome, RetryLater)
    assert outcome.reason == "closed today"


async def test_several_matching_handlers_get_an_entry_each(
    handlers: Handlers[Any], attempt: Try
) -> None:
    ran = []

    @handlers.on(Paid)
    async def book(delivery: Delivery[Paid]) -> None:
        ran.append("book")

    @handlers.on("order.*")
    async def log(delivery: Delivery[Message]) -> None:
        ran.append("log")

    progress = Progress(owner=OWNER)
    assert await attempt() == FannedOut(progress, ("book", "log"))
    assert ran == []
    assert await attempt(entry(progress=Progress(owner=OWNER, handler="log"))) == Done("log")
    assert ran == ["log"]


async def test_a_type_to_be_ignored_is_ignored_unless_a_handler_matches(
    handlers: Handlers[Any], attempt: Try
) -> None:
    handlers.ignore("push", "order.*")

    @handlers.on(Paid)
    async def book(delivery: Delivery[Paid]) -> None:
        pass

    assert await attempt(entry(event_type="push")) == Ignored()
    assert await attempt(entry(event_type="order.paid")) == Done("book")


# --- steered by the handler -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_asking_to_wait_is_not_a_failure(
    handlers: Handlers[Any], attempt: Try, kind: str
) -> None:
    @handlers.on("async", attempts=1)
    async def on_the_loop(delivery: Delivery[Message]) -> None:
        raise Retry(after=60)

    @handlers.on("plain", attempts=1)
    def in_a_thread(delivery: Delivery[Message]) -> None:
        raise Retry(after=60)

    outcome = await attempt(entry(event_type=kind))
    assert isinstance(outcome, RetryLater)
    assert (outcome.after, outcome.reason, outcome.error) == (60.0, "asked to wait", "")
    assert (outcome.progress.attempts, outcome.progress.failed_ms) == (0, 0)
    assert outcome.progress.handler in {"on_the_loop", "in_a_thread"}


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_handler_may_discard_its_message(
    handlers: Handlers[Any], attempt: Try, kind: str
) -> None:
    @handlers.on("async", name="h")
    async def on_the_loop(delivery: Delivery[Message]) -> None:
        raise Discard("gone")

    @handlers.on("plain", name="g")
    def in_a_thread(delivery: Delivery[Message]) -> None:
        raise Discard("gone")

    assert await attempt(entry(event_type=kind)) == Discarded(
        "h" if kind == "async" else "g", "gone"
    )


# --- failures -------------------------------------------------------------------------------


async def test_a_failure_is_counted_and_waits_its_turn(
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


class Odd(BaseException):
    """What a library may use to end things, such as a test framework's failure."""


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


def recurse() -> None:
    recurse()


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize(
    ("end", "error"),
    [
        (leave, "SystemExit: 3"),
        (interrupt, "KeyboardInterrupt"),
        (be_odd, "Odd: odd"),
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
    # Old timeout libraries do so and leave it at that. Handed back, it would run for ever.
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


# --- what cannot be attempted ---------------------------------------------------------------


async def test_a_body_that_does_not_fit_the_event_is_dead_at_once_with_the_json_path(
    handlers: Handlers[Any], attempt: Try
) -> None:
    @handlers.on(Paid)
    async def book(delivery: Delivery[Paid]) -> None:
        pytest.fail("it ran")

    body = b'{"type": "order.paid", "data": {"order": "o1", "amount": "5"}}'
    assert await attempt(entry(body)) == DeadLettered(
        Progress(owner=OWNER, handler="book"),
        "undecodable",
        "Expected `int`, got `str` - at `$.data.amount`",
    )


async def test_an_event_whose_own_decoder_raises_is_dead_with_its_traceback(
    handlers: Handlers[Any], attempt: Try
) -> None:
    class Legacy(Event, tag="order.paid"):
        @classmethod
        def from_message(cls, message: Message) -> Legacy:
            raise KeyError(message.id)

    @handlers.on(Legacy)
    async def book(delivery: Delivery[Legacy]) -> None:
        pytest.fail("it ran")

    outcome = await attempt()
    assert isinstance(outcome, DeadLettered)
    assert (outcome.reason, outcome.progress.handler) == ("undecodable", "book")
    assert "in from_message" in outcome.error


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the body is not JSON: Input data was truncated"),
        (b"{no", "the body is not JSON: JSON is malformed: .* \\(byte 1\\)"),
        (b"\xff", "the body is not JSON: JSON is malformed"),
        (b'{"a": "\xff"}', "the body is not JSON: "),
        (b"[" * 100_000, "the body is not JSON: "),
    ],
)
async def test_a_body_that_is_no_json_and_that_nobody_asked_for_is_dead_at_once(
    attempt: Try, body: bytes, error: str
) -> None:
    outcome = await attempt(entry(body, event_type=""))
    assert isinstance(outcome, DeadLettered)
    assert outcome.reason == "undecodable"
    assert outcome.progress == Progress(owner=OWNER)
    assert re.search(error, outcome.error)


async def test_a_body_that_is_no_json_is_handled_where_a_handler_takes_anything(
    handlers: Handlers[Any], attempt: Try
) -> None:
    @handlers.on("*")
    async def keep(delivery: Delivery[Message]) -> None:
        pass

    assert await attempt(entry(b"", event_type="")) == Done("keep")


UNKNOWN = {
    "type": (entry(event_type="order.sold"), "unhandled", "no handler matches 'order.sold'"),
    "no type": (entry(b"{}", event_type=""), "unhandled", "no handler matches ''"),
    "handler": (
        entry(progress=Progress(owner="7-7", handler="gone", attempts=2)),
        "unknown_handler",
        "no handler is named 'gone'",
    ),
    "wire version": (
        Entry(EntryRef(STREAM, OWNER), {b"version": b"9", b"id": b"m"}),
        "unknown_wire_version",
        "wire version '9'; this release reads versions 1 and 2",
    ),
    "not ours": (
        Entry(EntryRef(STREAM, OWNER), {b"hello": b"world"}),
        "unknown_wire_version",
        "wire version none; this release reads versions 1 and 2",
    ),
}


@pytest.mark.parametrize("what", UNKNOWN)
async def test_what_this_release_does_not_know_waits_for_one_that_does_and_is_kept(
    attempt: Try, what: str
) -> None:
    given, reason, error = UNKNOWN[what]
    before = Progress.from_fields(given.fields, OWNER)

    def still_waits(outcome: Outcome) -> Progress:
        assert isinstance(outcome, RetryLater)
        assert (outcome.reason, outcome.error) == (reason, "")
        assert outcome.progress.unknown_ms == int(NOW * 1000)
        assert outcome.progress.attempts == before.attempts
        assert 0 < outcome.after <= 15
        return outcome.progress

    progress = still_waits(await attempt(given))
    for later in (1, 599.5):
        attempt.now = NOW + later
        progress = still_waits(
            await attempt(Entry(given.ref, {**given.fields, **progress.to_fields()}))
        )
    attempt.now = NOW + 600
    outcome = await attempt(Entry(given.ref, {**given.fields, **progress.to_fields()}))
    assert isinstance(outcome, DeadLettered)
    assert outcome.reason == reason
    assert outcome.error == f"{error}, and none came in 600 s of grace"
    assert outcome.progress.owner == before.owner


async def test_a_release_that_knows_the_type_ends_the_wait(
    handlers: Handlers[Any], attempt: Try
) -> None:
    @handlers.on(Paid)
    async def book(delivery: Delivery[Paid]) -> None:
        raise Retry(1)

    outcome = await attempt(entry(progress=Progress(owner=OWNER, unknown_ms=5)))
    assert isinstance(outcome, RetryLater)
    assert outcome.progress == Progress(owner=OWNER, handler="book")


async def test_without_grace_the_unknown_is_dead_at_once(threads: ThreadPoolExecutor) -> None:
    outcome = await attempted(Attempter(Handlers(), None, threads, grace=0), entry())
    assert isinstance(outcome, DeadLettered)
    assert outcome.reason == "unhandled"


# --- handed back ----------------------------------------------------------------------------


async def cancelled(attempter: Attempter, given: Entry, running: Any) -> Outcome:
    """Cancel an attempt in the middle, as a pool does past its deadline."""
    task = asyncio.create_task(attempted(attempter, given))
    await eventually(running)
    attempter.expect_cancellation()
    task.cancel()
    return await task


async def test_an_attempt_that_is_cancelled_at_the_end_is_handed_back_uncounted(
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


# --- plain functions ------------------------------------------------------------------------


async def test_a_plain_function_runs_in_a_thread_with_the_context_of_its_message(
    handlers: Handlers[Any], attempt: Try
) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")
    seen: list[Any] = []

    @handlers.middleware
    async def of_the_tenant(delivery: Delivery[Any], call_next: Next) -> None:
        tenant.set("blue")
        await call_next(delivery)

    @handlers.on(Paid)
    def book(delivery: Delivery[Paid]) -> None:
        seen.extend([threading.current_thread().name, tenant.get()])
        seen.append(structlog.contextvars.get_contextvars())
        tenant.set("red")  # stays in the thread

    assert await attempt(entry(id="msg_1")) == Done("book")
    name, colour, bound = seen
    assert name.startswith("handler")
    assert colour == "blue"
    assert bound == {"id": "msg_1", "source": "qstash", "type": "order.paid"}
    assert tenant.get() == "blue"


async def test_a_plain_function_beyond_its_timeout_keeps_its_slot_and_is_done_when_it_ends_well(
    handlers: Handlers[Any], attempt: Try
) -> None:
    go_on = threading.Event()

    @handlers.on(Paid, timeout=0.01)
    def book(delivery: Delivery[Paid]) -> None:
        assert go_on.wait(10)

    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(attempt())
        await eventually(lambda: logs)
        assert not task.done()
        assert attempt.attempter.has_busy_threads
        go_on.set()
        assert await task == Done("book")
    assert [line["event"] for line in logs] == ["handler overruns its timeout in a thread"]
    await eventually(lambda: not attempt.attempter.has_busy_threads)


async def test_a_plain_function_that_waits_for_a_thread_is_not_said_to_be_slow(
    handlers: Handlers[Any], attempt: Try
) -> None:
    go_on = threading.Event()

    @handlers.on(Paid, timeout=30)
    def slow(delivery: Delivery[Paid]) -> None:
        assert go_on.wait(10)

    @handlers.on("quick", timeout=0.01)
    def quick(delivery: Delivery[Message]) -> None:
        pass

    with structlog.testing.capture_logs() as logs:
        both = [asyncio.create_task(attempt()) for _ in range(2)]  # as many as there are threads
        third = asyncio.create_task(attempt(entry(event_type="quick")))
        await eventually(lambda: logs)
        go_on.set()
        assert await asyncio.gather(*both, third) == [Done("slow"), Done("slow"), Done("quick")]
    assert [line["event"] for line in logs] == ["handler waits for a thread: give it more"]


async def test_a_plain_function_that_was_handed_back_before_it_began_never_begins(
    handlers: Handlers[Any], attempt: Try
) -> None:
    go_on = threading.Event()
    ran: list[str] = []

    @handlers.on(Paid)
    def book(delivery: Delivery[Paid]) -> None:
        ran.append(delivery.id)
        assert go_on.wait(10)

    tasks = [asyncio.create_task(attempt(entry(id=f"m{n}"))) for n in range(4)]
    await eventually(lambda: len(ran) == 2)
    attempt.attempter.expect_cancellation()
    for task in tasks:
        task.cancel()
    handed_back = Requeued(Progress(owner=OWNER))
    assert await asyncio.gather(*tasks) == [handed_back] * 4
    assert attempt.attempter.has_busy_threads  # two cannot be stopped
    go_on.set()
    await eventually(lambda: not attempt.attempter.has_busy_threads)
    assert ran == ["m0", "m1"]


async def test_a_plain_function_that_returns_a_coroutine_has_not_handled_its_message(
    handlers: Handlers[Any], attempt: Try
) -> None:
    async def book(delivery: Delivery[Paid]) -> None:
        pytest.fail("it ran")

    def undeclared(delivery: Delivery[Paid]) -> Any:
        return book(delivery)

    handlers.on(Paid)(undeclared)
    outcome = await attempt()
    assert isinstance(outcome, RetryLater)
    assert outcome.reason == (
        "TypeError: the handler returned an awaitable: declare it with `async def`"
    )


async def test_a_partial_of_an_async_function_is_awaited(
    handlers: Handlers[Any], attempt: Try
) -> None:
    ran = []

    async def book(delivery: Delivery[Paid], *, currency: str) -> None:
        ran.append(currency)

    handlers.on(Paid, name="book")(functools.partial(book, currency="EUR"))
    assert await attempt() == Done("book")
    assert ran == ["EUR"]
