"""How much a receiver may hold at a time: bytes of bodies, and messages that wait to be stored.

A body counts as it arrives, not as it was announced: otherwise a few senders that announce much
and send nothing could keep everybody else out. Only verified messages count as messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Held:
    """What one request holds of the room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._bytes = 0

    def grow(self, count: int) -> bool:
        """Hold that many bytes more; False, and unchanged, where there is no room for them."""
        if not self._room.fits(count):
            return False
        self._bytes += count
        self._room.bytes += count
        return True

    def let_go(self) -> None:
        """Give back all of it."""
        self._room.bytes -= self._bytes
        self._bytes = 0


class Room:
    """Counts what the requests in hand hold. Only the event loop touches it."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self.messages = 0
        self.bytes = 0

    @property
    def is_crowded(self) -> bool:
        """Whether as many messages wait as may wait."""
        return self.messages >= self._max_messages

    def fits(self, count: int) -> bool:
        """Say whether there is room for that many bytes more."""
        return self.bytes + count <= self._max_bytes

    @contextmanager
    def body(self) -> Iterator[Held]:
        """Hold a body while it is read and until its request was answered."""
        held = Held(self)
        try:
            yield held
        finally:
            held.let_go()

    @contextmanager
    def message(self) -> Iterator[None]:
        """Count one message while it waits to be stored."""
        self.messages += 1
        try:
            yield
        finally:
            self.messages -= 1
