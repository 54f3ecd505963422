"""One attempt: find an entry's handler, decode its event, run it, and return an `Outcome`.

It does no I/O with Redis itself: `settlement` says what is written for each outcome. Whatever a
handler does, an outcome is returned.
"""

from __future__ import annotations

import functools
import random
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

from hookmill import error_text
from hookmill.errors import DecodeError, WireVersionError
from hookmill.handlers import Dead, Delivery, Discard, Handler, Handlers, Middleware, Next, Retry
from hookmill.message import TRACE_FIELD, Message, Progress
from hookmill.runtime import logs
from hookmill.stream.entries import Entry
from hookmill.stream.known_pauses import KnownPauses
from worker.error_memory import release_frames
from worker.outcome import (
    Attempted,
    DeadLettered,
    Discarded,
    Done,
    FannedOut,
    Ignored,
    Outcome,
    Requeued,
    RetryLater,
)
from worker.pausing import held_back_by
from worker.threads import HandlerThreads
from worker.timeouts import Timeouts
from worker.unmatched import Sight, UnmatchedTypes, never_seen

log = structlog.get_logger("worker")

GRACE_STEP = 15.0
"""Seconds until a message whose handler is not known yet is tried again."""

KNOWN_STEP = 1.0
"""The same seconds where a worker runs that knows the event type: the next try may be its own."""

NO_THREAD = "all threads are busy"
"""Why a message is requeued that has waited for a thread."""


class _Unmatched(msgspec.Struct, frozen=True):
    """An event type that no handler matches."""

    event_type: str


class Attempter:
    """Runs attempts. Plain functions run in `threads`; `resources` is what the handlers' lifespan
    yields. A message without a known handler becomes a dead letter after `grace` seconds. They
    count from the first message of its type, as far as `look` knows it. `clock` returns Unix
    seconds.
    """

    def __init__(
        self,
        handlers: Handlers[Any],
        resources: Any,
        threads: HandlerThreads,
        *,
        grace: float,
        look: Callable[[str], Awaitable[Sight]] = never_seen,
        clock: Callable[[], float] = time.time,
        pauses: KnownPauses | None = None,
        unmatched: UnmatchedTypes | None = None,
    ) -> None:
        self._handlers = handlers
        self._pauses = pauses or KnownPauses(1)
        self._resources = resources
        self._threads = threads
        self._grace = grace
        self._look = look
        self._clock = clock
        self._expects_cancellation = False
        self._timeouts = Timeouts()
        self._calls: dict[str, Next] = {}
        self._unmatched = unmatched or UnmatchedTypes(handlers)

    @functools.cached_property
    def needs_thread(self) -> bool:
        """Whether every handler is a plain function, so that no message runs without a thread."""
        return bool(self._handlers) and not any(one.is_async for one in self._handlers)

    @property
    def most_at_once(self) -> int:
        """How many messages may run at the same time, as far as threads are concerned."""
        return self._threads.usable if self.needs_thread else sys.maxsize

    @property
    def has_free_thread(self) -> bool:
        """Whether a plain function could begin now."""
        return self._threads.free > 0

    def names_of(self, entry: Entry) -> tuple[str, str]:
        """Return an entry's message ID and the name of its handler, or of all that match."""
        try:
            message = Message.from_fields(entry.fields)
        except WireVersionError:
            return "", ""
        if name := Progress.from_fields(entry.fields, entry.ref.id).handler:
            return message.id, name
        names = [handler.name for handler in self._handlers.matching(message.type)]
        return message.id, ", ".join(names)

    def expect_cancellation(self) -> None:
        """Note that the worker is about to cancel attempts: from now on, a cancelled attempt is
        requeued. Before this call, a cancellation comes from the handler itself and is a failure.
        """
        self._expects_cancellation = True

    def requeue_waiting(self) -> None:
        """Have the messages requeued that wait for a thread, because this worker stops."""
        self._threads.requeue_waiting()

    def requeue_paused(self) -> None:
        """Have the messages requeued that wait for a thread, and may be paused now: they would keep
        their slots. Who takes them decides.
        """
        for one in self._threads.waiting():
            names = (one.handler.name, *one.handler.aliases)
            if self._pauses.may_hold(names):
                self._threads.requeue(one, one.progress)

    async def attempt(self, entry: Entry, progress: Progress) -> Attempted:
        """Read the message, find its handler, run it, and return what happened."""
        try:
            message = Message.from_fields(entry.fields)
        except WireVersionError as error:
            return Attempted(None, self._unknown(progress, error.code, str(error)))
        ready = self._prepare(entry, message, progress)
        if isinstance(ready, _Unmatched):
            return Attempted(message, await self._unhandled(ready.event_type, progress))
        if not isinstance(ready, tuple):
            return Attempted(message, ready)
        handler, delivery = ready
        call = self._calls.get(handler.name) or self._prepare_call(handler)
        outcome: Outcome
        try:
            if handler.is_async:
                with self._timeouts.of(handler.timeout) as timeout:
                    await call(delivery)
                if timeout.has_expired:  # it swallowed the cancellation and succeeded
                    log.warning("handler overran its timeout", handler=handler.name)
            else:
                requeued = await self._threads.wait_for_turn(handler, progress)
                if requeued is not None:
                    return Attempted(message, Requeued(requeued, NO_THREAD))
                try:
                    await call(delivery)  # without a timeout, because a thread cannot be stopped
                finally:
                    self._threads.end_turn()
            outcome = Done(handler.name)
        except (Retry, Discard, Dead) as asked:
            outcome = self._asked_for(handler, progress, asked)
            release_frames(asked)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the message is kept
            if self._expects_cancellation:
                return Attempted(message, Requeued(progress))
            outcome = self._failed(handler, _with_handler(progress, handler), error)
            release_frames(error)
        return Attempted(message, outcome)

    def _asked_for(
        self, handler: Handler, progress: Progress, asked: Retry | Discard | Dead
    ) -> Outcome:
        """Return the outcome that a handler asked for by raising it."""
        if isinstance(asked, Discard):
            return Discarded(handler.name, asked.reason)
        handled = _with_handler(progress, handler)
        if isinstance(asked, Dead):
            return self._given_up(handled, asked)
        return RetryLater(handled, asked.after, asked.reason or "asked to wait")

    def _prepare(
        self, entry: Entry, message: Message, progress: Progress
    ) -> tuple[Handler, Delivery[Any]] | _Unmatched | Outcome:
        """Find the message's handler, decode its event; return an outcome if that fails, or if it
        is paused. From now on every line of the log names the message.
        """
        logs.bind_message(message.id, message.source, message.type)
        if TRACE_FIELD in entry.fields:
            logs.bind_trace(entry.fields[TRACE_FIELD][3:35].decode("ascii", "replace"))
        if self._pauses.is_any:
            held_back = held_back_by(self._pauses, self._handlers, entry, message, progress)
            if held_back is not None:
                return held_back
        handler = self._handler(message, progress)
        if not isinstance(handler, Handler):
            return handler
        try:
            event = handler.read(message)
        except DecodeError as error:
            return DeadLettered(_with_handler(progress, handler), error.code, str(error))
        except Exception as error:  # noqa: BLE001 - an event's own `from_message` may raise anything
            return DeadLettered(
                _with_handler(progress, handler), DecodeError.code, _traceback_of(error)
            )
        return handler, Delivery(event, message, progress.attempts + 1)

    def _handler(self, message: Message, progress: Progress) -> Handler | _Unmatched | Outcome:
        """Return the one handler that runs this entry, or the outcome if there is not one."""
        if progress.handler:
            named = self._handlers.named(progress.handler)
            return named or self._unknown(
                progress, "unknown_handler", f"no handler is named {progress.handler!r}"
            )
        matching = self._handlers.matching(message.type)
        if len(matching) == 1:
            return matching[0]
        if matching:
            return FannedOut(progress, tuple(handler.name for handler in matching))
        if self._handlers.ignores(message.type):
            return Ignored()
        if not message.type and (fault := _fault_in(message.body)):
            return DeadLettered(progress, DecodeError.code, fault)
        self._unmatched.warn(message.type)
        return _Unmatched(message.type)

    async def _unhandled(self, event_type: str, progress: Progress) -> Outcome:
        """Wait for a handler of this event type. It does not keep its ordering key, because nobody
        may ever want it.
        """
        sight = await self._look(event_type) if self._grace > 0 else Sight()
        if sight.is_known:
            progress = msgspec.structs.replace(progress, unknown_ms=0)
        error = f"no handler matches {event_type!r}"
        step = KNOWN_STEP if sight.is_known else GRACE_STEP
        return self._unknown(
            progress, "unhandled", error, sight.unknown_for, keeps_key=False, step=step
        )

    def _unknown(
        self,
        progress: Progress,
        reason: str,
        error: str,
        unknown_for: float = 0.0,
        *,
        keeps_key: bool = True,
        step: float = GRACE_STEP,
    ) -> Outcome:
        """Retry for `grace` seconds, because a rolling deploy may bring a release that knows it.

        Where that is an event type, the type has been unknown for `unknown_for` seconds. What
        waits for a handler or a wire version keeps its key, because somebody wants it.
        """
        now_ms = int(self._clock() * 1000)
        since_ms = progress.unknown_ms or now_ms
        left = self._grace - max(unknown_for, (now_ms - since_ms) / 1000)
        if left <= 0:
            return DeadLettered(
                progress, reason, f"{error}, and none came in {self._grace:g} s of grace"
            )
        waiting = msgspec.structs.replace(progress, unknown_ms=since_ms)
        step *= random.uniform(0.5, 1.0)  # noqa: S311 - it spreads load
        return RetryLater(waiting, min(step, left), reason, keeps_key=keeps_key)

    def _failed(self, handler: Handler, progress: Progress, error: BaseException) -> Outcome:
        """Count a failure; return a retry, or a dead letter where there is no further attempt."""
        failed = self._with_failure(progress)
        text = _traceback_of(error)
        if failed.attempts >= handler.attempts or not handler.errors.retries(error):
            return DeadLettered(failed, "failed", text)
        return RetryLater(
            failed, handler.backoff.wait(failed.attempts), error_text.summary_of(error), text
        )

    def _given_up(self, progress: Progress, asked: Dead) -> Outcome:
        """Return the dead letter that the handler asked for, with the error that it had caught."""
        caught = asked.__cause__ or (None if asked.__suppress_context__ else asked.__context__)
        error = "" if caught is None else _traceback_of(caught)
        return DeadLettered(self._with_failure(progress), asked.reason, error)

    def _with_failure(self, progress: Progress) -> Progress:
        return msgspec.structs.replace(
            progress,
            attempts=progress.attempts + 1,
            failed_ms=progress.failed_ms or int(self._clock() * 1000),
        )

    def _prepare_call(self, handler: Handler) -> Next:
        """Wrap the middlewares around a handler, once for all its deliveries."""
        function, rest = handler.function, (self._resources,) if handler.takes_resources else ()

        async def call_it(delivery: Delivery[Any]) -> None:
            await function(delivery, *rest)

        async def call_in_thread(delivery: Delivery[Any]) -> None:
            run = functools.partial(function, delivery, *rest)
            await self._threads.run(handler, delivery.id, run)

        call: Next = call_in_thread
        if handler.is_async:
            call = call_it if rest else function
        for middleware in reversed(self._handlers.middlewares):
            call = _wrapped(middleware, call)
        self._calls[handler.name] = call
        return call


def _wrapped(middleware: Middleware, inner: Next) -> Next:
    return lambda delivery: middleware(delivery, inner)


def _with_handler(progress: Progress, handler: Handler) -> Progress:
    return msgspec.structs.replace(progress, handler=handler.name, unknown_ms=0)


def _fault_in(body: bytes) -> str:
    """Return why the body is not JSON, or "" if it is."""
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"the body is not JSON: {error}"
    return ""


def _traceback_of(error: BaseException) -> str:
    return error_text.text_of(error)
