"""How attempts are packed, and read again."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.instrumentation.facts import AttemptEnded
from hookmill.message import Progress
from hookmill.stream.attempts import (
    MOST_ERROR_BYTES,
    HistoryBounds,
    attempt_in,
    attempts_in,
    chunk_of,
    kept_of_done,
    kept_of_others,
    packed,
    single,
)
from hookmill.stream.entries import AGAIN, STREAM, Entry, EntryRef, Settlement
from worker.outcome import DeadLettered, Discarded, Done, Outcome, Requeued, RetryLater

TEXTS = st.text(max_size=40)
OUTCOMES = st.one_of(
    st.builds(Done, st.sampled_from(["book", "mail", "ü"])),
    st.builds(Discarded, TEXTS, TEXTS),
    st.builds(Requeued, st.builds(Progress, owner=st.just("7-1"), handler=TEXTS), TEXTS),
)
ENDS = st.tuples(
    OUTCOMES,
    st.integers(0, 70_000),
    st.floats(-1e6, 1e6, allow_nan=False),
    st.floats(0, 1e6, allow_nan=False),
)


def ended(
    outcome: Outcome, attempts: int = 0, began: float = 0.0, seconds: float = 0.25, token: str = ""
) -> AttemptEnded[Outcome]:
    entry = Entry(EntryRef(STREAM, token or "7-1"), {b"id": b"m"})
    before = Progress(owner=token or "7-1", attempts=attempts)
    return AttemptEnded(entry, None, before, outcome, began, seconds)


@given(st.lists(ENDS, min_size=1, max_size=30))
def test_what_was_packed_is_read_as_it_was(ends: list[tuple[Outcome, int, float, float]]) -> None:
    offset = time.time() - time.perf_counter()
    attempts = [ended(*end) for end in ends]
    owners = [f"1764500000000-{number}" for number in range(len(ends))]
    blob = packed("w1", attempts, owners)
    for number, (one, owner) in enumerate(zip(attempts, owners, strict=True)):
        (read,) = attempts_in(blob, owner)
        told = one.outcome.told()
        surrogates_apart = told.reason.encode("utf-8", "backslashreplace").decode()
        assert (read.kind, read.reason, read.worker) == (told.kind, surrogates_apart, "w1")
        assert read.attempt == min(ends[number][1], 0xFFFF) + 1
        assert read.began_ms == pytest.approx((offset + one.began) * 1000, abs=10_000)
        assert read.seconds == pytest.approx(one.seconds, rel=1e-5, abs=1e-5)


@given(st.binary(max_size=200))
def test_what_cannot_be_read_is_left_out(blob: bytes) -> None:
    assert attempts_in(blob, "7-1") == []
    attempt_in(blob)  # it may be read by chance


def test_a_late_one_is_told_by_the_mark_before_its_owner() -> None:
    blob = packed("w1", [ended(Done("book"))] * 2, ["~7-1", "7-2"])
    assert [one.is_late for one in attempts_in(blob, "7-1")] == [True]
    assert [one.is_late for one in attempts_in(blob, "7-2")] == [False]
    assert [one.may_be_late for one in attempts_in(b"\1" + blob[1:], "7-2")] == [True]


def test_of_a_long_error_the_end_is_kept() -> None:
    progress = Progress(owner="7-1", handler="book")
    error = "x" * MOST_ERROR_BYTES + "the end \udcff"
    failed = ended(DeadLettered(progress, "failed \udcff", error), attempts=2)
    head, kept = single("w1", failed, failed.outcome.told())
    assert (len(kept), kept[-14:]) == (MOST_ERROR_BYTES, b"the end \\udcff")
    item = struct.pack(">B6sBH", 0, (77).to_bytes(6, "big"), 3, len(head)) + b"9-9" + head + kept
    read = attempt_in(item)
    assert read is not None
    assert (read.kind, read.attempt, read.reason, read.dead_id, read.written_ms, read.after) == (
        *("dead", 3, "failed \\udcff", "9-9", 77, None),
    )


def settled(token: str, outcome: Outcome, key_number: int = STREAM, **fields: Any) -> Settlement:
    ref = EntryRef(key_number, token if key_number == STREAM else "9-9")
    return Settlement(ref, owner=token.encode(), ended=ended(outcome, token=token, **fields))


def test_successes_are_in_batches_by_the_time_of_their_owners() -> None:
    near, far, next_one = "1764500000000-0", "1764500009000-1", "1764500000000-7"
    some = [settled(token, Done("book")) for token in (near, far, next_one)]
    number, *words = kept_of_done("w1", STREAM, some)
    assert (number, words[0::3], words[1::3]) == (2, [chunk_of(near), chunk_of(far)], [2, 1])
    blobs: list[Any] = words[2::3]
    found = [[len(attempts_in(blob, token)) for token in (near, far, next_one)] for blob in blobs]
    assert found == [[1, 0, 1], [0, 1, 0]]


def test_what_runs_again_is_kept_by_its_owner() -> None:
    some = [settled("1764500000000-0", Done("book"), AGAIN), settled("odd", Done("book"), AGAIN)]
    words: list[Any] = kept_of_done("w1", AGAIN, some)
    assert (words[0], words[2]) == (1, 1)
    assert attempts_in(words[3], "1764500000000-0")


def test_of_what_has_no_attempt_nothing_is_kept() -> None:
    plain = Settlement(EntryRef(STREAM, "1764500000000-9"))
    done = settled("1764500000000-0", Done("book"))
    assert kept_of_done("w1", STREAM, [plain, done])[2] == 1
    assert kept_of_done("w1", STREAM, [plain]) == [0]
    assert kept_of_done("w1", STREAM, []) == [0]


def test_failures_are_written_singly_and_the_rest_is_in_batches() -> None:
    progress = Progress(owner="1764500000000-0", handler="book")
    failed = settled("1764500000000-0", RetryLater(progress, 1.5, "ValueError", "its error"))
    keyed = settled("1764500000001-0", Done("book"))
    args: list[str | bytes | int] = []
    notes = kept_of_others("w1", [failed, keyed, Settlement(EntryRef(STREAM, "1-1"))], args)
    assert (notes[0][0], notes[0][2], notes[1], notes[2]) == (0, b"its error", [1], [0, "", ""])
    assert args[:3] == [1, chunk_of("1764500000001-0"), 1]


def test_each_partition_has_its_share_of_the_bounds() -> None:
    assert HistoryBounds(10, 1000).shared_by(3) == (4, 334)
    assert HistoryBounds().shared_by(3) == (0, 0)
