"""Keeps work to a rate: at most `rate` a second, evenly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class Pace:
    """Lets at most `rate` a second pass (None: no bound), in steps of at most `largest_step`."""

    def __init__(
        self,
        rate: float | None,
        largest_step: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._largest_step = largest_step
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    @property
    def step(self) -> int:
        """How many may pass at once: those of a tenth of a second, so that the load is even."""
        if self._rate is None:
            return self._largest_step
        return max(1, min(self._largest_step, int(self._rate / 10)))

    async def wait(self, count: int) -> None:
        """Wait until `count` more may pass."""
        if self._rate is None:
            return
        if (ahead := self._free_at - self._clock()) > 0:
            await self._sleep(ahead)
        # Counted from now, because time that a slow Redis took must not be followed by a burst.
        self._free_at = max(self._free_at, self._clock()) + count / self._rate
