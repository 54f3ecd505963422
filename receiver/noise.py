"""Keeps the HTTP server's own log short: one line for a client's fault, and few a second.

Anybody can send malformed requests or hang up half-way. aiohttp logs each with a traceback at
ERROR, so that an anonymous sender could fill a disk. A fault of our own keeps its traceback.
"""

from __future__ import annotations

import logging
import time

from aiohttp import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError

_CLIENTS_FAULTS = (HttpProcessingError, ClientPayloadError, OSError)

PER_SECOND = 10
"""Lines that pass in any one second; the next line says how many did not."""


class OneLine(logging.Filter):
    """Reduces what a client caused to one line, and limits how many lines pass."""

    def __init__(self) -> None:
        super().__init__()
        self._second = 0
        self._passed = 0
        self._held_back = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the record if a client caused it; say whether it may pass."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._passed = second, 0
        if self._passed >= PER_SECOND:
            self._held_back += 1
            return False
        self._passed += 1
        text = record.getMessage().partition("\n")[0]
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, _CLIENTS_FAULTS):
            text = f"{text}: {type(error).__name__}"
            record.exc_info = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        if self._held_back:
            text = f"{text} ({self._held_back} lines held back)"
            self._held_back = 0
        record.msg, record.args = text, None
        return True


def server_logger() -> logging.Logger:
    """Return a logger for aiohttp's server that cannot be used to flood ours."""
    logger = logging.getLogger("receiver.http")
    if not any(isinstance(held, OneLine) for held in logger.filters):
        logger.addFilter(OneLine())
    return logger
