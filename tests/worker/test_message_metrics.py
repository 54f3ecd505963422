"""Each outcome of an attempt is counted, and the times of its message are observed."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, get_args

import msgspec
import pytest

from hookmill.instrumentation.facts import AttemptEnded
from hookmill.message import Progress
from tests.worker.attempts import FIRST, ended
from worker.message_metrics import OUTCOMES, MessageMetrics
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

OF_BOOK = Progress(owner="1-0", handler="book", attempts=1)
TRACE = "0af7651916cd43dd8448eb211c80319c"

CASES: list[tuple[Outcome, str, str]] = [
    (Done("book"), "book", "handled"),
    (Discarded("book", "gone"), "book", "discarded"),
    (Ignored(), "", "ignored"),
    (FannedOut(FIRST, ("book", "mail")), "", "fanned_out"),
    (RetryLater(OF_BOOK, 1.0, "why"), "book", "retried"),
    (DeadLettered(OF_BOOK, "failed", "text"), "book", "dead"),
    (Requeued(OF_BOOK), "book", "requeued"),
    (HeldBack(OF_BOOK, "handler:book"), "book", "held_back"),
]


class Metrics(MessageMetrics):
    """Metrics whose clock a test sets."""

    def __init__(self, most_types: int = 10) -> None:
        self.now = 0.0
        super().__init__("main", ["book", "mail"], most_types, lambda: self.now)

    def end(self, one: AttemptEnded[Outcome]) -> None:
        """Have an attempt end, and have its outcome written."""
        self.settled([one])

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the samples of a name that are not 0, by their labels beside the group."""
        return {
            tuple(value for label, value in sample.labels.items() if label != "group"): sample.value
            for family in self.collect()
            for sample in family.samples
            if sample.name == f"hookmill_{name}" and sample.value
        }


def test_every_outcome_has_a_case() -> None:
    assert {type(outcome) for outcome, *_ in CASES} == OUTCOMES.keys() == set(get_args(Outcome))


@pytest.mark.parametrize(("outcome", "handler", "told"), CASES)
def test_an_outcome_is_counted_by_source_type_and_handler(
    outcome: Outcome, handler: str, told: str
) -> None:
    metrics = Metrics()
    metrics.end(ended(outcome))
    metrics.end(ended(outcome))
    source = ended(outcome).message.source  # type: ignore[union-attr]  # it has one
    assert metrics.values("messages_total") == {(source, "order.paid", handler, told): 2}
    is_finished = told in {"handled", "discarded", "ignored", "dead"}
    assert metrics.values("finished_messages_total") == (
        {(handler, told): 2} if is_finished else {}
    )


def test_what_an_alert_needs_is_there_from_the_start() -> None:
    metrics = Metrics()
    names = {
        (sample.name, sample.labels.get("handler"), sample.value)
        for family in metrics.collect()
        for sample in family.samples
    }
    for handler in ("book", "mail"):
        assert ("hookmill_finished_messages_total", handler, 0) in names
        assert ("hookmill_dead_letters_total", handler, 0) in names
        assert ("hookmill_message_waiting_seconds_count", handler, 0) in names


def test_waiting_running_and_the_whole_time_are_observed_once_each() -> None:
    metrics = Metrics()
    one = ended(Done("book"), seconds=2.0)
    assert one.message is not None
    one.began = time.perf_counter() - 2.0
    metrics.now = one.message.received_ms / 1000 + 10.0
    metrics.now += 5.0
    metrics.settled([one])
    assert metrics.values("message_running_seconds_sum") == {("book",): 2.0}
    assert metrics.values("message_waiting_seconds_sum") == {("book",): pytest.approx(13, abs=1)}
    assert metrics.values("message_end_to_end_seconds_sum") == {("book",): pytest.approx(15.0)}
    assert metrics.values("message_end_to_end_seconds_count") == {("book",): 1}


def test_a_later_attempt_is_no_waiting_and_a_clock_that_is_behind_makes_no_time_negative() -> None:
    metrics = Metrics()
    metrics.end(ended(Done("book"), OF_BOOK))
    assert metrics.values("message_waiting_seconds_count") == {}
    metrics.end(ended(Done("book")))
    assert metrics.values("message_waiting_seconds_count") == {("book",): 1}
    assert metrics.values("message_waiting_seconds_sum") == {}


def test_types_and_handlers_beyond_the_bound_are_other() -> None:
    metrics = Metrics(most_types=3)
    for number in range(5):
        one = ended(Done("book" if number else "unknown"))
        assert one.message is not None
        one.message = msgspec.structs.replace(one.message, type=f"t{number}")
        metrics.end(one)
        metrics.end(one)
    counts = metrics.values("messages_total")
    types: Counter[str] = Counter()
    for (_, event_type, *_), count in counts.items():
        types[event_type] += int(count)
    assert types == {"t0": 2, "t1": 2, "other": 6}
    assert {key[2] for key in counts} == {"book", "other"}


def test_dead_letters_are_counted_by_reason_and_reasons_are_bounded() -> None:
    metrics = Metrics()
    for number in range(200):
        metrics.end(ended(DeadLettered(OF_BOOK, f"reason {number}", "text")))
    reasons = metrics.values("dead_letters_total")
    assert sum(reasons.values()) == 200
    assert len(reasons) <= 51
    assert reasons["book", "other"] > 100


@pytest.mark.parametrize(
    ("trace", "expected"),
    [(f"00-{TRACE}-00f067aa0ba902b7-01".encode(), {TRACE}), (b"\x1b[2J", set())],
)
def test_the_trace_of_a_message_is_the_exemplar_of_its_times(
    trace: bytes, expected: set[str]
) -> None:
    metrics = Metrics()
    one = ended(Done("book"))
    one.entry.fields[b"trace"] = trace
    metrics.end(one)
    found: list[Any] = [
        sample.exemplar
        for family in metrics.collect()
        for sample in family.samples
        if sample.exemplar
    ]
    assert {exemplar.labels["trace_id"] for exemplar in found} == expected
    assert len(found) == 3 * len(expected)
