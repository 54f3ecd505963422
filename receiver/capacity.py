"""How much a receiver may hold at a time: bytes of bodies, and messages that wait to be stored.

A body counts as it arrives, not as it was announced: otherwise a few senders that announce much
and send nothing could keep everybody else out. Only verified messages count as messages.
"""

from __future__ import annotations

from typing import Self


class Held:
    """What one request holds of the room, until its block is left or it is released."""

    def __init__(self, room: Capacity) -> None:
        self._room = room
        self.bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Hold nothing any longer."""
        self._room.bytes -= self.bytes
        self.bytes = 0

    def grow(self, count: int) -> bool:
        """Hold that many bytes more; False, and unchanged, where there is no room for them."""
        if not self._room.fits(count):
            return False
        self.bytes += count
        self._room.bytes += count
        return True


class Capacity:
    """Counts what the requests in hand hold. Only the event loop touches it.

    `messages` are those that wait to be stored.
    """

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
