"""What a worker adds to the history of rates."""

from __future__ import annotations

from typing import Any

import pytest

from hookmill.errors import StreamUnavailableError
from hookmill.instrumentation.facts import AttemptEnded
from hookmill.message import Message, Progress
from hookmill.stream.entries import Entry, EntryRef
from hookmill.stream.rates import PERIOD, RateHistory
from tests.support import message
from worker.outcome import DeadLettered, Discarded, Done, FannedOut, Outcome, Requeued, RetryLater
from worker.rates import WorkerRates

SEND = Progress(owner="1-1", handler="send")
NOW = 1_700_000_004.0


class Away(RateHistory):
    """A history that can be away, and keeps what it was given."""

    def __init__(self) -> None:
        self.is_away = False
        self.added: dict[str, int] = {}

    async def add(self, counts: Any) -> None:
        if self.is_away:
            raise StreamUnavailableError("away")
        self.added = dict(counts)


def ended(outcome: Outcome, of: Message | None, seconds: float = 0.003) -> AttemptEnded[Outcome]:
    return AttemptEnded(Entry(EntryRef(1, "1-1"), {}), of, SEND, outcome, 0.0, seconds)


async def test_attempts_are_counted_by_handler_outcome_time_and_type() -> None:
    history = Away()
    rates = WorkerRates(history, "main", lambda: NOW, lambda: 0.0)
    paid = message(type="order.paid", source="stripe")
    for outcome in (
        Done("send"), Done("send"), RetryLater(SEND, 1, "failed", "why"),
        DeadLettered(SEND, "failed", "why"), Discarded("send", "why"),
        FannedOut(SEND, ("a", "b")), Requeued(SEND),
    ):  # fmt: skip
        rates.settled([ended(outcome, paid)])
    rates.settled([ended(DeadLettered(SEND, "unreadable", "why"), None)])
    assert await rates.run_once() == PERIOD
    assert history.added == {
        '["out","main","send","done"]': 2,
        '["out","main","send","retried"]': 1,
        '["out","main","send","dead"]': 2,
        '["out","main","send","discarded"]': 1,
        '["ran","main","send",2]': 6,
        '["took","main","send",12]': 4,
        '["type","main","stripe","order.paid"]': 4,
    }


async def test_what_cannot_be_added_is_added_later() -> None:
    history = Away()
    rates = WorkerRates(history, "main", lambda: NOW, lambda: 0.0)
    rates.settled([ended(Done("send"), None)])
    history.is_away = True
    with pytest.raises(StreamUnavailableError):
        await rates.run_once()
    await rates.flush()
    history.is_away = False
    rates.settled([ended(Done("send"), None)])
    await rates.flush()
    assert history.added['["out","main","send","done"]'] == 2


async def test_a_receiver_whose_clock_is_ahead_counts_as_no_time() -> None:
    history = Away()
    paid = message(type="order.paid", source="stripe")
    rates = WorkerRates(history, "main", lambda: paid.received_ms / 1000 - 10, lambda: 0.0)
    rates.settled([ended(Done("send"), paid)])
    await rates.run_once()
    assert history.added['["took","main","send",0]'] == 1
