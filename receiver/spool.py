"""The spool: a local SQLite file with accepted deliveries, for the time while Redis is away.

A message is synced to the disk before its sender gets the 200. The spool is drained into the stream
in its order, also after a restart, by one process at a time of those that share the file. While it
has messages of a partition, all of that partition go through it, because a later delivery would
otherwise overtake an earlier one. A second file, the marker, tells this to the other processes.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from hookmill.errors import StreamUnavailableError
from hookmill.runtime.spool_file import LAST, Batch, SpoolError, SpoolFile, Unreadable
from hookmill.runtime.spool_marker import Spooled
from hookmill.stream.arrival import Row
from receiver.disk_reserve import DiskReserve
from receiver.drain_lock import DrainLock
from receiver.drain_pace import DrainPace
from receiver.drain_progress import DrainProgress, Refusals
from receiver.drained_rows import DrainedRows

log = structlog.get_logger("receiver")

_T = TypeVar("_T")
Append = Callable[[Sequence[Row]], Awaitable[Refusals]]


class Spool:
    """One spool file. `limit` is in bytes, `partitions` how many the stream has. All SQL runs in
    one thread of its own.

    All tasks share one database connection, and so one transaction: a task that needs more than one
    step holds `_transaction_lock`.
    """

    def __init__(self, path: Path, limit: int, partitions: int = 1) -> None:
        self.path = path
        self.partitions = partitions
        self._file = SpoolFile(path, limit)
        reserve = DiskReserve(path.with_name(f"{path.name}.reserve"), limit)
        self._drain_lock = DrainLock(path.with_name(f"{path.name}.lock"), partitions)
        self._progress = DrainProgress(partitions)
        self._drained = DrainedRows(self._file, reserve, self._drain_lock, self._progress)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._transaction_lock = asyncio.Lock()
        self.full: frozenset[int] = frozenset()
        """The partitions whose messages cannot be drained because their backlog is full. Nothing
        more of them is put here. The drainer sets this, the appender reads it.
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
        """Whether any messages must go through the spool, here or in another process."""
        return self._file.is_active

    @property
    def spooled(self) -> Spooled:
        """Which messages must go through the spool, here or in another process."""
        found = self._file.marker.read()
        if len(found.partitions) == self.partitions:
            return Spooled(is_all=True)
        return found

    @property
    def held_up(self) -> dict[int, StreamUnavailableError]:
        """The partitions that refused their messages in the last drain, and why."""
        return self._progress.held_up

    @property
    def needs_cleaning(self) -> bool:
        """Whether `clean` has something to do: the disk was full."""
        return self._drained.needs_cleaning

    async def put(self, rows: Sequence[Row]) -> None:
        """Store all rows or none. On return they are synced to the disk."""
        put = partial(self._file.put, _encoded(rows), self._partitions_of(rows))
        async with self._transaction_lock:
            await self._in_thread(put)

    async def follow(self, rows: Sequence[Row]) -> list[bool]:
        """Put rows behind those of their partitions that are here. Return for each row whether it
        was stored: it is not where its partition has been drained meanwhile.

        A row that comes just after the end of a drain must not make the spool active again.
        Otherwise, under a steady load, it would stay active for ever.
        """
        put_behind = partial(self._file.put_behind, _encoded(rows), self._partitions_of(rows))
        async with self._transaction_lock:
            return await self._in_thread(put_behind)

    async def probe(self) -> None:
        """Raise `SpoolError` unless a message could be put now. It writes, to be sure."""
        async with self._transaction_lock:
            await self._in_thread(self._file.probe)

    async def drain(
        self,
        append: Append,
        pace: DrainPace | None = None,
        full: Collection[int] = (),
    ) -> int:
        """Append the messages, oldest first, until the spool is empty. Return how many there were.

        While another process drains, this does nothing. `pace` bounds the size and time of a batch.
        Messages of a partition that refuses them stay (`held_up`), and do not stop the others;
        `full` are partitions that need not be tried again yet. An error of `append` is raised; what
        was appended before it is deleted from the file. A batch whose append was answered is not
        appended again, even if it cannot be deleted.
        """
        if not await self._in_thread(self._take_drain_lock):
            return 0
        try:
            return await self._drain(append, pace or DrainPace(), full)
        finally:
            self._drain_lock.release()

    async def clean(self) -> None:
        """Do what a full disk made impossible: delete drained rows, and keep room again."""
        if not await self._in_thread(self._take_drain_lock):
            return
        try:
            async with self._transaction_lock:
                await self._in_thread(self._drained.clean)
        finally:
            self._drain_lock.release()

    async def count(self) -> int:
        """Return how many messages are here that have to be drained."""
        return await self._in_thread(self._drained.left)

    async def _drain(self, append: Append, pace: DrainPace, full: Collection[int]) -> int:
        drained = 0
        for partition in self._progress.held_up:
            if partition not in full:
                drained += await self._drain_held_up(partition, append, pace)
        while not self._progress.is_held_up:
            batch = await self._in_thread(partial(self._oldest, pace))
            if batch.unreadable:
                await self._set_aside(batch.unreadable)
            elif batch.has_more or batch.size > pace.locked_bytes:
                drained += await self._append(batch, append, pace)
            else:
                appended, is_drained = await self._drain_last(append, pace)
                drained += appended
                if is_drained:
                    break
        return drained

    async def _drain_held_up(self, partition: int, append: Append, pace: DrainPace) -> int:
        """Append the rows of a partition that were passed over, until it refuses them again. Return
        how many were appended.
        """
        drained, most = 0, 1
        while True:
            batch = await self._in_thread(partial(self._oldest_held_up, partition, most, pace))
            if batch.rows:
                appended = await self._append(batch, append, pace)
                if not appended:
                    return drained
                drained, most = drained + appended, pace.messages
            self._progress.go_on(partition, batch.last)
            if not batch.has_more:
                self._progress.let_go(partition)
                return drained

    async def _append(self, batch: Batch, append: Append, pace: DrainPace) -> int:
        """Append a batch, and delete what was appended. Return how many rows that were."""
        refused: Refusals = {}
        if batch.rows:
            async with pace.step(batch.size, len(batch.rows)):
                refused = await append(batch.rows)
        appended = self._progress.note(batch, refused)
        async with self._transaction_lock:
            await asyncio.shield(self._in_thread(self._drained.delete))
        return appended

    async def _drain_last(self, append: Append, pace: DrainPace) -> tuple[int, bool]:
        """Append the last batch, and change the marker so that messages go to Redis again.

        The write lock is held meanwhile, so that nothing is put behind the batch. Otherwise, under
        a steady load, the file would never be found empty. Return how many messages were appended,
        and whether all were that can be. If not, it has to be looked at again: there is more by
        now, or the disk is full.
        """
        appended = 0
        async with self._transaction_lock:
            try:
                batch = await self._in_thread(partial(self._begin_with_oldest, pace))
                if batch.has_more or batch.unreadable or batch.size > pace.locked_bytes:
                    await self._in_thread(self._file.rollback)
                    return 0, False
                refused: Refusals = {}
                if batch.rows:
                    async with pace.step(batch.size, len(batch.rows), is_locked=True):
                        refused = await append(batch.rows)
                appended = self._progress.note(batch, refused)
                is_drained = await asyncio.shield(self._in_thread(self._drained.finish))
            except BaseException:
                # Shielded, because the drainer's task may be cancelled more than once.
                await asyncio.shield(self._in_thread(self._file.rollback))
                raise
        return appended, is_drained

    async def _set_aside(self, unreadable: Sequence[Unreadable]) -> None:
        async with self._transaction_lock:
            await self._in_thread(partial(self._drained.set_aside, unreadable))
        for position, reason in unreadable:
            log.error("set aside a spooled message that cannot be read", position=position,
                      error=reason)  # fmt: skip

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function)
        except (sqlite3.Error, OSError) as error:
            raise SpoolError(f"{self.path}: {error}") from None

    def _partitions_of(self, rows: Sequence[Row]) -> list[int]:
        return [row.partition(self.partitions) for row in rows]

    # --- in the thread ---

    def _open(self) -> None:
        self._file.open()
        with self._file.writing():
            self._drained.open()
            if self._drained.left():
                self._file.marker.add_all()  # a crash of the machine may have lost it

    def _take_drain_lock(self) -> bool:
        if not self._drain_lock.take():
            return False
        self._drained.begin()
        return True

    def _oldest(self, pace: DrainPace) -> Batch:
        progress = self._progress
        span = progress.cursor, LAST
        return self._file.oldest(span, pace.messages, pace.bytes, progress.is_next)

    def _oldest_held_up(self, partition: int, most: int, pace: DrainPace) -> Batch:
        span = self._progress.span_of(partition)
        is_wanted = partial(self._progress.is_of, partition)
        return self._file.oldest(span, most, pace.bytes, is_wanted)

    def _begin_with_oldest(self, pace: DrainPace) -> Batch:
        self._file.begin()
        return self._oldest(pace)


def _encoded(rows: Sequence[Row]) -> list[bytes]:
    # A row may wait here until receivers or workers of an older release read it.
    return [msgspec.msgpack.encode(row.in_version_2()) for row in rows]
