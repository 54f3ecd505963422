"""Checks durations and times, and writes them as QStash reads them. No I/O.

`option` is the name of the option that is checked. A value that is not usable is a `ValueError`
that names it.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta

from hookmill.sending.outgoing import Moment, Outgoing, Span

LONGEST = 10 * 366 * 86400
"""Seconds. A longer duration is considered a mistake."""

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SPAN = re.compile("".join(f"(?:([0-9]{{1,9}}){unit})?" for unit in _UNITS))


def span(option: str, value: Span, *, least: int = 0) -> str:
    """Return a duration as QStash reads it."""
    whole = seconds(option, value, least)
    return value if isinstance(value, str) else f"{whole}s"


def seconds(option: str, value: Span, least: int = 0) -> int:
    """Return a duration in whole seconds, rounded up."""
    if isinstance(value, str):
        match = _SPAN.fullmatch(value)
        if not value or not match:
            raise ValueError(f'{option}: write it as "1d10h30m" or "45s", got {value[:50]!r}')
        found = sum(
            int(number or 0) * size
            for number, size in zip(match.groups(), _UNITS.values(), strict=True)
        )
    elif isinstance(value, timedelta):
        found = math.ceil(value.total_seconds())
    elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{option}: give text, seconds or a timedelta, got {value!r}")
    else:
        found = math.ceil(value)
    if not least <= found <= LONGEST:
        raise ValueError(f"{option}: has to be at least {least} s, and at most ten years")
    return found


def unix_seconds(option: str, value: Moment) -> int:
    """Return a time in whole Unix seconds, rounded up."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{option}: the datetime has no time zone: add one")
        value = value.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{option}: give a datetime or Unix seconds, got {value!r}")
    if not 0 <= value < 1e11:
        raise ValueError(f"{option}: {value!r} is not a time in Unix seconds")
    return math.ceil(value)


def delivered_at(outgoing: Outgoing, now: float) -> float:
    """Return the time of the first delivery attempt, in Unix seconds."""
    if outgoing.not_before is not None:
        return max(now, unix_seconds("not_before", outgoing.not_before))
    return now + (0 if outgoing.delay is None else seconds("delay", outgoing.delay))
