"""What the tests of attempts share: an event, entries, and an attempter whose clock they set."""

from __future__ import annotations

import time
from typing import Any

from hookmill import Event, Handlers
from hookmill.instrumentation.facts import AttemptEnded
from hookmill.message import Message, Progress
from hookmill.stream.entries import STREAM, Entry, EntryRef
from tests.support import message
from worker.attempt import Attempter
from worker.outcome import (
    Outcome,
)
from worker.threads import HandlerThreads

NOW = 1_800_000_000.0
OWNER = "1700000000000-0"
FIRST = Progress(owner=OWNER)


class Paid(Event, tag="order.paid"):
    order: str
    amount: int


def entry(
    body: bytes = b'{"order": "o1", "amount": 5}',
    event_type: str = "order.paid",
    progress: Progress | None = None,
    **fields: Any,
) -> Entry:
    sent = message(body, type=event_type, **fields).to_fields()
    extra = progress.to_fields() if progress else {}
    return Entry(EntryRef(STREAM, OWNER), {**sent, **extra})


def ended(
    outcome: Outcome, before: Progress = FIRST, seconds: float = 0.0123
) -> AttemptEnded[Outcome]:
    """Return what listeners are told of an attempt that began just now."""
    given = entry()
    read = Message.from_fields(given.fields)
    return AttemptEnded(given, read, before, outcome, time.perf_counter(), seconds)


class Try:
    """Makes attempts, with a clock that only a test sets: `await attempt(entry)`."""

    def __init__(self, handlers: Handlers[Any], threads: HandlerThreads) -> None:
        self.now = NOW
        self.threads = threads
        self.attempter = Attempter(
            handlers, {"db": "pool"}, threads, grace=600, clock=lambda: self.now
        )

    async def __call__(self, given: Entry | None = None) -> Outcome:
        return await attempted(self.attempter, given or entry())


async def attempted(attempter: Attempter, given: Entry) -> Outcome:
    """Attempt an entry as a pool does."""
    progress = Progress.from_fields(given.fields, given.ref.id)
    return (await attempter.attempt(given, progress)).outcome
