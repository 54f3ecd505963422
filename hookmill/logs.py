"""Logging: structlog throughout, readable on a terminal, one JSON object a line otherwise.

A message's ID and source are bound for the time it is worked on, so that every line written
meanwhile, the handlers' own included, carries them. Libraries that use the standard logging
module are let through from warnings up, one line each.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, BinaryIO

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
        _output.file = sys.stdout.buffer
        factory = structlog.BytesLoggerFactory(_output)  # type: ignore[arg-type]  # all it needs
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


@contextmanager
def written_together() -> Iterator[None]:
    """Write the JSON lines of a block with one system call, at its end. Nothing may be awaited in
    it, so that no line waits for anything else. Those of other threads go out meanwhile.
    """
    lines: list[bytes] = []
    before = _gathered.set(lines)
    try:
        yield
    finally:
        _gathered.reset(before)
        _output.write(b"".join(lines))
        _output.flush()


_gathered: ContextVar[list[bytes] | None] = ContextVar("gathered", default=None)


class _Output:
    """Standard output as structlog wants it: a line is written, then flushed."""

    def __init__(self) -> None:
        self.file: BinaryIO | None = None
        self._turn = threading.Lock()

    def write(self, lines: bytes) -> None:
        """Write them, or keep them for `written_together`."""
        gathered = _gathered.get()
        if gathered is not None:
            gathered.append(lines)
        elif self.file is not None:
            with self._turn:
                _write_all(self.file, lines)

    def flush(self) -> None:
        """Have what was written leave the process."""
        if self.file is not None and _gathered.get() is None:
            self.file.flush()


def _write_all(file: BinaryIO, lines: bytes) -> None:
    """Write all of it: an unbuffered file (PYTHONUNBUFFERED) may take a part at a time."""
    written = 0
    while written < len(lines):
        count = file.write(lines[written:])
        if not count:  # it does not wait, and is full
            break
        written += count


_output = _Output()


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
