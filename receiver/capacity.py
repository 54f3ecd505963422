"""Counts how many bytes of bodies a receiver holds.

A body counts as it arrives, not as its Content-Length says. Otherwise a few senders that announce
much and send nothing could keep all others out. No source holds more than half of the bytes that
the others leave free. Where there is no room, the oldest body that is still on its way is given up.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Self

PROTECTED = 1.0
"""Seconds for which a body may be on its way before it can be given up for others."""


class HeldBytes:
    """The bytes of one body that arrives in parts. They are released at the end of its `with`
    block.
    """

    def __init__(self, capacity: Capacity, source: str) -> None:
        self.source = source
        self.count = 0
        self.is_given_up = False
        """Whether it had to make room for others. Then it holds nothing."""
        self._capacity = capacity

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def begin(self, give_up: Callable[[], None]) -> None:
        """Note that its parts are awaited from now on. `give_up` is called if it has to make room
        for others.
        """
        self._capacity.begin(self, give_up)

    def end(self) -> None:
        """Note that nothing more is awaited: from now on it is not given up."""
        self._capacity.end(self)

    def grow(self, count: int) -> bool:
        """Hold `count` bytes more. Return False, and hold no more, if there is no room for them."""
        return self._capacity.grow(self, count)

    def release(self) -> None:
        """Release all bytes. A second call does nothing."""
        self._capacity.release(self)


class _Arriving:
    """A body of which parts are awaited: since when, and what is called to give it up."""

    __slots__ = ("give_up", "since")

    def __init__(self, since: float, give_up: Callable[[], None]) -> None:
        self.since = since
        self.give_up = give_up


class Capacity:
    """What all open requests hold, and the limit. Only the event loop uses it.

    `bytes` are those of all bodies. Bodies that arrive whole are counted in it by the caller.
    `clock` is in seconds and never goes back.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self.bytes = 0
        self._by_source: Counter[str] = Counter()
        """The bytes of bodies that arrive, or arrived, in parts."""
        self._arriving: dict[HeldBytes, _Arriving] = {}
        """The oldest first, because a dict keeps the order in which its keys came."""

    def make_room(self, count: int) -> bool:
        """Return whether there is room for a body that has arrived whole, of `count` bytes. Bodies
        that are still on their way are given up for it.
        """
        while self.bytes + count > self._max_bytes:
            oldest = next(self._old(), None)
            if oldest is None:
                return False
            self._give_up(oldest)
        return True

    def could_hold(self, source: str, count: int) -> bool:
        """Return whether there would be room for a body of `count` bytes that has been announced.
        Nothing is given up for it, because to announce costs nothing.
        """
        if self._is_within_share(source, 0, count) and self.bytes + count <= self._max_bytes:
            return True
        old = list(self._old())
        spare = sum(held.count for held in old)
        own = sum(held.count for held in old if held.source == source)
        return (
            self._is_within_share(source, 0, count, own)
            and self.bytes - spare + count <= self._max_bytes
        )

    # --- for `HeldBytes` ---

    def begin(self, held: HeldBytes, give_up: Callable[[], None]) -> None:
        """Await the parts of a body."""
        self._arriving[held] = _Arriving(self._clock(), give_up)

    def end(self, held: HeldBytes) -> None:
        """Await no more parts of it."""
        self._arriving.pop(held, None)

    def grow(self, held: HeldBytes, count: int) -> bool:
        """Hold `count` bytes more of a body; return False if there is no room for them."""
        if held.is_given_up:
            return False
        while not self._is_within_share(held.source, held.count, count):
            oldest = next((one for one in self._old(held) if one.source == held.source), None)
            if oldest is None:
                return False
            self._give_up(oldest)
        while self.bytes + count > self._max_bytes:
            oldest = next(self._old(held), None)
            if oldest is None:
                return False
            self._give_up(oldest)
        held.count += count
        self.bytes += count
        self._by_source[held.source] += count
        return True

    def release(self, held: HeldBytes) -> None:
        """Release the bytes of a body."""
        self.end(held)
        self.bytes -= held.count
        self._by_source[held.source] -= held.count
        held.count = 0
        if not self._by_source[held.source]:
            del self._by_source[held.source]

    def _is_within_share(self, source: str, of_body: int, count: int, spare: int = 0) -> bool:
        """Return whether a source may hold `count` bytes more, for a body of which it holds
        `of_body`, once it has given up `spare`. One body is always within its share.
        """
        own = self._by_source[source]
        free = self._max_bytes - (self.bytes - own)
        return own - spare <= of_body or 2 * (own - spare + count) <= free

    def _old(self, but: HeldBytes | None = None) -> Iterator[HeldBytes]:
        """Yield the bodies that can be given up, the oldest first."""
        latest = self._clock() - PROTECTED
        for held, arriving in self._arriving.items():
            if arriving.since > latest:
                return
            if held is not but and held.count:
                yield held

    def _give_up(self, held: HeldBytes) -> None:
        give_up = self._arriving[held].give_up
        self.release(held)
        held.is_given_up = True
        give_up()
