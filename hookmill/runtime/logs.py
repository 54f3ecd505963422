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
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from typing import Any, BinaryIO

import msgspec
import structlog
from structlog.contextvars import STRUCTLOG_KEY_PREFIX
from structlog.processors import format_exc_info
from structlog.typing import EventDict

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure_logs(log_format: str = "auto", level: str = "info", **bound: str) -> None:
    """Set up logging for this process; `bound` (the program's name, say) stands in every line."""
    logger_class = structlog.make_filtering_bound_logger(_LEVELS[level])
    if log_format == "console" or (log_format == "auto" and sys.stdout.isatty()):
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        factory: Any = structlog.PrintLoggerFactory(sys.stdout)
        processors = _on_a_terminal(bound)
    else:
        _output.file = sys.stdout.buffer
        factory = lambda *_: _output  # noqa: E731 - all it takes
        processors = [_Rendering(bound)]
        if _LEVELS[level] <= logging.INFO:
            logger_class = _with_short_way(logger_class)
    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=logger_class,
        processors=processors,
        logger_factory=factory,
    )
    # The handler has the level too: a library may have set its own logger's lower.
    logging.basicConfig(level=logging.WARNING, handlers=[_ToStructlog(logging.WARNING)], force=True)


def _on_a_terminal(bound: dict[str, str]) -> list[Any]:
    """Return the steps that make a line for a person."""

    def add_bound(_: Any, __: str, line: EventDict) -> EventDict:
        return {**bound, **line}  # not by context variables: a thread of ours starts without any

    return [
        add_bound,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
        structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    ]


# --- what every line says of the message -----------------------------------------------------


def about(message_id: str, source: str, message_type: str) -> None:
    """Bind what every line says of the message that is worked on, in the context it is called in.

    The same as structlog's `bind_contextvars(id=..., source=..., type=...)`, whose variables are
    the ones that are set, at a quarter of its price.
    """
    _id.set(message_id)
    _source.set(source)
    _type.set(message_type)


def _variables(*names: str) -> list[ContextVar[Any]]:
    """Return the variables in which structlog keeps what is bound by these names."""
    # In a context of its own, so that nothing is bound in ours.
    tokens = copy_context().run(
        lambda: structlog.contextvars.bind_contextvars(**dict.fromkeys(names))
    )
    return [tokens[name].var for name in names]


_id, _source, _type = _variables("id", "source", "type")


# --- lines of JSON ---------------------------------------------------------------------------


class _Rendering:
    """Makes a line's JSON in one step: structlog has a step for each thing that is added."""

    def __init__(self, bound: dict[str, str]) -> None:
        self._bound = bound
        self._names: dict[ContextVar[Any], str] = {}
        """What structlog's context variables stand for: none is ever let go of there, either."""

    def __call__(self, logger: Any, method: str, fields: EventDict) -> bytes:
        # Not by context variables: a thread of ours starts without any.
        line = {**self._bound, **fields}
        self._add_context(line)
        line["level"] = _LEVEL_NAMES.get(method, method)
        if "exc_info" in line:
            format_exc_info(logger, method, line)
        line["timestamp"] = datetime.now(UTC)
        return _to_json(line)

    def _add_context(self, line: EventDict) -> None:
        """Add what structlog's context variables hold; what the line itself says counts more."""
        for variable, value in copy_context().items():
            name = self._names.get(variable)
            if name is None:
                if not variable.name.startswith(STRUCTLOG_KEY_PREFIX):
                    continue
                name = self._names[variable] = variable.name.removeprefix(STRUCTLOG_KEY_PREFIX)
            if value is not ... and name not in line:  # what was unbound is "..."
                line[name] = value


_LEVEL_NAMES = {"warn": "warning", "exception": "error"}
"""Names of methods that are not those of their levels."""


def _with_short_way(logger_class: Any) -> Any:
    """Return it with an `info` that goes to the output at once: it is called for each message."""

    class Logger(logger_class):  # type: ignore[misc]  # known only when the level is
        def info(self, event: str, *args: Any, **fields: Any) -> None:
            if args:
                super().info(event, *args, **fields)
                return
            line: Any = {**self._context, **fields, "event": event}
            try:
                for process in self._processors:
                    line = process(self._logger, "info", line)
            except structlog.DropEvent:
                return
            self._logger.info(line)

    return Logger


@contextmanager
def written_together() -> Iterator[None]:
    """Write the JSON lines of a block with one system call, at its end. Nothing may be awaited in
    it, so that no line waits for anything else. Those of other threads go out meanwhile.
    """
    before, _gathered.lines = _gathered.lines, []
    try:
        yield
    finally:
        lines, _gathered.lines = _gathered.lines, before
        _output.write(lines or [])


class _Gathered(threading.local):
    """The lines that are kept, by thread: whichever context a line is written in, it is kept."""

    lines: list[bytes] | None = None


_gathered = _Gathered()


class _Output:
    """Standard output as structlog wants it, with a method for each level."""

    def __init__(self) -> None:
        self.file: BinaryIO | None = None
        self._turn = threading.Lock()

    def msg(self, line: bytes) -> None:
        """Write a line, or keep it for `written_together`."""
        if _gathered.lines is None:
            self.write([line])
        else:
            _gathered.lines.append(line)

    debug = info = warn = warning = error = exception = critical = fatal = log = msg

    def write(self, lines: list[bytes]) -> None:
        """Write lines, and have them leave the process."""
        if self.file is not None and lines:
            lines.append(b"")
            with self._turn:
                _write_all(self.file, b"\n".join(lines))
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


def _to_json(line: dict[str, Any]) -> bytes:
    """Write a line, whatever is in it: a log line must not be the reason for an error."""
    try:
        return _encode(line)
    except Exception:  # noqa: BLE001 - surrogates, a cycle, a repr that fails
        return _encode({_plain(key): _plain(value) for key, value in line.items()})


_encode = msgspec.json.Encoder(enc_hook=repr).encode


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a value: numbers and UTC times as they are, all else as text,
    escaped.
    """
    if isinstance(value, int | float | None):
        return value
    if type(value) is datetime and value.tzinfo is UTC:
        return value
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001 - its own repr fails
        text = f"<a {type(value).__name__} that cannot be shown>"
    return text.encode("utf-8", "backslashreplace").decode()
