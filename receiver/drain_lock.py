"""The lock of the process that drains the spool, and the positions that it has drained to.

The position of each partition stands in the lock's file, at a place that has its room from the
start. So it can be written on a full disk too, where the drained rows cannot be deleted, and they
are not appended again: neither by this process nor by the next one.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_FORMAT = struct.Struct(">Q16s")


class Position(NamedTuple):
    """The position of a row, and the digest of that row.

    The position counts only for a file whose row at that position has this digest. Otherwise it is
    that of another file, which was replaced or restored.
    """

    number: int
    digest: bytes


class DrainLock:
    """The lock file of one spool. Only the holder of the lock may `remember` a position."""

    def __init__(self, path: Path, partitions: int) -> None:
        self._path = path
        self._partitions = partitions
        self._held: int | None = None

    def prepare(self) -> None:
        """Make the file, and take the room of the positions. Without room it stays as it is."""
        file = self._open()
        size = self._partitions * _FORMAT.size
        try:
            if (there := os.fstat(file).st_size) < size:
                with suppress(OSError):
                    os.pwrite(file, bytes(size - there), there)
        finally:
            os.close(file)

    def take(self) -> bool:
        """Take the lock. Return False if another process has it. It ends with the process."""
        file = self._open()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._held = file
        return True

    def release(self) -> None:
        """Release the lock. A second call does nothing."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def remember(self, partition: int, position: Position) -> None:
        """Write a partition's position into the file, if the disk allows it."""
        if self._held is not None:
            with suppress(OSError):
                os.pwrite(self._held, _FORMAT.pack(*position), partition * _FORMAT.size)

    def remembered(self) -> dict[int, Position]:
        """Return the positions in the file, by partition."""
        try:
            found = self._path.read_bytes()
        except OSError:
            return {}
        whole = found[: len(found) // _FORMAT.size * _FORMAT.size]
        positions = enumerate(Position(*each) for each in _FORMAT.iter_unpack(whole))
        return {partition: position for partition, position in positions if position.number}

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
