"""Counts the outcomes of messages, and how long they waited, ran, and took as a whole.

It listens to the pool only where there is a page /metrics. A message costs it a look into a
dictionary for its count, and a bisection for each of three times.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from hookmill.instrumentation.facts import AttemptEnded
from hookmill.instrumentation.histograms import (
    RUNNING,
    WAITING,
    Histogram,
    Histograms,
    labelled,
)
from hookmill.instrumentation.labels import OTHER, BoundedLabel
from hookmill.stream.entries import EntryRef
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

OUTCOMES: dict[type[Any], str] = {
    Done: "handled",
    Discarded: "discarded",
    Ignored: "ignored",
    FannedOut: "fanned_out",
    RetryLater: "retried",
    DeadLettered: "dead",
    Requeued: "requeued",
}
"""The values of the label `outcome`."""

FINISHED = frozenset({"handled", "discarded", "ignored", "dead"})
"""The outcomes after which a message is no longer to be worked on."""

MOST_REASONS = 50
"""Values of the label `reason`: handlers may give reasons of their own."""

_TRACE = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class _Times(NamedTuple):
    """The histograms of one handler."""

    waiting: Histogram
    running: Histogram
    whole: Histogram


class _Unsettled(NamedTuple):
    """A message that is finished, and not settled yet."""

    received: float
    times: _Times
    trace_id: str


class MessageMetrics:
    """Counts outcomes, and observes times. `handlers` are the names of the worker's; `most_types`
    bounds the labels of what senders choose.
    """

    def __init__(
        self,
        group: str,
        handlers: Iterable[str],
        most_types: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._group = group
        self._clock = clock
        self._handlers = tuple(sorted(handlers))
        self._types = BoundedLabel(most_types, ("",))
        self._sources = BoundedLabel(most_types, ("",))
        self._reasons = BoundedLabel(MOST_REASONS)
        self._counts: dict[tuple[str, str, str, str], int] = {}
        self._dead: dict[tuple[str, str], int] = {}
        self._unsettled: dict[EntryRef, _Unsettled] = {}
        names = ("group", "handler")
        self._families = (
            Histograms(
                "hookmill_message_waiting_seconds",
                "From the receipt of a message to the begin of an attempt, if none has failed yet.",
                WAITING, names,
            ),
            Histograms(
                "hookmill_message_running_seconds", "How long an attempt ran.", RUNNING, names
            ),
            Histograms(
                "hookmill_message_end_to_end_seconds",
                "From the receipt of a message to its end, through all that came between.",
                WAITING, names,
            ),
        )  # fmt: skip
        self._times = {name: self._times_of(name) for name in (*self._handlers, "", OTHER)}

    def attempt_ended(self, ended: AttemptEnded[Outcome]) -> None:
        """Count an attempt, and observe how long it and its message took."""
        outcome, message = ended.outcome, ended.message
        if type(outcome) is Done:
            handler, told = outcome.handler, "handled"
        else:
            handler, told = _handler_of(outcome), OUTCOMES[type(outcome)]
        source, event_type = (message.source, message.type) if message else ("", "")
        try:
            self._counts[source, event_type, handler, told] += 1
        except KeyError:
            self._count_new(source, event_type, handler, told)
        if told == "requeued" or message is None:
            return
        times = self._times.get(handler) or self._times[OTHER]
        trace = ended.entry.fields.get(b"trace")
        trace_id = "" if trace is None else _trace_id_in(trace)
        received = message.received_ms / 1000
        if handler:
            times.running.observe(ended.seconds, trace_id)
            if not ended.progress.attempts:
                began = self._clock() - ended.seconds
                times.waiting.observe(max(0.0, began - received), trace_id)
        if told in FINISHED:
            self._unsettled[ended.entry.ref] = _Unsettled(received, times, trace_id)
            if type(outcome) is DeadLettered:
                self._count_dead(handler, outcome.reason)

    def settled(self, refs: Iterable[EntryRef]) -> None:
        """Observe the whole time of the messages that have been settled."""
        now = self._clock()
        for ref in refs:
            one = self._unsettled.pop(ref, None)
            if one is not None:
                one.times.whole.observe(max(0.0, now - one.received), one.trace_id)

    def collect(self) -> Iterator[Any]:
        """Yield the counters and histograms."""
        yield labelled(
            "counter",
            "hookmill_messages",
            "Attempts that have ended, by outcome. Of several handlers each counts.",
            ("group", "source", "type", "handler", "outcome"),
            [((self._group, *key), number) for key, number in sorted(self._counts.items())],
        )
        yield labelled(
            "counter",
            "hookmill_finished_messages",
            "Messages that were handled, discarded or ignored, or became dead letters.",
            ("group", "handler", "outcome"),
            [((self._group, *key), number) for key, number in self._finished().items()],
        )
        yield labelled(
            "counter",
            "hookmill_dead_letters",
            "Messages that became dead letters, by the reason.",
            ("group", "handler", "reason"),
            [((self._group, *key), number) for key, number in sorted(self._dead_counts().items())],
        )
        for family in self._families:
            yield family.family()

    def _times_of(self, handler: str) -> _Times:
        return _Times(*(family.of(self._group, handler) for family in self._families))

    def _count_new(self, source: str, event_type: str, handler: str, told: str) -> None:
        """Count under labels that are bounded. These are kept, and what is beyond a bound comes
        here again.
        """
        shown = self._sources.of(source), self._types.of(event_type), self._known(handler), told
        self._counts[shown] = self._counts.get(shown, 0) + 1

    def _count_dead(self, handler: str, reason: str) -> None:
        key = self._known(handler), self._reasons.of(reason)
        self._dead[key] = self._dead.get(key, 0) + 1

    def _known(self, handler: str) -> str:
        return handler if not handler or handler in self._handlers else OTHER

    def _finished(self) -> dict[tuple[str, str], int]:
        """Return the counts of finished messages by handler and outcome, from 0 on: an alert on
        what has never happened needs the 0.
        """
        counts = {
            (handler, told): 0
            for handler in self._handlers
            for told in ("dead", "discarded", "handled")
        }
        for (_, _, handler, told), number in self._counts.items():
            if told in FINISHED:
                counts[handler, told] = counts.get((handler, told), 0) + number
        return counts

    def _dead_counts(self) -> dict[tuple[str, str], int]:
        return {(handler, "failed"): 0 for handler in self._handlers} | self._dead


def _handler_of(outcome: Outcome) -> str:
    """Return the name of the handler that an outcome is of; "" where there is none yet."""
    if isinstance(outcome, Done | Discarded):
        return outcome.handler
    if isinstance(outcome, Ignored | FannedOut):
        return ""
    return outcome.progress.handler


def _trace_id_in(trace: bytes) -> str:
    """Return the trace ID of a traceparent; "" where it is none."""
    found = _TRACE.fullmatch(trace)
    return found[1].decode() if found else ""
