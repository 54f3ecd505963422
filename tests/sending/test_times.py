"""Durations and times as QStash reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill import Outgoing
from hookmill.sending.times import delivered_at, seconds, span, unix_seconds

URL = "https://app.example/hook"


@pytest.mark.parametrize(
    ("value", "written", "whole"),
    [
        ("10m", "10m", 600),
        ("1d10h30m", "1d10h30m", 124_200),
        ("0s", "0s", 0),
        (600, "600s", 600),
        (0, "0s", 0),
        (1.2, "2s", 2),
        (timedelta(minutes=10), "600s", 600),
        (timedelta(milliseconds=1), "1s", 1),
    ],
)
def test_a_duration_is_written_as_qstash_reads_it(value: Any, written: str, whole: int) -> None:
    assert (span("delay", value), seconds("delay", value)) == (written, whole)


@pytest.mark.parametrize(
    "value",
    ["", "soon", "10", "10 m", "10m ", "-5s", "5m1h", "1w", "1.5h", "٣s", "1h1h", "10m\n", -1, True,
     float("nan"), float("inf"), timedelta(seconds=-5), None, b"5s", "999999999d",
     1e300],
)  # fmt: skip
def test_an_invalid_duration_is_refused_by_its_options_name(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^delay: "):
        span("delay", value)


@given(st.integers(0, 999), st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 9999))
def test_a_duration_in_units_is_their_sum(d: int, h: int, m: int, s: int) -> None:
    assert seconds("delay", f"{d}d{h}h{m}m{s}s") == d * 86400 + h * 3600 + m * 60 + s


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1_900_000_000, 1_900_000_000),
        (1_900_000_000.2, 1_900_000_001),
        (datetime(2030, 1, 1, tzinfo=UTC), 1_893_456_000),
        (datetime(2030, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 1_893_456_000),
    ],
)
def test_a_time_is_unix_seconds_whatever_its_time_zone(value: Any, written: int) -> None:
    assert unix_seconds("not_before", value) == written


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (datetime(2030, 1, 1), "time zone"),  # noqa: DTZ001 - that is the fault
        (1_900_000_000_000, "Unix seconds"),
        (-1, "Unix seconds"),
        (True, "Unix seconds"),
        (float("nan"), "Unix seconds"),
        ("tomorrow", "Unix seconds"),
    ],
)
def test_an_invalid_time_is_refused(value: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=f"^not_before: .*{fault}"):
        unix_seconds("not_before", value)


def test_a_message_is_delivered_when_it_was_asked_to_be_and_never_in_the_past() -> None:
    now = 1_000_000.0
    assert delivered_at(Outgoing(URL, b""), now) == now
    assert delivered_at(Outgoing(URL, b"", delay="1m"), now) == now + 60
    assert delivered_at(Outgoing(URL, b"", not_before=now + 5), now) == now + 5
    assert delivered_at(Outgoing(URL, b"", not_before=now - 5), now) == now
