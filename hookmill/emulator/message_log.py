"""The log: every state that a message has gone through."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from hookmill.emulator.filters import Filter
from hookmill.emulator.models import AttemptResult, LogEntry, QStashMessage
from hookmill.emulator.state import State

MAX_LOGGED_BYTES = 4096
"""Bytes of a response's body in a log entry. It is cut off because there are many entries."""


class MessageLog:
    """The latest log entries. `now_ms` is the clock."""

    def __init__(self, state: State, now_ms: Callable[[], int]) -> None:
        self._state = state
        self._now_ms = now_ms

    def add(
        self,
        state: str,
        message: QStashMessage,
        result: AttemptResult | None = None,
        next_ms: int = 0,
    ) -> None:
        """Log a message's new state. `next_ms` is the time of its next attempt."""
        error = "" if result is None or result.is_success else _error_of(result)
        if result is not None:
            result = msgspec.structs.replace(result, body=result.body[:MAX_LOGGED_BYTES])
        # The message's body is left out because it is long and the log never shows it.
        template = msgspec.structs.replace(message.template, body=b"")
        message = msgspec.structs.replace(message, template=template)
        entry = LogEntry(self._now_ms(), state, message, error, next_ms, result)
        self._state.add_log_entry(entry)

    def find(self, wanted: Filter) -> list[LogEntry]:
        """Return log entries, the latest first."""
        return [entry for entry in reversed(self._state.log) if wanted.matches_entry(entry)]


def _error_of(result: AttemptResult) -> str:
    return result.error or f"status code {result.status}"
