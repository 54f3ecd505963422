"""Keeps the history of rates: adds what was received and refused to Redis once a period.

It costs a delivery nothing, because the counts of the metrics are compared with those of the last
period.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from hookmill.errors import StreamUnavailableError
from hookmill.instrumentation.rates import Field, written
from hookmill.stream.client import Client
from hookmill.stream.rates import PERIOD, RateHistory
from receiver.background import BackgroundTask

LAST_TIME = 0.5
"""Seconds for what is added at the end: where Redis is away, the stop must not wait for it."""


class ReceiverRates:
    """`start` it, `stop` it. `counts` returns what was counted since the start."""

    def __init__(
        self, client: Client, counts: Callable[[], Mapping[Field, int]], period: float = PERIOD
    ) -> None:
        self._history = RateHistory(client)
        self._counts = counts
        self._before: Mapping[Field, int] = {}
        self._task = BackgroundTask("rates", self.add, period)

    def start(self) -> None:
        """Add from time to time."""
        self._task.start()

    async def stop(self) -> None:
        """Add what is left, and end."""
        await self._task.stop()
        with suppress(StreamUnavailableError, TimeoutError):
            async with asyncio.timeout(LAST_TIME):
                await self.add()

    async def add(self) -> None:
        """Add what has come since the last time."""
        now = self._counts()
        new = {
            key: number - self._before.get(key, 0)
            for key, number in now.items()
            if number != self._before.get(key, 0)
        }
        if new:
            await self._history.add(written(new))
        self._before = now
