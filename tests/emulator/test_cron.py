"""Cron expressions, with their time zone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hookmill.emulator.cron import next_ms
from hookmill.emulator.models import ApiError


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("* * * * *", "2026-03-28T12:01"),
        ("*/5 * * * *", "2026-03-28T12:05"),
        ("0 0 1 1 *", "2027-01-01T00:00"),
        ("CRON_TZ=America/New_York 0 4 * * *", "2026-03-29T08:00"),
        ("CRON_TZ=Europe/Berlin 0 4 * * *", "2026-03-29T02:00"),  # the clocks have gone forward
        ("TZ=Asia/Tokyo 0 0 * * *", "2026-03-28T15:00"),
    ],
)
def test_it_gives_the_next_time_after(cron: str, expected: str) -> None:
    assert next_ms(cron, at("2026-03-28T12:00")) == at(expected)


@pytest.mark.parametrize(
    "cron",
    ["", "*", "* * * *", "60 * * * *", "* * 31 2 *", "every day", "CRON_TZ=Nowhere/X * * * * *",
     "CRON_TZ=../../etc/passwd * * * * *", "CRON_TZ= * * * * *", "CRON_TZ=UTC"],
)  # fmt: skip
def test_what_is_no_cron_expression_is_refused(cron: str) -> None:
    with pytest.raises(ApiError, match="invalid cron expression") as caught:
        next_ms(cron, 0)
    assert caught.value.status == 400
