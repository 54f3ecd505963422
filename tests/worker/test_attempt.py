"""An attempt finds the handler, gives it the typed event, and returns what happened."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hookmill import Delivery, Discard, Event, Handlers, Retry
from hookmill.handlers import Next
from hookmill.message import Message, Progress
from hookmill.stream.entries import STREAM, Entry, EntryRef
from tests.worker.attempts import NOW, OWNER, Paid, Try, attempted, entry
from worker.attempt import Attempter
from worker.outcome import (
    DeadLettered,
    Discarded,
    Done,
    FannedOut,
    Ignored,
    Outcome,
    RetryLater,
)
from worker.threads import HandlerThreads

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
    threads: HandlerThreads,
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
async def test_a_body_that_is_no_json_and_that_no_handler_matches_is_dead_at_once(
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
        "wire version '9'; this release reads versions 1 to 3",
    ),
    "not ours": (
        Entry(EntryRef(STREAM, OWNER), {b"hello": b"world"}),
        "unknown_wire_version",
        "wire version none; this release reads versions 1 to 3",
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
        assert outcome.keeps_key == (reason != "unhandled")
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


async def test_without_grace_the_unknown_is_dead_at_once(threads: HandlerThreads) -> None:
    outcome = await attempted(Attempter(Handlers(), None, threads, grace=0), entry())
    assert isinstance(outcome, DeadLettered)
    assert outcome.reason == "unhandled"
