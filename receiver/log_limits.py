"""Shortens and limits the log lines that anybody can cause by HTTP, and keeps our own faults.

Anybody can send malformed requests, hang up early or guess signatures. aiohttp logs such errors
with a traceback, so that an anonymous sender could fill a disk. Our own faults keep their
tracebacks and have a limit of their own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from aiohttp import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError

from hookmill.runtime.log_limit import LogLimit

_CAUSED_BY_CLIENTS = (HttpProcessingError, ClientPayloadError, OSError)


class OneLineFilter(logging.Filter):
    """Shortens a record that a client caused to one line, and limits how many lines are written."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clients = LogLimit(clock)
        self._ours = LogLimit(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the record if a client caused it; return whether it may be written."""
        error = record.exc_info[1] if record.exc_info else None
        by_client = isinstance(error, _CAUSED_BY_CLIENTS)
        # Two limits, so that many bad requests cannot hide a fault of our own.
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
    """Return the logger for aiohttp's server and for our own faults, with its limits."""
    logger = logging.getLogger("receiver.http")
    if not any(isinstance(one, OneLineFilter) for one in logger.filters):
        logger.addFilter(OneLineFilter())
    return logger
