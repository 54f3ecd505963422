"""How long a sender goes on: what an answer means, and when it tries again. No I/O, no clock.

An attempt ends as an `Answer` or as `Broken`; `judge` says what follows from it.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple

from hookmill.errors import SettingsError

WINDOW = 590.0
"""Seconds in which all attempts have to end: QStash knows a deduplication ID for ten minutes, and
one that it reads later could publish a second time.
"""

_FARTHEST = 400 * 86400.0
"""Seconds until a reset beyond which it is no reset but nonsense."""

_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")
_DURATION = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)s)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How a sender tries: at most `attempts` times, `connect` seconds for a connection and `total`
    for an attempt as a whole. Pauses are drawn between 0 and a bound that doubles from
    `first_pause` to `longest_pause` seconds. Where an answer says when to come again, that is
    waited for, up to `patience` seconds; what takes longer is an error at once.
    """

    attempts: int = 5
    connect: float = 5.0
    total: float = 30.0
    first_pause: float = 0.5
    longest_pause: float = 10.0
    patience: float = 60.0

    def __post_init__(self) -> None:
        faults = [
            f"Persistence: {name} has to be more than 0, and finite"
            for name in ("connect", "total")
            if not 0 < getattr(self, name) < math.inf
        ]
        if isinstance(self.attempts, bool) or not (
            isinstance(self.attempts, int) and self.attempts > 0
        ):
            faults.append("Persistence: attempts has to be a whole number, 1 or more")
        faults += [
            f"Persistence: {name} has to be 0 or more"
            for name in ("first_pause", "longest_pause", "patience")
            if not getattr(self, name) >= 0
        ]
        if faults:
            raise SettingsError(faults)

    def pause(self, attempt: int, asked: float | None) -> float:
        """Return the seconds to wait after the attempt with that number (1: the first).

        What was `asked` for is waited for in full, and a bit on top: others were told the same.
        """
        # Beyond 30 doublings the ceiling holds anyhow, and 2.0 to the power of all does not.
        bound = min(self.longest_pause, self.first_pause * 2.0 ** min(attempt - 1, 30))
        return (asked or 0.0) + random.uniform(0.0, bound)  # noqa: S311 - no secret


class Answer(NamedTuple):
    """What a server said; `body` whole where it is needed, else its beginning. `may_be_repeat`: an
    attempt before this one may have taken effect.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    may_be_repeat: bool = False


class Broken(NamedTuple):
    """There was no usable answer. `may_be_read`: the server may have read the request whole;
    `is_final`: another attempt would end the same way.
    """

    reason: str
    may_be_read: bool = True
    is_final: bool = False


class Judgement(NamedTuple):
    """What follows from an attempt. `may_have_counted`: it may have taken effect; `wait`: seconds
    after which the server wants to be asked again, None: it did not say.
    """

    follows: Literal["accept", "again", "give up"]
    reason: str = ""
    may_have_counted: bool = False
    wait: float | None = None


UNUSABLE = Judgement("again", "an answer that cannot be read", may_have_counted=True)
"""An answer said 2xx, and what else it said makes no sense."""


def judge(outcome: Answer | Broken, patience: float, now: float) -> Judgement:
    """Say what follows; `now` is the Unix time (seconds)."""
    if isinstance(outcome, Broken):
        follows: Literal["again", "give up"] = "give up" if outcome.is_final else "again"
        return Judgement(follows, outcome.reason, outcome.may_be_read)
    status, reason = outcome.status, f"status {outcome.status}"
    if 200 <= status < 300:
        return Judgement("accept")
    if 300 <= status < 400:
        return Judgement("give up", f"{reason}: it redirects, which is not followed")
    if status != 429 and status < 500:
        return Judgement("give up", reason)
    wait = asked_wait(outcome.headers, now)
    # Whether a server that fails has done its work before is not known; who limits has not.
    may = status != 429
    if wait is not None and wait > patience:
        return Judgement("give up", f"{reason}: a limit is reached", may, wait)
    return Judgement("again", reason, may, wait)


def asked_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds after which a limit ends; None where no header says it in a usable way.

    QStash names the limit that was reached by what remains of it; several may stand there.
    """
    # The server's own clock goes before ours, for its resets are times of that clock.
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
    return None if wait is None or wait > _FARTHEST else max(wait, 0.0)


def _wait(text: str, now: float) -> float | None:
    """Read a reset: Unix seconds or milliseconds, seconds from now, a date, or "1m30s"."""
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number >= 1e11:
            number /= 1000
        # What is less than thirty years is no Unix time.
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
