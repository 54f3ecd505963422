"""Logging: structlog throughout, readable on a terminal, one JSON object a line otherwise.

A message's ID and source are bound for the time it is worked on, so that every line written
meanwhile, the handlers' own included, carries them. Libraries that use the standard logging
module are let through from warnings up, one line each.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import msgspec
import structlog

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure_logs(log_format: str = "auto", level: str = "info", **bound: str) -> None:
    """Set up logging for this process; `bound` (the program's name, say) stands in every line."""
    console = log_format == "console" or (log_format == "auto" and sys.stdout.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
    ]
    if console:
        factory: Any = structlog.PrintLoggerFactory(sys.stdout)
        rendering: list[Any] = [
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    else:
        factory = structlog.BytesLoggerFactory()
        rendering = [
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=_to_json),
        ]
    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        processors=shared + rendering,
        logger_factory=factory,
    )
    structlog.contextvars.bind_contextvars(**bound)
    logging.basicConfig(level=logging.WARNING, handlers=[_ToStructlog()], force=True)


class _ToStructlog(logging.Handler):
    """Carries a library's log records into ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        exc_info = record.exc_info if record.exc_info and record.exc_info[0] else None
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=exc_info)


def _to_json(line: dict[str, Any], **_: Any) -> bytes:
    # What JSON cannot hold (surrogates from a hostile header, a handler's own object) is shown
    # escaped: a log line is never the reason for an error.
    try:
        return msgspec.json.encode(line, enc_hook=repr)
    except UnicodeEncodeError:
        return msgspec.json.encode({key: ascii(value) for key, value in line.items()})
