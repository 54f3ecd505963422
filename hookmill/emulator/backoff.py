"""How long a failed attempt waits for its retry.

The destination's response decides, else the message's own expression, else QStash's backoff.
"""

from __future__ import annotations

import math
import re
from email.utils import parsedate_to_datetime

from hookmill.emulator import retry_delay
from hookmill.emulator.models import AttemptResult, QStashMessage

DAY_MS = 86_400_000

_RETRY_HEADERS = (
    "retry-after",
    "x-ratelimit-reset",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
)
"""Headers that tell when to retry. The first usable one counts."""

_GO_UNITS = {
    "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1, "us": 0.001, "µs": 0.001, "ns": 1e-6,
}  # fmt: skip
_GO_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|ns|m|s)")

_LONGEST_GO = 100
"""Characters of the longest duration that is read. Digits without a unit take a time that grows
with the square of their number.
"""


def wait_ms(message: QStashMessage, result: AttemptResult, now_ms: int) -> int:
    """Return the milliseconds to wait after a failed attempt of the message."""
    requested = _requested_ms(result, now_ms)
    if requested is not None:
        return requested
    if message.template.retry_delay:
        own = retry_delay.milliseconds(message.template.retry_delay, message.retried)
        if own is not None:
            return min(own, DAY_MS)
    return default_ms(message.retried + 1)


def default_ms(attempt: int) -> int:
    """Return QStash's own wait after failed attempt n: e^(2.5 n) seconds, a day at most."""
    return DAY_MS if attempt > 4 else round(math.exp(2.5 * attempt) * 1000)


def _requested_ms(result: AttemptResult, now_ms: int) -> int | None:
    given = {name.lower(): value for name, value in reversed(result.headers)}
    for name in _RETRY_HEADERS:
        requested = _read_ms(given.get(name, ""), now_ms)
        if requested is not None:
            # A wait of more than a day is ignored.
            return requested if requested <= DAY_MS else None
    return None


def _read_ms(text: str, now_ms: int) -> int | None:
    """Read seconds, a Go duration or an HTTP date, as milliseconds from now."""
    text = text.strip()
    try:
        return (
            max(0, round(float(text) * 1000))
            if text[:1].isascii() and text[:1].isdecimal()
            else _later(text, now_ms)
        )
    except (ValueError, OverflowError):
        pass
    parts = _GO_PART.findall(text) if len(text) <= _LONGEST_GO else []
    if not parts or "".join(map("".join, parts)) != text:
        return None
    # The bound is needed because float() turns a number of 400 digits into infinity.
    return round(min(sum(float(n) * _GO_UNITS[unit] for n, unit in parts), DAY_MS + 1))


def _later(text: str, now_ms: int) -> int | None:
    if not text:
        return None
    return max(0, round(parsedate_to_datetime(text).timestamp() * 1000) - now_ms)
