"""Numbers as people write them: bytes, spans of time, ages, times, counted things. No I/O."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_SPAN = re.compile("([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([kmgt]?)(i?)b?", re.ASCII | re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


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


def duration_of(text: str) -> float | None:
    """Read a span of time that may have a fraction, such as 20ms, 1.5s or 72h; None: it is none."""
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    return float(found[1]) * (0.001 if found[2] == "ms" else _SECONDS[found[2]])


def bytes_of(text: str) -> int | None:
    """Read a size such as 214, 2k, 1.5MB or 64GiB; None: it is none. K is 1000, Ki is 1024."""
    found = _SIZE.fullmatch(text)
    if found is None or (found[3] and not found[2]):
        return None
    unit: int = (1024 if found[3] else 1000) ** _POWERS[found[2].lower()]
    return round(float(found[1]) * unit)


def share_of(text: str) -> float | None:
    """Read a share such as 60% or 0.6; None: it is none."""
    found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)(%?)", text, re.ASCII)
    return None if found is None else float(found[1]) / (100 if found[2] else 1)


def unix_ms_of(text: str) -> int:
    """Read a time in ISO 8601 (UTC unless it says otherwise), in Unix milliseconds.

    Raises `ValueError` for any other text.
    """
    moment = datetime.fromisoformat(text)
    # Without a zone, timestamp() would use the zone of this machine.
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
