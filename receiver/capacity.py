"""Counts how much a receiver holds: bytes of bodies, and verified messages that wait to be stored.

A body counts as it arrives, not as its Content-Length says. Otherwise a few senders that announce
much and send nothing could keep all others out.
"""

from __future__ import annotations

from typing import Self


class HeldBytes:
    """The bytes that one request holds. They are released at the end of its `with` block."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Release all bytes. A second call does nothing."""
        self._capacity.bytes -= self.count
        self.count = 0

    def grow(self, count: int) -> bool:
        """Hold `count` bytes more. Return False, and hold no more, if there is no room for them."""
        if not self._capacity.has_room_for(count):
            return False
        self.count += count
        self._capacity.bytes += count
        return True


class Capacity:
    """What all open requests hold, and the limits. Only the event loop uses it.

    `messages` wait to be stored, `bytes` are those of bodies.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self.messages = 0
        self.bytes = 0

    @property
    def is_full_of_messages(self) -> bool:
        """Whether the limit of messages is reached."""
        return self.messages >= self._max_messages

    def has_room_for(self, count: int) -> bool:
        """Return whether `count` bytes more are within the limit."""
        return self.bytes + count <= self._max_bytes
