"""Limits log lines that anybody can cause: few a second, so that nobody fills a disk."""

from __future__ import annotations

import time
from collections.abc import Callable

PER_SECOND = 10
"""Lines of one kind that are written in one second. The next line says how many were left out."""


class LogLimit:
    """Lets few lines of one kind pass in a second, and counts the rest. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._second = 0
        self._passed = 0
        self._held_back = 0

    def passes(self) -> bool:
        """Return whether one more line may be written now."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._passed = second, 0
        if self._passed >= PER_SECOND:
            self._held_back += 1
            return False
        self._passed += 1
        return True

    def report(self) -> dict[str, int]:
        """Return how many lines were held back since the last report; nothing if none were."""
        count, self._held_back = self._held_back, 0
        return {"held_back": count} if count else {}
