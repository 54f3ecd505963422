"""Room on the disk that is kept for the moment when the disk is full.

A file with nothing in it holds the room. To delete drained messages, SQLite has to write first, and
on a full disk it could not. The reserve is released then, and made again when there is room.
"""

from __future__ import annotations

import os
from pathlib import Path

MOST_BYTES = 16 * 1024 * 1024
"""What the reserve has at most. SQLite's log grows to about 4 MB and one batch of the appender
(8 MB), and all of it must fit into the file before the log can be emptied.
"""

_LEAST_BYTES = 64 * 1024
_CHUNK = 256 * 1024


class DiskReserve:
    """The file that holds the room. `most` is in bytes."""

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self._most = min(most, MOST_BYTES)

    @property
    def is_there(self) -> bool:
        """Whether room is kept."""
        return self._path.exists()

    def keep(self) -> bool:
        """Keep room if none is kept: a quarter of what is free, at most `most` bytes. Return
        whether room is kept now.
        """
        if self.is_there:
            return True
        disk = os.statvfs(self._path.parent)
        size = min(self._most, disk.f_bavail * disk.f_frsize // 4)
        if size < _LEAST_BYTES:
            return False
        part = self._path.with_name(f"{self._path.name}.part")
        try:
            self._write(part, size)
            part.rename(self._path)
        except OSError:
            part.unlink(missing_ok=True)
            return False
        return True

    def release(self) -> bool:
        """Give the room back to the disk. Return whether any was kept."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def _write(self, path: Path, size: int) -> None:
        # Zeros are written, because a file that only has a length takes no room.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            while size > 0:
                size -= os.write(file, bytes(min(size, _CHUNK)))
        finally:
            os.close(file)
