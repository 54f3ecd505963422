"""What a worker holds: every entry from its take to its settlement, and how many bytes it has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hookmill.stream.entries import Entry, EntryRef, Taken, weight_of


class Hold(NamedTuple):
    """Since when an entry is held (by `time.monotonic`), and how many bytes it has at most."""

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
        # Where all of them fit even if each is as large as the largest, they need not be weighed.
        count, largest = len(self.entries) + len(new), taken.largest
        are_small = largest is not None and 2 * count * largest <= self._max_bytes
        hold = Hold(now, largest or 0)
        for entry in new:
            if not are_small:
                hold = Hold(now, weight_of(entry.fields))
            self.entries[entry.ref] = hold
            self._bytes += hold.weight
        return new

    def let_go(self, refs: Iterable[EntryRef]) -> None:
        """Hold these no longer."""
        for ref in refs:
            hold = self.entries.pop(ref, None)
            if hold is not None:
                self._bytes -= hold.weight
