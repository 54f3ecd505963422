"""What a worker holds: every entry from its take to its settlement, and how many bytes it has."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hookmill.stream.entries import Entry, EntryRef, Taken


class Hold(msgspec.Struct, frozen=True, gc=False):
    """Since when an entry is held (by `time.monotonic`), and how many bytes it has."""

    since: float
    weight: int


class Budget:
    """The bytes that what is held may have, in all lanes of a worker together.

    Half of them are split among the lanes, and the other half is for whoever needs it. So a lane
    whose outcomes cannot be written keeps the others from nothing but that half.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.users: list[Holdings] = []

    def left_for(self, user: Holdings) -> int:
        """Return how many bytes one of several may still take."""
        several = len(self.users)
        own = self.max_bytes // (2 * several)
        left = self.max_bytes - own * several + max(0, own - user.bytes)
        for each in self.users:
            used = each.bytes if each is user else each.bytes + each.kept
            left -= max(0, used - own)
        return left


class Holdings:
    """The entries that a pool holds, and what is left of the budget for it.

    Any thread may read `entries`; only the event loop changes it.
    """

    def __init__(self, budget: Budget) -> None:
        self.entries: dict[EntryRef, Hold] = {}
        self.bytes = 0
        self.kept = 0
        """How many more a take that is under way may bring."""
        self._budget = budget
        budget.users.append(self)

    @property
    def bytes_left(self) -> int:
        """How many bytes may still be taken. Where nothing is held, that is the whole budget."""
        if len(self._budget.users) > 1:
            return self._budget.left_for(self)
        return self._budget.max_bytes - self.bytes

    @property
    def is_full(self) -> bool:
        """Whether what is held has used the budget up. Then nothing more is to be taken."""
        if len(self._budget.users) > 1:
            return self._budget.left_for(self) <= 0
        return self.bytes >= self._budget.max_bytes

    def add(self, taken: Taken, now: float) -> list[Entry]:
        """Hold what was taken; return it without the entries that were held before: they run."""
        new = [entry for entry in taken.entries if entry.ref not in self.entries]
        for entry in new:
            self.entries[entry.ref] = Hold(now, entry.weight)
            self.bytes += entry.weight
        return new

    def let_go(self, refs: Iterable[EntryRef]) -> None:
        """Hold these no longer."""
        for ref in refs:
            hold = self.entries.pop(ref, None)
            if hold is not None:
                self.bytes -= hold.weight
