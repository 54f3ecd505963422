"""Logging: structlog throughout, readable on a terminal, one JSON object a line otherwise.

A message's ID and source are bound for the time it is worked on, so that every line written
meanwhile, the handlers' own included, carries them. Libraries that use the standard logging
module are let through from warnings up, one line each.
"""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

import msgspec
import structlog
from structlog.typing import EventDict

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure_logs(log_format: str = "auto", level: str = "info", **bound: str) -> None:
    """Set up logging for this process; `bound` (the program's name, say) stands in every line."""

    def add_bound(_: Any, __: str, line: EventDict) -> EventDict:
        return {**bound, **line}  # not by context variables: a thread of ours starts without any

    console = log_format == "console" or (log_format == "auto" and sys.stdout.isatty())
    shared: list[Any] = [
        add_bound,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
    ]
    if console:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
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
    # The handler has the level too: a library may have set its own logger's lower.
    logging.basicConfig(level=logging.WARNING, handlers=[_ToStructlog(logging.WARNING)], force=True)


class _ToStructlog(logging.Handler):
    """Carries a library's log records into ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        exc_info = record.exc_info if record.exc_info and record.exc_info[0] else None
        level = min(record.levelno // 10 * 10, logging.CRITICAL)  # there is one a step of ten
        log.log(level, _text_of(record), logger=record.name, exc_info=exc_info)


def _text_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - the arguments do not fit the text, or cannot be shown
        return f"{_plain(record.msg)} {_plain(record.args)}"


def _to_json(line: dict[str, Any], **_: Any) -> bytes:
    """Write a line, whatever is in it: a log line must not be the reason for an error."""
    try:
        return msgspec.json.encode(line, enc_hook=repr)
    except Exception:  # noqa: BLE001 - surrogates, a cycle, a repr that fails
        return msgspec.json.encode({_plain(key): _plain(value) for key, value in line.items()})


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a value: numbers as they are, all else as text, escaped."""
    if isinstance(value, int | float | None):
        return value
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001 - its own repr fails
        text = f"<a {type(value).__name__} that cannot be shown>"
    return text.encode("utf-8", "backslashreplace").decode()
