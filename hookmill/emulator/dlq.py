"""The dead letter queue (DLQ): messages all of whose attempts failed."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from hookmill.emulator.filters import Filter
from hookmill.emulator.models import AttemptResult, DlqMessage, QStashMessage
from hookmill.emulator.state import State

RETENTION_MS = 3 * 86_400_000
"""How long a DLQ message is kept. QStash keeps it for 3 to 30 days."""


class DeadLetterQueue:
    """All DLQ messages. `now_ms` is the clock."""

    def __init__(self, state: State, now_ms: Callable[[], int]) -> None:
        self._table = state.dlq
        self._now_ms = now_ms

    def get(self, dlq_id: str) -> DlqMessage:
        """Return a DLQ message; raise `ApiError` 404 if it is unknown."""
        return self._table.get(dlq_id)

    def find(self, wanted: Filter) -> list[DlqMessage]:
        """Return DLQ messages, the oldest first."""
        return [one for one in self._table.some(wanted.dlq_ids) if wanted.matches_dlq(one)]

    def add(self, message: QStashMessage, result: AttemptResult) -> str:
        """Add a message with the result of its last attempt; return its DLQ ID."""
        one = DlqMessage(f"dlq_{uuid.uuid4().hex}", message, result, self._now_ms())
        return self._table.put(one.id, one).id

    def delete(self, wanted: Filter) -> int:
        """Delete DLQ messages; return how many."""
        found = self.find(wanted)
        for one in found:
            self._table.drop(one.id)
        return len(found)

    def delete_expired(self) -> None:
        """Delete the messages that were kept long enough."""
        now = self._now_ms()
        self._table.drop_first_while(lambda one: one.failed_ms + RETENTION_MS <= now)
