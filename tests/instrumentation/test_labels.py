"""The values of a label are few and harmless, whatever senders choose."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hookmill.instrumentation.labels import LONGEST, OTHER, BoundedLabel
from hookmill.printable import printable


def test_what_comes_beyond_the_bound_is_other_and_what_is_known_stays() -> None:
    label = BoundedLabel(2, ("known",))
    assert [label.of(text) for text in ("a", "b", "a", "known")] == ["a", OTHER, "a", "known"]


@given(st.lists(st.text(), max_size=30))
def test_values_are_few_short_and_printable(texts: list[str]) -> None:
    label = BoundedLabel(5)
    values = {label.of(text) for text in texts}
    assert len(values - {OTHER}) <= 5
    assert all(len(value) <= LONGEST and printable(value) == value for value in values)


@given(st.text(st.characters(categories=["Cs", "Cc", "Cf"]), min_size=1))
def test_what_steers_a_terminal_is_other(text: str) -> None:
    assert BoundedLabel(5).of(text) == OTHER
