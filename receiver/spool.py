"""The spool: a local SQLite file with accepted deliveries, for the time while Redis is away.

A message is synced to the disk before its sender gets the 200. The spool is drained into the stream
in its order, also after a restart, by one process at a time of those that share the file. From the
first put until the file is empty everything goes through it, because a later delivery would
otherwise overtake an earlier one. A second file, the marker, tells this to the other processes.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from hookmill.runtime.spool_file import Batch, SpoolError, SpoolFile, Unreadable, is_out_of_room
from hookmill.stream.arrival import Row
from receiver.disk_reserve import DiskReserve
from receiver.drain_lock import DrainLock, Position
from receiver.drain_pace import DrainPace

log = structlog.get_logger("receiver")

_T = TypeVar("_T")
Append = Callable[[Sequence[Row]], Awaitable[object]]


class Spool:
    """One spool file. `limit` is in bytes. All SQL runs in one thread of its own.

    All tasks share one database connection, and so one transaction: a task that needs more than one
    step holds `_transaction_lock`.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._file = SpoolFile(path, limit)
        self._reserve = DiskReserve(path.with_name(f"{path.name}.reserve"), limit)
        self._drain_lock = DrainLock(path.with_name(f"{path.name}.lock"))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._transaction_lock = asyncio.Lock()
        self._appended = 0
        """The position up to which all rows were appended. Those of them that are still in the
        file could not be deleted: they are not drained again, and deleted later.
        """
        self._is_out_of_room = False
        """Whether the disk is so full that this drain cannot delete what it appended."""
        self._needs_cleaning = False
        self.is_stuck_in_backlog = False
        """Whether draining failed because of a full backlog. Then nothing more is put here. The
        drainer sets this, the appender reads it.
        """

    async def open(self) -> None:
        """Open or create the file. Raise `SpoolError` if that fails."""
        await self._in_thread(self._open)

    async def close(self) -> None:
        """Close the file. Its messages stay in it. A second call does nothing."""
        if self._file.is_open:
            await self._in_thread(self._file.close)
        self._thread.shutdown()

    @property
    def is_active(self) -> bool:
        """Whether messages must go through the spool, here or in another process."""
        return self._file.is_active

    @property
    def needs_cleaning(self) -> bool:
        """Whether `clean` has something to do: the disk was full."""
        return self._needs_cleaning

    async def put(self, rows: Sequence[Row]) -> None:
        """Store all rows or none. On return they are synced to the disk."""
        encoded = [(msgspec.msgpack.encode(row),) for row in rows]
        async with self._transaction_lock:
            await self._in_thread(partial(self._file.put, encoded))

    async def follow(self, rows: Sequence[Row]) -> bool:
        """Put rows behind those that are here. Return False, and store none, if the spool has been
        drained meanwhile.

        A row that comes just after the end of a drain must not make the spool active again.
        Otherwise, under a steady load, it would stay active for ever.
        """
        encoded = [(msgspec.msgpack.encode(row),) for row in rows]
        async with self._transaction_lock:
            return await self._in_thread(partial(self._file.put, encoded, only_behind=True))

    async def probe(self) -> None:
        """Raise `SpoolError` unless a message could be put now. It writes, to be sure."""
        async with self._transaction_lock:
            await self._in_thread(self._file.probe)

    async def drain(self, append: Append, pace: DrainPace | None = None) -> int:
        """Append the messages, oldest first, until the spool is empty. Return how many there were.

        While another process drains, this does nothing. `pace` bounds the size and time of a batch.
        An error of `append` is raised; the batches before it are deleted from the file. A batch
        whose append was answered is not appended again, even if it cannot be deleted. A batch whose
        append was not answered is: the workers drop the duplicates by their IDs.
        """
        if not await self._in_thread(self._take_drain_lock):
            return 0
        try:
            return await self._drain(append, pace or DrainPace())
        finally:
            self._drain_lock.release()

    async def clean(self) -> None:
        """Do what a full disk made impossible: delete drained rows, and keep room again."""
        if not await self._in_thread(self._take_drain_lock):
            return
        try:
            async with self._transaction_lock:
                await self._in_thread(self._clean)
        finally:
            self._drain_lock.release()

    async def count(self) -> int:
        """Return how many messages are here that have to be drained."""
        return await self._in_thread(lambda: self._file.count(self._appended))

    async def _drain(self, append: Append, pace: DrainPace) -> int:
        drained = 0
        while True:
            batch = await self._in_thread(partial(self._oldest, pace))
            if batch.unreadable:
                await self._set_aside(batch.unreadable)
            elif batch.has_more or batch.size > pace.locked_bytes:
                async with pace.step(batch.size, len(batch.rows)):
                    await append(batch.rows)
                self._appended = batch.last
                async with self._transaction_lock:
                    await asyncio.shield(self._in_thread(self._delete))
                drained += len(batch.rows)
            else:
                appended, is_empty = await self._drain_last(append, pace)
                drained += appended
                if is_empty:
                    return drained

    async def _drain_last(self, append: Append, pace: DrainPace) -> tuple[int, bool]:
        """Append the last batch, and delete the marker so that messages go to Redis again.

        The write lock is held meanwhile, so that nothing is put behind the batch. Otherwise, under
        a steady load, the file would never be found empty. Return how many messages were appended,
        and whether the spool is empty now. If it is not, it has to be looked at again: there is
        more by now, or the disk is full.
        """
        async with self._transaction_lock:
            try:
                batch = await self._in_thread(partial(self._begin_with_oldest, pace))
                if batch.has_more or batch.unreadable or batch.size > pace.locked_bytes:
                    await self._in_thread(self._file.rollback)
                    return 0, False
                if batch.rows:
                    async with pace.step(batch.size, len(batch.rows), is_locked=True):
                        await append(batch.rows)
                    self._appended = batch.last
                is_empty = await asyncio.shield(self._in_thread(self._finish))
            except BaseException:
                # Shielded, because the drainer's task may be cancelled more than once.
                await asyncio.shield(self._in_thread(self._file.rollback))
                raise
        return len(batch.rows), is_empty

    async def _set_aside(self, unreadable: Sequence[Unreadable]) -> None:
        async with self._transaction_lock:
            await self._in_thread(partial(self._move_aside, unreadable))
        for position, reason in unreadable:
            log.error("set aside a spooled message that cannot be read", position=position,
                      error=reason)  # fmt: skip

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function)
        except (sqlite3.Error, OSError) as error:
            raise SpoolError(f"{self.path}: {error}") from None

    # --- in the thread ---

    def _open(self) -> None:
        self._file.open()
        self._drain_lock.prepare()
        self._appended = self._remembered()
        with self._file.writing():
            is_kept = self._reserve.keep()
            if self._file.count(self._appended):
                self._file.make_active()  # a crash of the machine may have lost it
        self._needs_cleaning = bool(self._appended) or not is_kept

    def _take_drain_lock(self) -> bool:
        if not self._drain_lock.take():
            return False
        self._is_out_of_room = False
        # Another process may have drained further than this one.
        self._appended = max(self._appended, self._remembered())
        return True

    def _remembered(self) -> int:
        """Return the position in the lock file if it belongs to this file; else 0."""
        position = self._drain_lock.remembered()
        if position is None or self._file.digest_of(position.number) != position.digest:
            return 0
        return position.number

    def _remember(self) -> None:
        """Write down, before the rows are deleted, how far they were appended."""
        if digest := self._file.digest_of(self._appended):
            self._drain_lock.remember(Position(self._appended, digest))

    def _oldest(self, pace: DrainPace) -> Batch:
        return self._file.oldest(self._appended, pace.messages, pace.bytes)

    def _begin_with_oldest(self, pace: DrainPace) -> Batch:
        self._file.begin()
        return self._oldest(pace)

    def _move_aside(self, unreadable: Sequence[Unreadable]) -> None:
        while True:
            try:
                self._file.set_aside(unreadable)
            except sqlite3.Error as error:
                self._make_room(error)
                if self._is_out_of_room:
                    raise
            else:
                return

    def _delete(self) -> None:
        """Delete appended rows. On a full disk they stay in the file until there is room."""
        self._remember()
        while not self._is_out_of_room:
            try:
                # Not synced: if it is lost, `_remember` still knows. The next put syncs it.
                self._file.delete_unsynced(self._appended)
            except sqlite3.Error as error:
                self._make_room(error)
            else:
                return

    def _finish(self) -> bool:
        """Delete the last rows and the marker, and commit what `_begin_with_oldest` began.

        Return False if the disk is full: the write lock is released then, so there may be new rows.
        When that is certain the next call deletes the marker only, because all rows were appended.
        """
        self._remember()
        try:
            if not self._is_out_of_room:
                self._file.delete_through(self._appended)
            self._file.marker.unlink(missing_ok=True)
            self._file.commit()
        except sqlite3.Error as error:
            self._file.make_active()
            self._file.rollback()
            self._make_room(error)
            return False
        if not self._is_out_of_room:
            self._needs_cleaning = not self._reserve.keep()
        return True

    def _make_room(self, error: sqlite3.Error) -> None:
        """Release the reserve, so that the next delete has room. Raise `error` if it says anything
        else than that the disk is full.
        """
        if not is_out_of_room(error):
            raise error
        self._needs_cleaning = True
        self._is_out_of_room = not self._reserve.release()
        with suppress(sqlite3.Error):  # it has done what was possible
            self._file.free_the_log()

    def _clean(self) -> None:
        if self._file.has_through(self._appended):
            self._delete()
        if not self._is_out_of_room:
            self._needs_cleaning = not self._reserve.keep()
