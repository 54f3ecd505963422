"""The level of the log: a logger class whose level can change while the program runs.

Loggers are made once and kept. So the base of their class is replaced, which costs a line nothing.
"""

from __future__ import annotations

from typing import Any, Protocol
from weakref import WeakSet

import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class LevelListener(Protocol):
    """Something that keeps whether a level is shown."""

    def level_changed(self) -> None:
        """Look again."""


class _State:
    """The level as it is now."""

    level = "info"
    has_fast_info = False
    logger: Any = None


_told: WeakSet[LevelListener] = WeakSet()


def logger_class(level: str, *, has_fast_info: bool) -> Any:
    """Return structlog's logger class for a level, which `set_level` changes. With `has_fast_info`
    it has a shorter `info`, which suits processors that need no more.
    """
    _State.level, _State.has_fast_info = level, has_fast_info
    _State.logger = type("Logger", (_base(level),), {})
    return _State.logger


def set_level(level: str) -> None:
    """Have all loggers of this process log from this level on."""
    _State.level = level
    if _State.logger is not None:
        _State.logger.__bases__ = (_base(level),)
    for one in list(_told):
        one.level_changed()


def shows(level: str) -> bool:
    """Return whether lines of this level are written now."""
    return LEVELS[level] >= LEVELS[_State.level]


def tell(one: LevelListener) -> None:
    """Tell this object of changes, for as long as it lives."""
    _told.add(one)


def _base(level: str) -> Any:
    base: Any = structlog.make_filtering_bound_logger(LEVELS[level])
    return _with_fast_info(base) if _State.has_fast_info and shows("info") else base


def _with_fast_info(base: Any) -> Any:
    """Return the class with a shorter `info`, because `info` is called for each message."""

    class Logger(base):  # type: ignore[misc]  # the base class depends on the level
        def info(self, event: str, *args: Any, **fields: Any) -> None:
            if args:
                super().info(event, *args, **fields)
                return
            line: Any = {**self._context, **fields} if self._context else fields
            line["event"] = event
            try:
                for process in self._processors:
                    line = process(self._logger, "info", line)
            except structlog.DropEvent:
                return
            self._logger.info(line)

    return Logger
