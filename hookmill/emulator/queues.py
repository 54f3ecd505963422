"""Queues: in order, so many at a time. The next one waits for retries and for callbacks."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator

import msgspec

from hookmill.emulator.models import ApiError, Message, Queue
from hookmill.emulator.state import State


class Queues:
    """The queues there are, and whose turn it is in each. `now_ms` is the clock."""

    def __init__(self, state: State, now_ms: Callable[[], int]) -> None:
        self._state = state
        self._now_ms = now_ms
        self._lines: dict[str, list[tuple[int, str]]] = {}
        """Queue to its messages (number, ID) in their order."""
        self._callbacks: dict[str, set[tuple[str, str]]] = {}
        """Queue to the callbacks (ID, ID of what they tell of) that its next message waits for."""

    def all(self) -> list[Queue]:
        """Return every queue."""
        return self._state.queues.all()

    def get(self, name: str) -> Queue:
        """Return one; raise `ApiError` 404 where there is none."""
        return self._state.queues.get(name)

    def upsert(
        self, name: str, *, parallelism: int | None = None, is_paused: bool | None = None
    ) -> Queue:
        """Make a queue, or change what is given of it."""
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
        """Remove a queue. Messages still in it wait until there is one of its name again."""
        self._state.queues.drop(name)

    def lag(self, name: str) -> int:
        """Return how many messages are in a queue."""
        return len(self._lines.get(name, ()))

    def line_up(self, message: Message) -> None:
        """Take note of a message or callback of a queue."""
        if message.queue:
            insort(self._lines.setdefault(message.queue, []), (message.number, message.id))
        if message.held_queue:
            held = self._callbacks.setdefault(message.held_queue, set())
            held.add((message.id, message.source))

    def leave(self, message: Message) -> None:
        """Take note that a message is done with."""
        if message.queue:
            self._lines[message.queue].remove((message.number, message.id))
        if message.held_queue:
            self._callbacks[message.held_queue].discard((message.id, message.source))

    def turns(self) -> Iterator[str]:
        """Give the IDs of the messages whose turn it is, in every queue."""
        for name, line in self._lines.items():
            queue = self._state.queues.find(name)
            if queue is None or queue.is_paused or not line:
                continue
            ids = {message_id for _, message_id in line[: queue.parallelism]}
            # A message that is gone holds its place until its last callback is.
            gone = {source for _, source in self._callbacks.get(name, ()) if source not in ids}
            for _, message_id in line[: max(0, queue.parallelism - len(gone))]:
                yield message_id
