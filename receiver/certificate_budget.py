"""Decides which certificates are fetched whose URLs nobody has proven to be good. No I/O.

Anybody can name such URLs, in forged deliveries. Half of the requests of a minute are made at once,
for the URLs that come first. The other half is for the URLs that come later: they wait, and one of
them after the other is chosen at random. So forged deliveries cannot use up all requests, whenever
they come.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

AT_ONCE = 10
"""Requests that are made at once in a minute, for each sender."""

PAUSE = 6.0
"""Seconds between two requests for URLs that wait, for each sender."""

MOST_WAITING = 100
"""URLs that may wait. Beyond that, one that is chosen at random is dropped."""

T = TypeVar("T")


class CertificateBudget(Generic[T]):
    """The requests for one sender. `clock` is in seconds and never goes back, `below` returns
    a random number below another. A `T` is what is kept of a URL that waits.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        below: Callable[[int], int] = random.randrange,
    ) -> None:
        self._clock = clock
        self._below = below
        self._times: deque[float] = deque()
        self._waiting: dict[str, T] = {}

    def __len__(self) -> int:
        """Return how many URLs wait."""
        return len(self._waiting)

    def allows(self, url: str) -> bool:
        """Return whether a URL may be requested at once. If so, the request is counted."""
        now = self._clock()
        while self._times and self._times[0] <= now - 60:
            self._times.popleft()
        if len(self._times) >= AT_ONCE:
            return False
        self._waiting.pop(url, None)
        self._times.append(now)
        return True

    def wait(self, url: str, kept: T) -> None:
        """Let a URL wait until it is drawn."""
        if url not in self._waiting and len(self._waiting) >= MOST_WAITING:
            self.draw()
        self._waiting[url] = kept

    def draw(self) -> tuple[str, T] | None:
        """Take out one of the URLs that wait, at random; return it with what was kept of it. None:
        none waits.
        """
        if not self._waiting:
            return None
        url = list(self._waiting)[self._below(len(self._waiting))]
        return url, self._waiting.pop(url)
