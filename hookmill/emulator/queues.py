"""Queues deliver in order: a message waits for the retries and callbacks of the one before."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator

import msgspec

from hookmill.emulator.models import ApiError, QStashMessage, Queue
from hookmill.emulator.state import State


class Queues:
    """All queues, and which of their messages may be delivered now. `now_ms` is the clock."""

    def __init__(self, state: State, now_ms: Callable[[], int]) -> None:
        self._state = state
        self._now_ms = now_ms
        self._waiting: dict[str, list[tuple[int, str]]] = {}
        """Queue name to its messages (number, ID), in order."""
        self._callbacks: dict[str, set[tuple[str, str]]] = {}
        """Queue name to the callbacks (ID, ID of the message they report on) that it waits for."""

    def all(self) -> list[Queue]:
        """Return every queue."""
        return self._state.queues.all()

    def get(self, name: str) -> Queue:
        """Return a queue; raise `ApiError` 404 if it is unknown."""
        return self._state.queues.get(name)

    def upsert(
        self, name: str, *, parallelism: int | None = None, is_paused: bool | None = None
    ) -> Queue:
        """Create a queue, or change the given values of an existing one."""
        now = self._now_ms()
        queue = self._state.queues.find(name) or Queue(name, now, now)
        if parallelism is not None:
            if parallelism < 1:
                raise ApiError(400, "parallelism: give 1 or more")
            queue = msgspec.structs.replace(queue, parallelism=parallelism)
        if is_paused is not None:
            queue = msgspec.structs.replace(queue, is_paused=is_paused)
        return self._state.queues.put(name, msgspec.structs.replace(queue, updated_ms=now))

    def drop(self, name: str) -> None:
        """Delete a queue. Its messages wait until a queue with this name exists again."""
        self._state.queues.drop(name)

    def lag(self, name: str) -> int:
        """Return how many messages are in a queue."""
        return len(self._waiting.get(name, ()))

    def add(self, message: QStashMessage) -> None:
        """Add a message to its queue, or a callback that its queue waits for."""
        if message.queue:
            insort(self._waiting.setdefault(message.queue, []), (message.number, message.id))
        if message.held_queue:
            held = self._callbacks.setdefault(message.held_queue, set())
            held.add((message.id, message.callback_for))

    def remove(self, message: QStashMessage) -> None:
        """Remove a message that has ended."""
        if message.queue:
            self._waiting[message.queue].remove((message.number, message.id))
        if message.held_queue:
            self._callbacks[message.held_queue].discard((message.id, message.callback_for))

    def deliverable(self) -> Iterator[str]:
        """Yield the IDs of the messages that may be delivered now, in every queue."""
        for name, waiting in self._waiting.items():
            queue = self._state.queues.find(name)
            if queue is None or queue.is_paused or not waiting:
                continue
            ids = {message_id for _, message_id in waiting[: queue.parallelism]}
            # A message that has ended still counts, until its last callback has ended too.
            held = {source for _, source in self._callbacks.get(name, ()) if source not in ids}
            for _, message_id in waiting[: max(0, queue.parallelism - len(held))]:
                yield message_id
