"""Signed times have one spelling, and what we write we read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.signatures import times

NOW = 1_700_000_000


@pytest.mark.parametrize(
    ("text", "unit", "moment"),
    [
        (b"1700000000", "s", NOW),
        (b"0", "s", 0),
        (b"9999999999999999", "s", 9999999999999999),
        (b"1700000000123", "ms", NOW + 0.123),
        (b"2023-11-14T22:13:20Z", "rfc3339", NOW),
        (b"2023-11-14T22:13:20.5Z", "rfc3339", NOW + 0.5),
        (b"2023-11-14T22:13:20.123456789Z", "rfc3339", NOW + 0.123456789),
        (b"2023-11-14T22:13:20+00:00", "rfc3339", NOW),
        (b"2023-11-15T00:13:20+02:00", "rfc3339", NOW),
        (b"2023-11-14T16:43:20-05:30", "rfc3339", NOW),
    ],
)
def test_a_time_is_read(text: bytes, unit: str, moment: float) -> None:
    assert times.read(text, unit) == pytest.approx(moment, abs=1e-6)


NUMBERS: list[Any] = [
    *(b"", b" ", b"-1", b"+1", b"01", b"00", b"1.0", b"1e9", b"1_000", b"0x10", b"17e8"),
    *(b" 1700000000", b"1700000000 ", b"1700000000\n", b"1700000000\0", b"12345678901234567"),
    *("\u0661\u0662".encode(), "\uff11".encode(), b"\xff", b"nan", b"inf", b"1,7"),
]
DATES = [
    *(b"", b"2023-11-14", b"2023-11-14T22:13:20", b"2023-11-14 22:13:20Z", b"1700000000"),
    *(b"2023-11-14t22:13:20z", b"2023-11-14T22:13:20z", b"2023-11-14T22:13Z", b"20231114T221320Z"),
    *(b"2023-11-14T22:13:20.Z", b"2023-11-14T22:13:20,5Z", b"2023-11-14T22:13:20.1234567890Z"),
    *(b"2023-02-30T00:00:00Z", b"2023-13-01T00:00:00Z", b"2023-11-14T25:00:00Z"),
    *(b"2023-11-14T22:13:60Z", b"0000-01-01T00:00:00Z", b"12023-11-14T22:13:20Z"),
    *(b"2023-11-14T22:13:20+99:00", b"2023-11-14T22:13:20+0200", b"2023-11-14T22:13:20+02"),
    *(b"2023-11-14T22:13:20Z\n", b" 2023-11-14T22:13:20Z", b"2023-W46-2T22:13:20Z", b"\xff"),
    "\u0662\u0660\u0662\u0663-11-14T22:13:20Z".encode(),
]


@pytest.mark.parametrize("text", NUMBERS, ids=ascii)
@pytest.mark.parametrize("unit", ["s", "ms"])
def test_what_is_no_plain_number_is_no_time(text: bytes, unit: str) -> None:
    assert times.read(text, unit) is None


@pytest.mark.parametrize("text", DATES, ids=ascii)
def test_what_is_no_full_date_and_time_is_no_time(text: bytes) -> None:
    assert times.read(text, "rfc3339") is None


@pytest.mark.parametrize(("unit", "step"), [("s", 1.0), ("ms", 0.001), ("rfc3339", 1e-5)])
@given(now=st.floats(0, 4e9))
def test_what_is_written_is_read(unit: str, step: float, now: float) -> None:
    moment = times.read(times.write(now, unit).encode(), unit)
    assert moment is not None
    assert abs(now - moment) <= step


@pytest.mark.parametrize("unit", ["s", "ms", "rfc3339"])
@given(text=st.one_of(st.binary(), st.from_regex(times.RFC3339), st.from_regex(rb"[0-9]{1,20}")))
def test_any_bytes_end_in_a_time_or_none(unit: str, text: bytes) -> None:
    moment = times.read(text, unit)
    assert moment is None or isinstance(moment, float | int)
