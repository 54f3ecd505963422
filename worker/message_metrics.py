"""Counts the outcomes of messages, and how long they waited, ran, and took as a whole.

The pool tells it what was settled, and only where there is a page /metrics.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from hookmill.instrumentation.traceparent import read_traceparent
from hookmill.message import TRACE_FIELD
from worker.outcome import (
    DeadLettered,
    Discarded,
    Done,
    FannedOut,
    HeldBack,
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
    HeldBack: "held_back",
}
"""The values of the label `outcome`."""

FINISHED = frozenset({"handled", "discarded", "ignored", "dead"})
"""The outcomes after which a message is no longer to be worked on."""

MOST_REASONS = 50
"""Values of the label `reason`: handlers may give reasons of their own."""


_Ended = AttemptEnded[Outcome]


class _Now(NamedTuple):
    """The time in Unix seconds, and the Unix time at which `time.perf_counter` was 0."""

    unix: float
    at_zero: float


class _Times(NamedTuple):
    """The histograms of one handler."""

    waiting: Histogram
    running: Histogram
    whole: Histogram


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

    def settled(self, settled: Sequence[_Ended]) -> None:
        """Count attempts whose outcomes have been written, and observe their times."""
        handled: defaultdict[tuple[str, str, str], list[_Ended]] = defaultdict(list)
        source = event_type = handler = ""
        same: list[_Ended] = []
        unix = self._clock()
        now = _Now(unix, unix - time.perf_counter())
        for one in settled:
            outcome, message = one.outcome, one.message
            if type(outcome) is not Done or message is None:
                self._count_other(one, now)
                continue
            # To compare with the one before takes a quarter of the time of a look into the
            # dictionary: each message has strings of its own.
            if (
                message.type != event_type
                or message.source != source
                or outcome.handler is not handler
            ):
                source, event_type, handler = message.source, message.type, outcome.handler
                same = handled[source, event_type, handler]
            same.append(one)
        for (source, event_type, handler), some in handled.items():
            self._count(source, event_type, handler, "handled", len(some))
            received = [one.message.received_ms for one in some]  # type: ignore[union-attr]  # read
            self._observe(handler, some, received, now)
            self._observe_whole(handler, some, received, now)

    def flush(self) -> None:
        """Count what was added to the histograms."""
        for family in self._families:
            family.flush()

    def _count_other(self, one: _Ended, now: _Now) -> None:
        """Count an attempt that did not succeed."""
        outcome, message = one.outcome, one.message
        handler, told = outcome.told().handler, OUTCOMES[type(outcome)]
        source, event_type = (message.source, message.type) if message else ("", "")
        self._count(source, event_type, handler, told, 1)
        if type(outcome) is DeadLettered:
            self._count_dead(handler, outcome.reason)
        if message is None or isinstance(outcome, Requeued | HeldBack):
            return  # no handler ran
        received = [message.received_ms]
        if handler:
            self._observe(handler, [one], received, now)
        if told in FINISHED:
            self._observe_whole(handler, [one], received, now)

    def _observe(self, handler: str, some: list[_Ended], received: list[int], now: _Now) -> None:
        times, at_zero = self._times_for(handler), now.at_zero
        times.running.add_all([one.seconds for one in some])
        waited = [
            at_zero + one.began - ms / 1000
            for one, ms in zip(some, received, strict=True)
            if not one.progress.attempts
        ]
        times.waiting.add_all(waited)
        if trace_id := _trace_id_of(some[-1]):
            times.running.exemplify(some[-1].seconds, trace_id)
            if not some[-1].progress.attempts:
                times.waiting.exemplify(waited[-1], trace_id)

    def _observe_whole(
        self, handler: str, some: list[_Ended], received: list[int], now: _Now
    ) -> None:
        whole, unix = self._times_for(handler).whole, now.unix
        took = [unix - ms / 1000 for ms in received]
        whole.add_all(took)
        if trace_id := _trace_id_of(some[-1]):
            whole.exemplify(took[-1], trace_id)

    def _times_for(self, handler: str) -> _Times:
        return self._times.get(handler) or self._times[OTHER]

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

    def _count(self, source: str, event_type: str, handler: str, told: str, number: int) -> None:
        """Count under labels that are bounded."""
        shown = self._sources.of(source), self._types.of(event_type), self._known(handler), told
        self._counts[shown] = self._counts.get(shown, 0) + number

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


def _trace_id_of(one: _Ended) -> str:
    """Return the ID of a message's trace; "" where there is none, or it is not recorded."""
    trace = one.entry.fields.get(TRACE_FIELD)
    found = None if trace is None else read_traceparent(trace.decode("latin-1"))
    return found.trace_id if found is not None and found.is_sampled else ""
