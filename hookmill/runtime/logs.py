"""Logging with structlog: readable lines on a terminal, otherwise one JSON object a line.

While a message is handled, its ID, source and type are in every line, the handlers' own lines
included. Libraries that use Python's logging module have one line for each record from level
WARNING on.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import MutableMapping
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from typing import Any, BinaryIO, TextIO

import msgspec
import structlog
from structlog.contextvars import STRUCTLOG_KEY_PREFIX
from structlog.processors import format_exc_info
from structlog.typing import EventDict, ExcInfo, FilteringBoundLogger

from hookmill.printable import block, field, printable, printable_json
from hookmill.runtime import lossy_output
from hookmill.runtime.log_level import logger_class
from hookmill.runtime.lossy_output import LossyFile


def configure_logs(log_format: str = "auto", level: str = "info", **bound: str) -> None:
    """Set up logging for this process. `bound` is added to every line, for example the program's
    name.
    """
    _names.program = bound.get("program", "")
    _output.file = _standard_output()
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    is_console = log_format == "console" or (log_format == "auto" and is_terminal)
    if is_console:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        processors = _console_processors(bound, has_colors=is_terminal)
    else:
        processors = [_JsonRenderer(bound).render]
    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=logger_class(level, has_fast_info=not is_console),
        processors=processors,
        logger_factory=_to_standard_output,
    )
    # The handler has the level too, because a library may set a lower level for its own logger.
    logging.basicConfig(
        level=logging.WARNING, handlers=[_StructlogHandler(logging.WARNING)], force=True
    )


class _Names:
    program = ""


_names = _Names()


def program_name() -> str:
    """Return the name that every line has (`--name`), "" if there is none."""
    return _names.program


def _standard_output() -> LossyFile | BinaryIO | None:
    """Return where the log is written; None if standard output was closed before the start."""
    if sys.stdout is None:
        return None
    try:
        return LossyFile(sys.stdout.fileno())
    except OSError:  # something that a test put in its place
        return sys.stdout.buffer


def lose_what_cannot_be_written() -> None:
    """Make sure that output which cannot be written costs lines, and nothing else."""
    file = _output.file
    lossy_output.lose_what_cannot_be_written(file if isinstance(file, LossyFile) else None)


def lost_lines() -> int:
    """Return how many lines could not be written since the last one that could."""
    return int(getattr(_output.file, "lost_lines", 0))


def _console_processors(bound: dict[str, str], *, has_colors: bool) -> list[Any]:
    """Return the structlog processors that make a readable line."""

    def add_bound(_: Any, __: str, line: EventDict) -> EventDict:
        return {**bound, **line}  # not by context variables, because a new thread has none

    encoding = sys.stdout.encoding if sys.stdout else "utf-8"
    return [
        add_bound,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
        _show_fields,
        structlog.dev.ConsoleRenderer(colors=has_colors, exception_formatter=_write_traceback),
        lambda _, __, line: line.encode(encoding, "backslashreplace"),
    ]


def _show_fields(_: Any, __: str, line: EventDict) -> EventDict:
    """Make each field a text that can neither steer the terminal nor pass for another field."""
    return {printable(str(name)): _shown(name, value) for name, value in line.items()}


def _shown(name: str, value: Any) -> Any:
    if name == "exc_info" or isinstance(value, int | float | None):
        return value
    text = str(_json_safe(value))
    if name in {"exception", "stack"}:
        return block(text)
    if name in {"event", "timestamp", "level"}:
        return printable(text)
    return _Shown(field(text) if isinstance(value, str) else printable(text))


class _Shown:
    """A text that structlog shows as it is, because its `repr` is the text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _write_traceback(file: TextIO, exc_info: ExcInfo) -> None:
    """Write a traceback with each line indented, so that none can pass for a line of the log."""
    file.write("\n" + block("".join(traceback.format_exception(*exc_info))))


# --- the message in every line ---------------------------------------------------------------


def bind_message(message_id: str, source: str, message_type: str) -> None:
    """Add the message's ID, source and type to every line of the current context.

    It sets the same variables as structlog's `bind_contextvars(id=..., source=..., type=...)`, in a
    quarter of its time.
    """
    _id.set(message_id)
    _source.set(source)
    _type.set(message_type)


def bind_trace(trace_id: str) -> None:
    """Add the ID of the message's trace to every line of the current context."""
    _trace_id.set(trace_id)


def _context_variables(*names: str) -> list[ContextVar[Any]]:
    """Return the context variables that structlog uses for these names."""
    # In a copy of the context, so that nothing is bound in the current one.
    tokens = copy_context().run(
        lambda: structlog.contextvars.bind_contextvars(**dict.fromkeys(names))
    )
    return [tokens[name].var for name in names]


_id, _source, _type, _trace_id = _context_variables("id", "source", "type", "trace_id")


# --- lines of JSON ---------------------------------------------------------------------------


SHARED_TIME = 0.001
"""For how many seconds lines share their time, because to make one takes as long as to encode half
a line.
"""


class _JsonRenderer:
    """Makes a line of JSON in one processor, because structlog's one processor for each addition
    takes longer.
    """

    def __init__(self, bound: dict[str, str]) -> None:
        self._bound = bound
        self._time, self._asked_at = datetime.now(UTC), 0.0
        self._names: dict[ContextVar[Any], str] = {}
        """The field of each context variable. structlog does not forget any of its own, either."""

    def render(self, logger: Any, method: str, line: EventDict) -> bytes:
        """Return a line of JSON, as a structlog processor does."""
        if self._bound:  # not by context variables, because a new thread has none
            line = {**self._bound, **line}
        self._add_context(line)
        line["level"] = _LEVEL_NAMES.get(method, method)
        if "exc_info" in line:
            format_exc_info(logger, method, line)
        now = time.time()
        if not 0 <= now - self._asked_at < SHARED_TIME:  # the clock may have been set back
            self._time, self._asked_at = datetime.fromtimestamp(now, UTC), now
        line["timestamp"] = self._time
        return _to_json(line)

    def _add_context(self, line: EventDict) -> None:
        """Add the values of structlog's context variables. Fields of the line itself win."""
        for variable, value in copy_context().items():
            name = self._names.get(variable)
            if name is None:
                name = self._names[variable] = _field_of(variable)
            if value is not ... and name not in line:  # structlog sets "..." when it unbinds
                line[name] = value


def _field_of(variable: ContextVar[Any]) -> str:
    """Return the field of a context variable of structlog. That of another library's is `event`,
    which every line has: so it adds nothing, and is told from ours once, and not in every line.
    """
    is_ours = variable.name.startswith(STRUCTLOG_KEY_PREFIX)
    return variable.name.removeprefix(STRUCTLOG_KEY_PREFIX) if is_ours else "event"


_LEVEL_NAMES = {"warn": "warning", "exception": "error"}
"""The levels of methods that have another name than their level."""


class KeptLines:
    """Keeps the lines of its logger `log` until `write`, which writes them with one system call.

    Only one thread may use it, and it must call `write` soon: the lines are lost if the process
    dies before. Where a user has configured structlog, nothing is kept: that logger writes at once.
    """

    def __init__(self, name: str) -> None:
        self._lines: list[bytes] = []
        keep = self._lines.append
        self.debug = self.info = self.warning = self.error = keep  # what structlog calls
        is_ours = structlog.get_config()["logger_factory"] is _to_standard_output
        log = structlog.wrap_logger(self) if is_ours else structlog.get_logger(name)
        self.log: FilteringBoundLogger = log.bind()

    def write(self) -> None:
        """Write what is kept."""
        if self._lines:
            lines = self._lines.copy()
            self._lines.clear()
            _output.write(lines)


class _Output:
    """Standard output as a structlog logger, which has a method for each level."""

    def __init__(self) -> None:
        self.file: LossyFile | BinaryIO | None = None
        self._lock = threading.Lock()

    def msg(self, line: bytes) -> None:
        """Write a line."""
        self.write([line])

    debug = info = warn = warning = error = exception = critical = fatal = log = msg

    def renew_lock(self) -> None:
        """Replace the lock, in a forked child: the thread that held it is not there."""
        self._lock = threading.Lock()

    def write(self, lines: list[bytes]) -> None:
        """Write lines and flush them. Where they cannot be written, they are lost and counted."""
        file = self.file
        if file is None:
            return
        lines.append(b"")
        with self._lock:
            lost_before = getattr(file, "lost_lines", 0)
            file.write(b"\n".join(lines))
            file.flush()
        if lost_before and isinstance(file, LossyFile) and file.lost_lines == lost_before:
            file.lost_lines = 0
            structlog.get_logger("runtime").warning("log lines were lost", lines=lost_before)
            if file.lost_lines:  # this one, too
                file.lost_lines += lost_before


_output = _Output()


def _to_standard_output(*_: Any) -> _Output:
    """Return what the loggers write to, as structlog's setting `logger_factory`."""
    return _output


os.register_at_fork(after_in_child=_output.renew_lock)


class _StructlogHandler(logging.Handler):
    """Passes the records of Python's logging module to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        exc_info = record.exc_info if record.exc_info and record.exc_info[0] else None
        level = min(record.levelno // 10 * 10, logging.CRITICAL)  # structlog has only these
        log.log(level, _text_of(record), logger=record.name, exc_info=exc_info)


def _text_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - the arguments do not fit the text, or their repr fails
        return f"{_json_safe(record.msg)} {_json_safe(record.args)}"


def _to_json(line: MutableMapping[str, Any]) -> bytes:
    """Encode a line, whatever is in it, because logging must not raise an error."""
    try:
        return printable_json(_encode(line))
    except Exception:  # noqa: BLE001 - surrogates, a cycle, a repr that fails
        safe = {_json_safe(key): _json_safe(value) for key, value in line.items()}
        return printable_json(_encode(safe))


_encode = msgspec.json.Encoder(enc_hook=repr).encode


def _json_safe(value: Any) -> Any:
    """Return a value that JSON can hold: numbers and UTC times as they are, others as text."""
    if isinstance(value, int | float | None):
        return value
    if type(value) is datetime and value.tzinfo is UTC:
        return value
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001 - its own repr fails
        text = f"<a {type(value).__name__} that cannot be shown>"
    return text.encode("utf-8", "backslashreplace").decode()
