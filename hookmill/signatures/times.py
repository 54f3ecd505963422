"""Reads and writes signed times. Strictly, so that a time can be written in one way only."""

from __future__ import annotations

import re
from datetime import UTC, datetime

NAMES = {"s": "Unix seconds", "ms": "Unix milliseconds", "rfc3339": "a time as in RFC 3339"}
"""The names of the units, for people."""

_MOST_DIGITS = 16
RFC3339 = re.compile(
    rb"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
"""The form of a time as in RFC 3339."""


def read(text: bytes, unit: str) -> float | None:
    """Return the Unix time (seconds) of a text; None if it is not written in this unit."""
    if unit != "rfc3339":
        if not text.isdigit() or len(text) > _MOST_DIGITS:
            return None
        # No leading zeros: in `{body}{timestamp}` the last digit of the body could become one.
        if text.startswith(b"0") and text != b"0":
            return None
        return int(text) / 1000 if unit == "ms" else float(text)
    if not RFC3339.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.decode()).timestamp()
    except (ValueError, OverflowError):  # the 31st of February, the year 0
        return None


def write(now: float, unit: str) -> str:
    """Write a Unix time (seconds) as senders do."""
    if unit == "rfc3339":
        return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
    return str(int(now * 1000) if unit == "ms" else int(now))
