"""Decides which failures of something that is tried again and again are worth a log line."""

from __future__ import annotations

import time
from collections.abc import Callable

PERIOD = 10.0
"""Seconds between two log lines of one outage."""


class LogPace:
    """Lets the first failure pass, and while no try succeeds one each `PERIOD`. `clock` returns
    monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = 0.0
        self._failures = 0

    def failed(self) -> bool:
        """Count a failure; return whether it is to be logged."""
        self._failures += 1
        if self._failures > 1 and self._clock() < self._next:
            return False
        self._next = self._clock() + PERIOD
        return True

    def succeeded(self) -> None:
        """Note that a try succeeded: the next failure is the first one of another outage."""
        self._failures = 0

    @property
    def has_failed(self) -> bool:
        """Whether the last try failed."""
        return self._failures > 0

    @property
    def failures(self) -> dict[str, int]:
        """How many tries in a row have failed, for the log line; nothing for the first."""
        return {"failures": self._failures} if self._failures > 1 else {}
