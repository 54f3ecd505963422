"""The messages outside of queues, in the order in which their next attempts may start."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterator

from hookmill.emulator.models import QStashMessage


class DueMessages:
    """Messages that wait for their time, and due ones by flow-control key.

    `find` returns a message by its ID; None if it has ended since.
    """

    def __init__(self, find: Callable[[str], QStashMessage | None]) -> None:
        self._find = find
        self._delayed: list[tuple[int, int, str]] = []
        """(due time, number, ID) of messages that are not due: a heap."""
        self._due: dict[str, deque[str]] = {}
        """Flow-control key ("": none) to the IDs of its messages that are due, in order."""

    def add(self, message: QStashMessage) -> None:
        """Add a message that waits for an attempt."""
        heapq.heappush(self._delayed, (message.due_ms, message.number, message.id))

    def next_ms(self) -> int | None:
        """Return when the next message becomes due; None if no message waits for its time."""
        return self._delayed[0][0] if self._delayed else None

    def make_due(self, now_ms: int) -> None:
        """Move the messages whose time has come to the due ones."""
        while self._delayed and self._delayed[0][0] <= now_ms:
            message = self._find(heapq.heappop(self._delayed)[2])
            if message is not None:
                limits = message.template.flow_control
                key = limits.key if limits else ""
                self._due.setdefault(key, deque()).append(message.id)

    def candidates(self, active: Collection[str]) -> Iterator[QStashMessage]:
        """Yield due messages that may start, for each key in order.

        The next message of a key follows only if the caller has put the one before into `active`.
        """
        for key in list(self._due):
            due = self._due[key]
            while due:
                message = self._find(due[0])
                if message is not None:
                    yield message
                    if message.id not in active:
                        break
                due.popleft()
            else:
                del self._due[key]
