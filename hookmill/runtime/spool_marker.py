"""The marker file beside a spool: it tells all processes which messages must go through the spool.

No marker: none. It holds the numbers of partitions: only theirs. An empty one, which release 0.1
makes too: all. Release 0.1 sees only whether there is a marker, and then spools everything. It does
not read the numbers, and only touches a marker that is there. So one with numbers has a fixed time
of change; with another time, it stands for all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_CHANGED_AT = 1_000_000_000
"""The time of change (Unix seconds) of a marker that holds numbers."""


class Spooled(NamedTuple):
    """The partitions whose messages must go through the spool: `all`, or those named."""

    is_all: bool
    partitions: frozenset[int] = frozenset()

    def __contains__(self, partition: object) -> bool:
        """Whether the messages of a partition must go through the spool."""
        return self.is_all or partition in self.partitions

    def __bool__(self) -> bool:
        """Whether any must."""
        return self.is_all or bool(self.partitions)


class SpoolMarker:
    """The marker of one spool. Whoever changes it holds the write lock of the spool's file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Spooled:
        """Return which messages must go through the spool, here or in another process."""
        try:
            with self.path.open("rb") as file:
                numbers = file.read().split()
                is_touched = int(os.fstat(file.fileno()).st_mtime) != _CHANGED_AT
        except FileNotFoundError:
            return Spooled(is_all=False)
        if not numbers or is_touched or not all(number.isdigit() for number in numbers):
            return Spooled(is_all=True)
        return Spooled(is_all=False, partitions=frozenset(map(int, numbers)))

    def exists(self) -> bool:
        """Whether any messages must go through the spool."""
        return self.path.exists()

    def add(self, partitions: Iterable[int]) -> None:
        """Let the messages of these partitions go through the spool as well."""
        now = self.read()
        wanted = now.partitions.union(partitions)
        if not now.is_all and wanted != now.partitions:
            self._write(wanted)

    def add_all(self) -> None:
        """Let all messages go through the spool."""
        if not self.read().is_all:
            self.path.write_bytes(b"")  # this needs no room on a full disk

    def narrow(self, partitions: Iterable[int]) -> None:
        """Let only the messages of these partitions go through the spool. Without any: none."""
        wanted = frozenset(partitions)
        if not wanted:
            self.path.unlink(missing_ok=True)
        elif self.read() != Spooled(is_all=False, partitions=wanted):
            self._write(wanted)

    def _write(self, partitions: Iterable[int]) -> None:
        # Renamed, because a reader must not see half of it. It may be another user's file, too.
        part = self.path.with_name(f"{self.path.name}.part")
        try:
            part.write_text(" ".join(map(str, sorted(partitions))))
            os.utime(part, (_CHANGED_AT, _CHANGED_AT))
            part.replace(self.path)
        except OSError:  # a full disk: then everything goes through the spool
            part.unlink(missing_ok=True)
            self.path.write_bytes(b"")
