"""Keeps what strangers can cause in the log short: few lines a second, and no tracebacks.

Anybody can send malformed requests, hang up half-way or guess at signatures. aiohttp logs its
share with a traceback at ERROR, so that an anonymous sender could fill a disk. A fault of our own
keeps its traceback, and lines of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from aiohttp import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError

_CLIENTS_FAULTS = (HttpProcessingError, ClientPayloadError, OSError)

PER_SECOND = 10
"""Lines of one kind that pass in any one second; the next line says how many did not."""


class Limit:
    """Lets few lines of one kind pass in a second, and counts the rest. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._second = 0
        self._passed = 0
        self._held_back = 0

    def passes(self) -> bool:
        """Say whether one more line may pass now."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._passed = second, 0
        if self._passed >= PER_SECOND:
            self._held_back += 1
            return False
        self._passed += 1
        return True

    def report(self) -> dict[str, int]:
        """Return how many lines were held back since the last report, if any were."""
        count, self._held_back = self._held_back, 0
        return {"held_back": count} if count else {}


class OneLine(logging.Filter):
    """Reduces what a client caused to one line, and limits how many lines pass."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clients = Limit(clock)
        self._ours = Limit(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the record if a client caused it; say whether it may pass."""
        error = record.exc_info[1] if record.exc_info else None
        by_client = isinstance(error, _CLIENTS_FAULTS)
        # Apart, so that a crowd of strangers cannot hide a fault of ours.
        limit = self._clients if by_client else self._ours
        if not limit.passes():
            return False
        text = record.getMessage().partition("\n")[0]
        if by_client:
            text = f"{text}: {type(error).__name__}"
            record.exc_info = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        if held := limit.report():
            text = f"{text} ({held['held_back']} lines held back)"
        record.msg, record.args = text, None
        return True


def server_logger() -> logging.Logger:
    """Return a logger for aiohttp's server that cannot be used to flood ours."""
    logger = logging.getLogger("receiver.http")
    if not any(isinstance(held, OneLine) for held in logger.filters):
        logger.addFilter(OneLine())
    return logger
