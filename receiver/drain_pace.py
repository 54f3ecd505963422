"""How much of the spool is drained at once, and how long an append may take.

Both follow what the line to Redis lets through: after a timeout the batches get smaller and the
time longer, after successes the other way round. Nobody waits for the answer to a drained message,
so there is time; but a batch that is given up too early is sent again and again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

BATCH_MESSAGES = 512
BATCH_BYTES = 8 * 1024 * 1024
"""The most that is drained in one step (a larger message goes alone)."""

LONGEST = 300.0
"""Seconds that one append may take at most."""

_SLOW_LINE = 256 * 1024
"""Bytes that pass in a second at least, until a timeout shows that they do not. An append that is
given up just before its answer comes is appended twice, so the time must not be tight.
"""

_LEAST_BYTES = 64 * 1024
_LOCKED_BYTES = 1024 * 1024
_LOCKED_SECONDS = 0.5
"""How long an append should take at most while the file is locked, because new messages wait."""

TIMEOUT = 2.0


class DrainPace:
    """`timeout` is in seconds: how long an append may take at least, beside the time for its bytes.
    It is the shortest later, too.
    """

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self._shortest = timeout
        self.timeout = timeout
        self.messages = BATCH_MESSAGES
        self.bytes = BATCH_BYTES
        self.locked_bytes = _LOCKED_BYTES
        """The most that may be appended while the file is locked."""

    @asynccontextmanager
    async def step(self, size: int, count: int, *, is_locked: bool = False) -> AsyncIterator[None]:
        """Bound the time of an append of so many bytes and messages, and learn from it.

        With `is_locked` the time is the shortest, because new messages wait.
        """
        seconds = self._shortest if is_locked else self.timeout + size / _SLOW_LINE
        begun = time.monotonic()
        try:
            async with asyncio.timeout(min(seconds, LONGEST)):
                yield
        except TimeoutError:
            self._slow_down(size, count, is_locked=is_locked)
            raise
        self._speed_up(size, time.monotonic() - begun)

    def _slow_down(self, size: int, count: int, *, is_locked: bool) -> None:
        self.locked_bytes = min(self.locked_bytes, size) // 2
        self.bytes = max(min(self.bytes, size) // 2, _LEAST_BYTES)
        self.messages = max(min(self.messages, count) // 2, 1)
        if not is_locked:
            self.timeout = min(self.timeout * 2, LONGEST)

    def _speed_up(self, size: int, seconds: float) -> None:
        self.bytes = min(self.bytes * 2, BATCH_BYTES)
        self.messages = min(self.messages * 2, BATCH_MESSAGES)
        if seconds < self.timeout / 4:
            self.timeout = max(self.timeout / 2, self._shortest)
        if seconds <= _LOCKED_SECONDS:
            self.locked_bytes = min(max(self.locked_bytes, size) * 2, BATCH_BYTES)
        else:
            self.locked_bytes = int(size / seconds * _LOCKED_SECONDS)
