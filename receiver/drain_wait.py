"""The time between a signal and the end of listening: readiness is denied, deliveries are accepted.

Load balancers notice only with their next probe that a receiver is about to stop. Until then they
send deliveries here, and a closed port would refuse them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress


class DrainWait:
    """`wait` once, for so many seconds. `end` ends the wait sooner."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._is_waiting = False
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def wait(self) -> None:
        """Return after the time, or when the wait is ended."""
        self._is_waiting = True
        with suppress(TimeoutError):
            async with asyncio.timeout(self.seconds):
                await self._ended.wait()
        self._is_waiting = False

    def end(self) -> bool:
        """End the wait; return False if there is none that could be ended. A signal handler may
        call it.
        """
        was_waiting, self._is_waiting = self._is_waiting, False
        if was_waiting:
            self._loop.call_soon_threadsafe(self._ended.set)
        return was_waiting
