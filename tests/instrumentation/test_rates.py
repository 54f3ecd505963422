"""Counts of what goes in and out: bounded, written and read again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hookmill.instrumentation.rates import (
    MOST_TYPES,
    OTHER,
    Field,
    RateCounts,
    bucket_end,
    bucket_of,
    percentile,
    read,
    written,
)

FIELDS = st.lists(st.text(max_size=20) | st.integers(0, 60), min_size=1, max_size=4).map(tuple)


def test_what_could_not_be_written_is_counted_with_what_came_since() -> None:
    counts = RateCounts()
    counts.add(("in", "stripe", "accepted"), 2)
    taken = counts.take()
    counts.add(("in", "stripe", "accepted"))
    counts.give_back(taken)
    assert counts.take() == {("in", "stripe", "accepted"): 3}
    assert counts.take() == {}


def test_types_beyond_a_number_are_counted_together() -> None:
    counts = RateCounts()
    for number in range(MOST_TYPES):
        assert counts.bounded_type("stripe", f"type-{number}") == f"type-{number}"
    assert counts.bounded_type("stripe", "one more") == OTHER
    assert counts.bounded_type("other", "type-1") == OTHER
    assert counts.bounded_type("stripe", "type-1") == "type-1"


@given(st.dictionaries(FIELDS, st.integers(1, 2**40), max_size=5))
def test_what_is_written_is_read_again(counts: dict[Field, int]) -> None:
    rows = [(name.encode(), b"%d" % number) for name, number in written(counts)]
    assert read(rows) == counts


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=500))
def test_any_text_can_be_counted(text: str) -> None:
    ((name, number),) = written({("type", "main", text): 1})
    assert len(name.encode()) < 8000
    assert number == 1


@given(st.lists(st.tuples(st.binary(), st.binary())))
def test_what_others_wrote_does_no_harm(rows: list[tuple[bytes, bytes]]) -> None:
    read(rows)


@given(st.floats(0, 10**6))
def test_a_span_lies_below_the_end_of_its_bucket(seconds: float) -> None:
    bucket = bucket_of(seconds)
    assert seconds * 1000 < bucket_end(bucket) * 1000 + 1
    assert bucket == 0 or bucket_end(bucket - 1) <= seconds


def test_a_percentile_is_the_end_of_the_bucket_that_reaches_it() -> None:
    counts = {3: 90, 5: 9, 10: 1}
    assert percentile(counts, 0.5) == 0.008
    assert percentile(counts, 0.95) == 0.032
    assert percentile(counts, 1.0) == 1.024
    assert percentile({}, 0.5) is None
