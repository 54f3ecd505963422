"""Settlements with what a group's history keeps of them, as a worker makes them."""

from __future__ import annotations

import time

from hookmill.instrumentation.facts import AttemptEnded
from hookmill.message import Progress
from hookmill.stream.attempts import HistoryBounds
from hookmill.stream.entries import Entry, Settlement
from worker.outcome import DeadLettered, Outcome, RetryLater
from worker.settlement import settlement_of

BOUNDS = HistoryBounds(1000, 1024 * 1024)


def settlement(entry: Entry, outcome: Outcome, attempts: int = 0) -> Settlement:
    before = Progress(owner=entry.owner.decode(), attempts=attempts)
    now = time.perf_counter()
    ended = AttemptEnded(entry, None, before, outcome, now - 0.5, 0.25)
    return settlement_of(entry, outcome, time.time, ended)


def retry(entry: Entry, error: str = "its error", after: float = 0.0) -> Settlement:
    progress = Progress(owner=entry.owner.decode(), handler="book", attempts=1)
    return settlement(entry, RetryLater(progress, after, "ValueError", error))


def dead(entry: Entry) -> Settlement:
    progress = Progress(owner=entry.owner.decode(), handler="book", attempts=2)
    return settlement(entry, DeadLettered(progress, "failed", "the last error"), attempts=1)
