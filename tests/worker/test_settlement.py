"""For each outcome, what is written in the place of its entry."""

from __future__ import annotations

import pytest

from hookmill.message import MAX_LAST_ERROR, Fields, Progress
from hookmill.stream.entries import AGAIN, STREAM, Entry, EntryRef, FollowUp, Settlement
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
from worker.settlement import settlement_of

REF = EntryRef(STREAM, "7-1")
SENT: Fields = {b"version": b"1", b"id": b"m", b"body": b"{}"}
ENTRY = Entry(REF, SENT)


def now() -> float:
    return 0.099


def progress_fields(handler: bytes = b"", attempts: bytes = b"0", unknown: bytes = b"0") -> Fields:
    return {
        b"owner": b"7-1", b"handler": handler, b"attempts": attempts, b"failed": b"0",
        b"unknown": unknown,
    }  # fmt: skip


@pytest.mark.parametrize("outcome", [Done("book"), Ignored(), Discarded("book", "gone")])
def test_what_is_over_leaves_nothing_in_its_place(outcome: Outcome) -> None:
    settlement = settlement_of(ENTRY, outcome, now)
    assert (settlement.ref, settlement.follow_ups, settlement.key) == (REF, (), b"")


def test_what_has_an_ordering_key_is_settled_with_it_and_its_owner() -> None:
    entry = Entry(REF, {**SENT, b"source": b"shop", b"key": b"7"})
    expected = Settlement(REF, key=b"shop:7", owner=b"7-1")
    assert settlement_of(entry, Done("book"), now) == expected


def test_a_retry_stands_with_its_progress_in_the_entrys_place() -> None:
    outcome = RetryLater(Progress(owner="7-1", handler="book", attempts=2), 1.5, "asked to wait")
    changes = progress_fields(b"book", b"2")
    assert settlement_of(ENTRY, outcome, now) == Settlement(
        REF, (FollowUp("again", "7-1/book", changes, 1500),), owner=b"7-1", fields=SENT
    )


def test_a_retry_carries_the_end_of_its_last_error_until_the_next_one() -> None:
    progress = Progress(owner="7-1", handler="book", attempts=2)
    failed = RetryLater(progress, 1.5, "ValueError", "x" * MAX_LAST_ERROR + "oh \udcff no")
    (follow_up,) = settlement_of(ENTRY, failed, now).follow_ups
    error = follow_up.changes[b"error"]
    assert error.endswith(b"xxoh \\udcff no")
    assert len(error.decode()) == MAX_LAST_ERROR + len("\\udcff") - 1
    entry = Entry(EntryRef(AGAIN, "9-9"), {**SENT, **follow_up.changes})
    (asked,) = settlement_of(entry, RetryLater(progress, 1, "asked"), now).follow_ups
    assert b"error" not in asked.changes
    (next_one,) = settlement_of(entry, RetryLater(progress, 1, "", "KeyError"), now).follow_ups
    assert next_one.changes[b"error"] == b"KeyError"
    (dead,) = settlement_of(entry, DeadLettered(progress, "failed", "the last"), now).follow_ups
    assert dead.changes[b"error"] == b"the last"


def test_what_does_not_keep_its_key_is_set_aside() -> None:
    outcome = RetryLater(Progress(owner="7-1", unknown_ms=5), 1.5, "unhandled", keeps_key=False)
    (follow_up,) = settlement_of(ENTRY, outcome, now).follow_ups
    assert follow_up == FollowUp("aside", "7-1/", progress_fields(unknown=b"5"), 1500)


@pytest.mark.parametrize(
    ("after", "delay_ms"), [(0, 0), (0.0004, 0), (366 * 86_400, 31_622_400_000)]
)
def test_delays_are_written_in_milliseconds(after: float, delay_ms: int) -> None:
    (follow_up,) = settlement_of(
        ENTRY, RetryLater(Progress(owner="7-1"), after, ""), now
    ).follow_ups
    assert follow_up.delay_ms == delay_ms


def test_the_progress_of_an_earlier_attempt_is_replaced() -> None:
    entry = Entry(EntryRef(AGAIN, "9-9"), {**SENT, **progress_fields(b"book", b"1", b"5")})
    outcome = RetryLater(Progress(owner="7-1", handler="book", attempts=2), 1, "")
    (follow_up,) = settlement_of(entry, outcome, now).follow_ups
    assert follow_up.changes == progress_fields(b"book", b"2")


def test_what_is_requeued_can_be_taken_at_once_with_the_same_count() -> None:
    before = Progress(owner="7-1", handler="book", attempts=2)
    changes = progress_fields(b"book", b"2")
    assert settlement_of(ENTRY, Requeued(before), now) == Settlement(
        REF, (FollowUp("again", "7-1/book", changes, 0),), owner=b"7-1", fields=SENT
    )


def test_each_of_several_handlers_gets_an_entry_of_its_own() -> None:
    outcome = FannedOut(Progress(owner="7-1", unknown_ms=5), ("book", "mail"))
    assert settlement_of(ENTRY, outcome, now) == Settlement(
        REF,
        (
            FollowUp("again", "7-1/book", progress_fields(b"book")),
            FollowUp("again", "7-1/mail", progress_fields(b"mail")),
        ),
        owner=b"7-1",
        fields=SENT,
    )


def test_a_dead_letter_carries_the_message_its_progress_and_its_reason() -> None:
    outcome = DeadLettered(
        Progress(owner="7-1", handler="book", attempts=8), "failed", "oh \udcff no"
    )
    changes = {
        **progress_fields(b"book", b"8"),
        b"reason": b"failed", b"error": b"oh \\udcff no", b"died": b"99",
    }  # fmt: skip
    assert settlement_of(ENTRY, outcome, now) == Settlement(
        REF, (FollowUp("dead", "7-1/book", changes),), owner=b"7-1", fields=SENT
    )


def test_the_ordering_key_counts_per_source_and_the_owner_is_kept() -> None:
    ordered = {**SENT, b"source": b"marble", b"key": b"post_1"}
    settled = settlement_of(Entry(REF, ordered), Done("book"), now)
    assert settled == Settlement(REF, (), b"marble:post_1", b"7-1")
    later = Entry(EntryRef(AGAIN, "9-9"), {**ordered, **progress_fields(b"book")})
    settled = settlement_of(later, Done("book"), now)
    assert (settled.key, settled.owner) == (b"marble:post_1", b"7-1")
    assert settlement_of(Entry(REF, {**SENT, b"key": b""}), Done("book"), now).key == b""


def test_fields_of_an_unknown_version_are_kept_as_they_are() -> None:
    entry = Entry(REF, {b"version": b"9", b"\xff": b"\x00"})
    outcome = RetryLater(Progress(owner="7-1", unknown_ms=5), 1, "unknown_wire_version")
    settlement = settlement_of(entry, outcome, now)
    assert settlement.fields == entry.fields
    assert [one.changes for one in settlement.follow_ups] == [progress_fields(unknown=b"5")]
