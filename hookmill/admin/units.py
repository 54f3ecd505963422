"""Numbers as people write them: bytes, spans of time, ages, times, counted things. No I/O."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_SPAN = re.compile("([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def span(seconds: float) -> str:
    """Write a span of time in its largest whole unit: "72 h", "5 min", "90 s"."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"


def age(seconds: float) -> str:
    """Write an age, rounded to the unit that suits it: "3 m", "2 d"."""
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(number: float) -> str:
    """Write a number of bytes in decimal units: "1.9 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return (
                f"{number:.0f} {unit}" if number >= 99.5 or unit == "B" else f"{number:.2g} {unit}"
            )
        number /= 1000
    return f"{number:,.1f} TB"


def count(number: int, one: str, many: str) -> str:
    """Write a number with the right form of the word behind it: "1 secret", "2,000 secrets"."""
    return f"{number:,} {one if number == 1 else many}"


def day(moment: float) -> str:
    """Write a Unix time in seconds as its day and minute in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")


def moment(unix_ms: int) -> str:
    """Write a Unix time in milliseconds in ISO 8601 and UTC; "" for 0, which means none."""
    if not unix_ms:
        return ""
    try:
        return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{unix_ms} ms"  # not written by us; one odd entry must not hide the others


def seconds_of(text: str) -> int | None:
    """Read a span of time such as 30s, 10m, 2h or 7d; None: it is none."""
    found = _SPAN.fullmatch(text)
    return None if found is None else int(found[1]) * _SECONDS[found[2]]


def unix_ms_of(text: str) -> int:
    """Read a time in ISO 8601 (UTC unless it says otherwise), in Unix milliseconds.

    Raises `ValueError` for any other text.
    """
    moment = datetime.fromisoformat(text)
    # Without a zone, timestamp() would use the zone of this machine.
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
