"""Numbers as people write them."""

from __future__ import annotations

import pytest

from hookmill.admin.units import (
    age,
    bytes_of,
    count,
    duration_of,
    seconds_of,
    share_of,
    size,
    span,
)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1500, "1.5 kB"), (99_400, "99 kB"),
        (999_400, "999 kB"), (1_900_000_000, "1.9 GB"), (5e12, "5.0 TB"),
    ],
)  # fmt: skip
def test_bytes_are_written_as_people_do(number: float, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 m"), (7_199, "120 m"), (7_200, "2 h"), (200_000, "2 d")],
)
def test_an_age_is_rounded_to_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(90, "90 s"), (0.5, "0.5 s"), (300, "5 min"), (3600, "1 h"), (259_200, "72 h")],
)
def test_a_span_is_written_in_its_largest_whole_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("2h", 7_200), ("7d", 604_800), ("", None), ("-1s", None),
     ("1.5h", None), ("3", None), ("10M", None), ("3m ", None), ("\u0663m", None),
     ("1" * 10 + "s", None)],
)  # fmt: skip
def test_a_span_is_read_from_a_whole_number_and_a_unit(text: str, seconds: int | None) -> None:
    assert seconds_of(text) == seconds


def test_a_counted_word_has_the_right_form() -> None:
    assert [count(n, "secret", "secrets") for n in (0, 1, 2000)] == [
        "0 secrets",
        "1 secret",
        "2,000 secrets",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("1.5s", 1.5), ("72h", 259_200), ("0s", 0), ("20", None), ("1e3s", None),
     ("-1s", None), ("\u0663s", None), ("", None)],
)  # fmt: skip
def test_a_duration_may_have_a_fraction_and_milliseconds(text: str, seconds: float | None) -> None:
    assert duration_of(text) == seconds


@pytest.mark.parametrize(
    ("text", "number"),
    [("214", 214), ("2k", 2_000), ("2KB", 2_000), ("2KiB", 2_048), ("1.5MB", 1_500_000),
     ("64g", 64_000_000_000), ("2i", None), ("k", None), ("-2k", None), ("2 k", None)],
)  # fmt: skip
def test_a_size_is_read_in_decimal_and_in_binary_units(text: str, number: int | None) -> None:
    assert bytes_of(text) == number


@pytest.mark.parametrize(
    ("text", "share"), [("60%", 0.6), ("0.6", 0.6), ("1", 1), ("%", None), ("a", None)]
)
def test_a_share_is_read_with_and_without_percent(text: str, share: float | None) -> None:
    assert share_of(text) == share
