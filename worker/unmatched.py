"""Warns about event types that no handler matches, because one of the two names may be wrong.

The line names the event types that are known. It is limited, because senders choose the types.
`Sight` is what the group knows of such a type.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import structlog

from hookmill.handlers import Handlers

log = structlog.get_logger("worker")

PERIOD = 60.0
"""Seconds in which a type is logged once."""

MAX_TYPES = 100
"""Types that are logged in one period."""

_MAX_NAME = 200
"""Characters by which types are told apart; a type can be as long as a body."""

_MAX_KNOWN = 300
"""Characters of the known types that a line may have."""


class Sight(NamedTuple):
    """For how many seconds a type has been unknown. `is_known` says that a living worker has a
    handler for it.
    """

    unknown_for: float = 0.0
    is_known: bool = False


async def never_seen(event_type: str) -> Sight:  # noqa: ARG001 - as any other that looks at a type
    """Know nothing of a type."""
    return Sight()


class UnmatchedTypes:
    """Logs types that no handler matches. `clock` is in seconds."""

    def __init__(
        self, handlers: Handlers[Any], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._handlers = handlers
        self._clock = clock
        self._logged: set[str] = set()
        self._began = clock()

    def warn(self, event_type: str) -> None:
        """Log a warning, unless this type, or very many of them, had one in this period."""
        now, name = self._clock(), event_type[:_MAX_NAME]
        if now - self._began >= PERIOD:
            self._logged.clear()
            self._began = now
        if name in self._logged or len(self._logged) >= MAX_TYPES:
            return
        self._logged.add(name)
        # A log that cannot be written (a full disk, a closed pipe) must not end the attempt.
        with suppress(OSError, ValueError):
            log.warning("no handler matches this event type", known=known_types(self._handlers))


def known_types(handlers: Handlers[Any]) -> str:
    """Return the names and patterns that handlers are registered for, in few characters."""
    patterns = sorted({pattern for handler in handlers for pattern in handler.patterns})
    shown, length = 0, 0
    for pattern in patterns:
        length += len(pattern) + len(", ")
        if length > _MAX_KNOWN:
            break
        shown += 1
    rest = len(patterns) - shown
    return ", ".join([*patterns[:shown], *([f"and {rest} more"] if rest else [])])
