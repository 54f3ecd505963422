"""Decides whether an attempt is repeated, and how long to wait before. No I/O, no clock."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple

from hookmill.errors import SettingsError
from hookmill.sending.exchange import HttpResponse, NoResponse

DEDUPLICATION_WINDOW = 590.0
"""Seconds within which all attempts end. QStash remembers a deduplication ID for ten minutes; an
attempt that arrives later would publish the message a second time.
"""

_LONGEST_WAIT = 400 * 86400.0
"""Seconds. A reset time further away is ignored."""

_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")
_DURATION = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)s)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how long a sender tries.

    It makes at most `attempts` attempts. Each may take `connect` seconds to connect and `total`
    seconds as a whole. Before a retry it waits a random time, from 0 to a bound that doubles from
    `first_pause` to `longest_pause` seconds. Where a response says when to retry, it waits that
    long as well, up to `patience` seconds; a longer wait is an error at once.
    """

    attempts: int = 5
    connect: float = 5.0
    total: float = 30.0
    first_pause: float = 0.5
    longest_pause: float = 10.0
    patience: float = 60.0

    def __post_init__(self) -> None:
        faults = [
            f"RetryPolicy: {name} has to be more than 0, and finite"
            for name in ("connect", "total")
            if not 0 < getattr(self, name) < math.inf
        ]
        if isinstance(self.attempts, bool) or not (
            isinstance(self.attempts, int) and self.attempts > 0
        ):
            faults.append("RetryPolicy: attempts has to be a whole number, 1 or more")
        faults += [
            f"RetryPolicy: {name} has to be 0 or more"
            for name in ("first_pause", "longest_pause", "patience")
            if not getattr(self, name) >= 0
        ]
        if faults:
            raise SettingsError(faults)

    def pause(self, attempt: int, asked: float | None) -> float:
        """Return the seconds to wait after an attempt; the first attempt has the number 1.

        The wait that a server asked for (`asked`) is kept in full. The random pause comes on top,
        because other senders were told the same time.
        """
        # The exponent is limited because 2.0 to the power of any number would overflow.
        bound = min(self.longest_pause, self.first_pause * 2.0 ** min(attempt - 1, 30))
        return (asked or 0.0) + random.uniform(0.0, bound)  # noqa: S311 - no secret


class RetryDecision(NamedTuple):
    """What follows from an attempt.

    `may_have_counted`: the attempt may have taken effect. `wait`: seconds after which the server
    wants the next attempt; None if it did not say.
    """

    action: Literal["accept", "retry", "give up"]
    reason: str = ""
    may_have_counted: bool = False
    wait: float | None = None


UNREADABLE = RetryDecision("retry", "the response cannot be read", may_have_counted=True)
"""The status is 2xx, but the body is not what was expected."""


def decide(outcome: HttpResponse | NoResponse, patience: float, now: float) -> RetryDecision:
    """Decide what follows from an attempt; `now` is in Unix seconds."""
    if isinstance(outcome, NoResponse):
        action: Literal["retry", "give up"] = "give up" if outcome.is_final else "retry"
        return RetryDecision(action, outcome.reason, outcome.may_have_arrived)
    status, reason = outcome.status, f"status {outcome.status}"
    if 200 <= status < 300:
        return RetryDecision("accept")
    if 300 <= status < 400:
        return RetryDecision("give up", f"{reason}: redirects are not followed")
    if status != 429 and status < 500:
        return RetryDecision("give up", reason)
    wait = requested_wait(outcome.headers, now)
    # A server that fails may have done its work before. A server that limits has not.
    may_have_counted = status != 429
    if wait is not None and wait > patience:
        return RetryDecision("give up", f"{reason}: a limit is reached", may_have_counted, wait)
    return RetryDecision("retry", reason, may_have_counted, wait)


def requested_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds until a limit ends; None if no header says so in a usable way.

    A response may name several limits. The limit that is reached has 0 remaining.
    """
    # The server's clock is used where it is known, because the resets are times of that clock.
    date = _moment(headers.get("Date", ""))
    now = now if date is None else date
    limits: list[tuple[str, float]] = []
    for prefix in ("Burst-RateLimit-", "RateLimit-", "X-RateLimit-"):
        reset = _seconds_until(headers.get(f"{prefix}Reset", ""), now)
        if reset is not None:
            limits.append((headers.get(f"{prefix}Remaining", "0").strip(), reset))
    reached = [reset for remaining, reset in limits if remaining == "0"]
    waits = reached or [reset for _, reset in limits]
    after = _seconds_until(headers.get("Retry-After", ""), now)
    if after is not None:
        waits.append(after)
    return max(waits, default=None)


def _seconds_until(text: str, now: float) -> float | None:
    wait = _wait(text.strip(), now)
    return None if wait is None or wait > _LONGEST_WAIT else max(wait, 0.0)


def _wait(text: str, now: float) -> float | None:
    """Read a reset: Unix seconds or milliseconds, seconds from now, a date, or "1m30s"."""
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number >= 1e11:
            number /= 1000
        # A smaller number is a duration: as a Unix time it would lie before 2001.
        return number - now if number >= 1e9 else number
    match = _DURATION.fullmatch(text)
    if text and match:
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds
    moment = _moment(text)
    return None if moment is None else moment - now


def _moment(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
