"""The logger of an aiohttp server whose clients are strangers: a line each, and no traceback."""

from __future__ import annotations

import logging

from aiohttp import ClientPayloadError
from aiohttp.http_exceptions import BadHttpMessage


def server_logger(name: str) -> logging.Logger:
    """Return the logger of a server, which logs malformed requests in one line."""
    logger = logging.getLogger(name)
    logger.addFilter(_without_request)
    return logger


def _without_request(record: logging.LogRecord) -> bool:
    """Shorten the record of a client's fault to one line, without what the client sent."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, BadHttpMessage | ClientPayloadError | OSError):
        record.msg, record.args = "malformed request: %s", (type(error).__name__,)
        record.exc_info = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True
