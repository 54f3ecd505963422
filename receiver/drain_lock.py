"""The lock of the process that drains the spool, and the position that it has drained to.

The position stands in the lock's file, at a place that has its room from the start. So it can be
written on a full disk too, where the drained rows cannot be deleted, and they are not appended
again: neither by this process nor by the next one.
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

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: int | None = None

    def prepare(self) -> None:
        """Make the file, and take the room of a position. Without room it stays empty."""
        file = self._open()
        try:
            if os.fstat(file).st_size == 0:
                with suppress(OSError):
                    os.pwrite(file, bytes(_FORMAT.size), 0)
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

    def remember(self, position: Position) -> None:
        """Write the position into the file, if the disk allows it."""
        if self._held is not None:
            with suppress(OSError):
                os.pwrite(self._held, _FORMAT.pack(*position), 0)

    def remembered(self) -> Position | None:
        """Return the position in the file; None if there is none."""
        try:
            found = self._path.read_bytes()
        except OSError:
            return None
        if len(found) < _FORMAT.size:
            return None
        position = Position(*_FORMAT.unpack_from(found))
        return position if position.number else None

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
