"""What a worker holds: every entry from its take to its settlement, and how many bytes it has."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hookmill.stream.entries import Entry, EntryRef, Taken


class Hold(msgspec.Struct, frozen=True, gc=False):
    """Since when an entry is held (by `time.monotonic`), and how many bytes it has."""

    since: float
    weight: int


class Holdings:
    """The entries that are held, and the budget of bytes that they share.

    Any thread may read `entries`; only the event loop changes it.
    """

    def __init__(self, max_bytes: int) -> None:
        self.entries: dict[EntryRef, Hold] = {}
        self._max_bytes = max_bytes
        self._bytes = 0

    @property
    def bytes_left(self) -> int:
        """How many bytes may still be taken. Where nothing is held, that is the whole budget."""
        return self._max_bytes - self._bytes

    @property
    def is_full(self) -> bool:
        """Whether what is held has used the budget up. Then nothing more is to be taken."""
        return self._bytes >= self._max_bytes

    def add(self, taken: Taken, now: float) -> list[Entry]:
        """Hold what was taken; return it without the entries that were held before: they run."""
        new = [entry for entry in taken.entries if entry.ref not in self.entries]
        for entry in new:
            self.entries[entry.ref] = Hold(now, entry.weight)
            self._bytes += entry.weight
        return new

    def let_go(self, refs: Iterable[EntryRef]) -> None:
        """Hold these no longer."""
        for ref in refs:
            hold = self.entries.pop(ref, None)
            if hold is not None:
                self._bytes -= hold.weight
