"""Deletes from the spool what was drained, also on a full disk, and remembers it until then.

SQLite has to write before it can delete. On a full disk it gets the room of the reserve. Where
that is not enough, the rows stay in the file, are not appended again, and are deleted when there is
room.
All of it blocks: it runs in the spool's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress

from hookmill.runtime.spool_file import SpoolFile, Unreadable, is_out_of_room
from receiver.disk_reserve import DiskReserve
from receiver.drain_lock import DrainLock, Position
from receiver.drain_progress import DrainProgress


class DrainedRows:
    """The rows of one spool file that were appended. All but `open` need the drain lock."""

    def __init__(
        self, file: SpoolFile, reserve: DiskReserve, lock: DrainLock, progress: DrainProgress
    ) -> None:
        self.reserve = reserve
        self.is_out_of_room = False
        """Whether the disk is so full that this drain cannot delete what it appended."""
        self.needs_cleaning = False
        """Whether `clean` has something to do: the disk was full."""
        self._file = file
        self._lock = lock
        self._progress = progress

    def open(self) -> None:
        """Find out what an earlier process appended, and keep room on the disk. The caller holds
        the file's write lock.
        """
        self._lock.prepare()
        self._progress.appended_elsewhere(self._remembered())
        is_kept = self.reserve.keep()
        self.needs_cleaning = bool(self._progress.appended) or not is_kept

    def begin(self) -> None:
        """Begin a drain: another process may have drained further than this one."""
        self.is_out_of_room = False
        self._progress.appended_elsewhere(self._remembered())

    def left(self) -> int:
        """Return how many messages have to be drained."""
        if self._progress.appended:
            return len(self._file.positions(self._progress.is_pending))
        return self._file.count()

    def set_aside(self, unreadable: Sequence[Unreadable]) -> None:
        """Set aside rows that cannot be read."""
        while True:
            try:
                self._file.set_aside(unreadable)
            except sqlite3.Error as error:
                self._make_room(error)
                if self.is_out_of_room:
                    raise
            else:
                return

    def delete(self) -> None:
        """Delete appended rows. On a full disk they stay in the file until there is room."""
        self._remember()
        while self._progress.undeleted and not self.is_out_of_room:
            try:
                # Not synced: if it is lost, `_remember` still knows. The next put syncs it.
                self._file.delete_unsynced(sorted(self._progress.undeleted))
            except sqlite3.Error as error:
                self._make_room(error)
            else:
                self._progress.undeleted.clear()

    def finish(self) -> bool:
        """Delete the last rows and commit, within the transaction that is open. Only partitions
        that are held up stay in the marker.

        Return False if the disk is full: the write lock is released then, so there may be new rows.
        When that is certain the next call changes the marker only, because all rows were appended.
        """
        self._remember()
        try:
            if not self.is_out_of_room:
                self._file.delete(sorted(self._progress.undeleted))
            self._file.marker.narrow(self._progress.held_up)
            self._file.commit()
        except sqlite3.Error as error:
            self._file.marker.add_all()
            self._file.rollback()
            self._make_room(error)
            return False
        if not self.is_out_of_room:
            self._progress.undeleted.clear()
            self.needs_cleaning = not self.reserve.keep()
        return True

    def clean(self) -> None:
        """Do what a full disk made impossible: delete drained rows, and keep room again."""
        is_pending = self._progress.is_pending
        self._progress.undeleted.update(
            self._file.positions(lambda position, row: not is_pending(position, row))
        )
        self.delete()
        if not self.is_out_of_room:
            self.needs_cleaning = not self.reserve.keep()

    def _remembered(self) -> dict[int, int]:
        """Return the positions in the lock file that belong to this file, by partition."""
        return {
            partition: position.number
            for partition, position in self._lock.remembered().items()
            if self._file.digest_of(position.number) == position.digest
        }

    def _remember(self) -> None:
        """Write down, before the rows are deleted, how far they were appended."""
        for partition in self._progress.unremembered:
            position = self._progress.appended[partition]
            if digest := self._file.digest_of(position):
                self._lock.remember(partition, Position(position, digest))
        self._progress.unremembered.clear()

    def _make_room(self, error: sqlite3.Error) -> None:
        """Release the reserve, so that the next delete has room. Raise `error` if it says anything
        else than that the disk is full.
        """
        if not is_out_of_room(error):
            raise error
        self.needs_cleaning = True
        self.is_out_of_room = not self.reserve.release()
        with suppress(sqlite3.Error):  # it has done what was possible
            self._file.free_the_log()
