"""What the tests of attempts share: an event, entries, and an attempter whose clock they set."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from hookmill import Event, Handlers
from hookmill.message import Progress
from hookmill.stream.entries import STREAM, Entry, EntryRef
from tests.support import message
from worker.attempt import Attempter
from worker.outcome import (
    Outcome,
)
from worker.threads import HandlerThreads

NOW = 1_800_000_000.0
OWNER = "1700000000000-0"


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


def attempted(attempter: Attempter, given: Entry) -> Coroutine[Any, Any, Outcome]:
    """Attempt an entry as a pool does."""
    return attempter.attempt(given, Progress.from_fields(given.fields, given.ref.id))
