"""The spans of a worker: one for each attempt, and one for each round trip that settles attempts
which are recorded.

An attempt's span is linked to the span that created its message. With HOOKMILL_TRACES=joined it is
below that, and it is recorded if that is: the receiver has decided for the message as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import structlog

from hookmill.error_text import last_line
from hookmill.instrumentation.facts import AttemptEnded
from hookmill.instrumentation.traceparent import (
    SAMPLED_DIGITS,
    stored_traceparent,
)
from hookmill.message import BAGGAGE_FIELD, TRACE_FIELD
from hookmill.printable import printable
from hookmill.runtime.log_pace import LogPace
from hookmill.stream.entries import Entry, EntryRef, Settlement
from worker.outcome import DeadLettered, Outcome, RetryLater

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from hookmill.instrumentation.tracing import Tracing

log = structlog.get_logger("worker")

_CLASS = re.compile(r"[A-Za-z_][\w.]{0,99}")
_CODE = re.compile(r"[a-z_]{1,40}")


class AttemptTraces:
    """Makes the spans of attempts, in their own tasks. `consumer` is this worker's name; `numbers`
    are those of the partitions among all. Whatever the user's SDK does, messages are handled. Only
    the event loop may use it.
    """

    def __init__(self, tracing: Tracing, consumer: str, numbers: Sequence[int]) -> None:
        from hookmill.instrumentation import tracing as spans  # noqa: PLC0415 - an extra

        self._spans = spans
        self._tracing = tracing
        self._is_joined = tracing.is_joined
        self.is_each = tracing.sample >= 1
        """Whether attempts of messages without a trace have spans, too."""
        self._client = {"messaging.client.id": consumer}
        self._numbers = numbers
        self._log_pace = LogPace()
        self._unsettled: dict[EntryRef, Span] = {}

    def prepare(self) -> None:
        """Make a span current that is not recorded, where the tasks of attempts begin. So those of
        messages without a trace need nothing more.
        """
        if not self.is_each:
            self._spans.make_current(self._spans.Unrecorded())

    def begin(self, entry: Entry) -> Span | None:
        """Start the span of an attempt, and make it current in this task, which is the attempt's.
        Baggage that came with the message is current, too. Return the span if it is recorded: then
        `ended` ends it. Unless `is_each`, a message without a trace needs no call: see `prepare`.
        """
        trace = entry.fields.get(TRACE_FIELD)
        if trace is not None and self._is_joined and trace[-1:] not in SAMPLED_DIGITS:
            # The receiver has decided, for the message as a whole.
            baggage = entry.fields.get(BAGGAGE_FIELD, b"")
            self._spans.make_current(self._spans.Unrecorded(trace), baggage)
            return None
        try:
            return self._begin(entry)
        except Exception as error:  # noqa: BLE001 - a sampler of the user's may raise anything
            self._failed(error)
            return None

    def ended(self, span: Span, ended: AttemptEnded[Outcome]) -> None:
        """End the span of an attempt, and say in it what became of the message."""
        try:
            span.set_attributes(_facts_of(ended))
            self._note_failure(span, ended.outcome)
            span.end()
            self._unsettled[ended.entry.ref] = span
        except Exception as error:  # noqa: BLE001 - as in `begin`
            self._failed(error)

    def settling(self, settlements: Iterable[Settlement]) -> Span | None:
        """Start the span of a round trip that writes these settlements; None where the attempt of
        none is recorded. `settled` ends it.
        """
        if not self._unsettled:
            return None
        refs = {one.ref for one in settlements}
        attempts = [self._unsettled.pop(ref) for ref in list(self._unsettled) if ref in refs]
        if not attempts:
            return None
        more = {**self._client, "messaging.batch.message_count": len(attempts)}
        try:
            return self._tracing.span("ack", attempts[0], attempts, more)
        except Exception as error:  # noqa: BLE001 - as in `begin`
            self._failed(error)
            return None

    def settled(self, span: Span | None) -> None:
        """End the span of a round trip."""
        if span is not None:
            try:
                span.end()
            except Exception as error:  # noqa: BLE001 - as in `begin`
                self._failed(error)

    def _begin(self, entry: Entry) -> Span | None:
        creation = stored_traceparent(entry.fields)
        parent = creation if self._is_joined else None
        number = self._numbers[entry.ref.partition]
        more = {**self._client, "messaging.destination.partition.id": str(number)}
        links = () if creation is None or parent is not None else (creation,)
        span = self._tracing.span("process", parent, links, more)
        self._spans.make_current(span, entry.fields.get(BAGGAGE_FIELD, b""))
        return span if span.is_recording() else None

    def _note_failure(self, span: Span, outcome: Outcome) -> None:
        if not isinstance(outcome, RetryLater | DeadLettered) or not _is_failure(outcome):
            return
        text = last_line(outcome.error) if outcome.error else outcome.reason
        kind = _type_of(outcome)
        event = {"exception.type": kind, "exception.message": _safe(text)}
        if outcome.error:
            event["exception.stacktrace"] = _safe(outcome.error)
        span.add_event("exception", event)
        self._spans.fail(span, kind, _safe(text))

    def _failed(self, error: Exception) -> None:
        if self._log_pace.failed():
            log.error("spans cannot be made", error=repr(error), **self._log_pace.failures)


def _facts_of(ended: AttemptEnded[Outcome]) -> dict[str, str | int]:
    """Return what is known of an attempt at its end, as attributes."""
    message, told = ended.message, ended.outcome.told()
    facts: dict[str, str | int] = {"hookmill.outcome": told.kind}
    if message is not None:
        facts["messaging.message.id"] = _safe(message.id)
        facts["hookmill.source"] = _safe(message.source)
        facts["hookmill.event.type"] = _safe(message.type)
    if handler := told.handler or ended.progress.handler:
        facts["hookmill.handler"] = _safe(handler)
        facts["hookmill.attempt"] = ended.progress.attempts + 1
    return facts


def _is_failure(outcome: RetryLater | DeadLettered) -> bool:
    """Whether an attempt has failed. A handler that asks to wait has not, nor has a message that
    waits for a handler.
    """
    return isinstance(outcome, DeadLettered) or bool(outcome.error)


def _type_of(outcome: RetryLater | DeadLettered) -> str:
    """Return the class of an error, or else the short reason: never a text that differs each time,
    because backends group by it.
    """
    name = last_line(outcome.error).partition(":")[0]
    if _CLASS.fullmatch(name):
        return name
    return outcome.reason if _CODE.fullmatch(outcome.reason) else "_OTHER"


def _safe(text: str) -> str:
    return printable(text, keep="\n\t")
