"""Measures how late the event loop is: how much later than asked a timer has its turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

from hookmill.instrumentation.histograms import FAST, Histograms

PERIOD = 0.25
"""Seconds between two measurements."""


class LoopLag:
    """`start` it in the event loop, and `stop` it. It is a collector of metrics. `on_beat` is
    called after each measurement.
    """

    def __init__(self, on_beat: Callable[[], None] = lambda: None) -> None:
        self._on_beat = on_beat
        self._lags = Histograms(
            "hookmill_event_loop_lag_seconds",
            "How late the event loop was, measured four times a second.",
            FAST,
        )
        self._lag = self._lags.of()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure."""
        self._loop = asyncio.get_running_loop()
        self._wait()

    def stop(self) -> None:
        """End measuring. A second call does nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def collect(self) -> Iterator[Any]:
        """Yield the histogram."""
        yield self._lags.family()

    def _wait(self) -> None:
        self._due = time.monotonic() + PERIOD
        self._timer = self._loop.call_later(PERIOD, self._measure)

    def _measure(self) -> None:
        self._lag.add(time.monotonic() - self._due)
        self._lag.flush()
        self._on_beat()
        self._wait()
