"""The spool: a local SQLite file with accepted deliveries, for the time while Redis is away.

A message is synced to the disk before its sender gets the 200. The spool is drained into the stream
in its order, also after a restart, by one process at a time of those that share the file. From the
first put until the file is empty everything goes through it, because a later delivery would
otherwise overtake an earlier one. A second file, the marker, tells this to the other processes.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from hookmill.errors import StreamUnavailableError
from hookmill.stream.arrival import Row

BATCH_MESSAGES = 512
BATCH_BYTES = 8 * 1024 * 1024
"""The most that is drained in one step (a larger message goes alone)."""

BUSY_TIMEOUT = 5.0
"""Seconds to wait while another process writes to the file."""

_BUSY_PAUSE = 0.002
"""Seconds between two attempts to write. SQLite's own pauses grow to 0.1 seconds, so that a process
could wait for ever beside a busy one.
"""

_T = TypeVar("_T")
Append = Callable[[Sequence[Row]], Awaitable[object]]

_row = msgspec.msgpack.Decoder(Row)


class SpoolError(StreamUnavailableError):
    """The spool cannot take a message: it is full, or its file cannot be written."""

    code = "spool"


class _Batch(NamedTuple):
    """The oldest rows, the position of the last one, and whether there are more."""

    rows: list[Row]
    last: int
    has_more: bool


class Spool:
    """One spool file. `limit` is in bytes. All SQL runs in one thread of its own.

    All tasks share one database connection, and so one transaction: a task that needs more than one
    step holds `_transaction_lock`.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._marker = path.with_name(f"{path.name}.active")
        self._drain_lock = path.with_name(f"{path.name}.lock")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._transaction_lock = asyncio.Lock()
        self._db: sqlite3.Connection | None = None
        self.is_stuck_in_backlog = False
        """Whether draining failed because of a full backlog. Then nothing more is put here. The
        drainer sets this, the appender reads it.
        """

    async def open(self) -> None:
        """Open or create the file. Raise `SpoolError` if that fails."""
        await self._in_thread(self._open)

    async def close(self) -> None:
        """Close the file. Its messages stay in it. A second call does nothing."""
        if self._db is not None:
            await self._in_thread(self._db.close)
            self._db = None
        self._thread.shutdown()

    @property
    def is_active(self) -> bool:
        """Whether messages must go through the spool, here or in another process."""
        return self._marker.exists()

    async def put(self, rows: Sequence[Row]) -> None:
        """Store all rows or none. On return they are synced to the disk."""
        encoded = [(msgspec.msgpack.encode(row),) for row in rows]
        async with self._transaction_lock:
            await self._in_thread(partial(self._put, encoded))

    async def follow(self, rows: Sequence[Row]) -> bool:
        """Put rows behind those that are here. Return False, and store none, if the spool has been
        drained meanwhile.

        A row that comes just after the end of a drain must not make the spool active again.
        Otherwise, under a steady load, it would stay active for ever.
        """
        encoded = [(msgspec.msgpack.encode(row),) for row in rows]
        async with self._transaction_lock:
            return await self._in_thread(partial(self._put, encoded, only_behind=True))

    async def probe(self) -> None:
        """Raise `SpoolError` unless a message could be put now. It writes, to be sure."""
        async with self._transaction_lock:
            await self._in_thread(self._probe)

    async def drain(self, append: Append) -> int:
        """Append the messages, oldest first, until the spool is empty. Return how many there were.

        While another process drains, this does nothing. An error of `append` is raised; the batches
        before it are deleted from the file. A crash between append and delete means that a batch is
        appended twice: the workers drop the duplicates by their IDs.
        """
        lock = await self._in_thread(self._try_lock)
        if lock is None:
            return 0
        try:
            return await self._drain(append)
        finally:
            os.close(lock)

    async def count(self) -> int:
        """Return how many messages are here."""
        return await self._in_thread(self._count)

    async def _drain(self, append: Append) -> int:
        drained = 0
        while True:
            batch = await self._in_thread(self._oldest)
            if batch.has_more:
                await append(batch.rows)
                async with self._transaction_lock:
                    await self._in_thread(partial(self._delete, batch.last))
                drained += len(batch.rows)
                continue
            last = await self._drain_last(append)
            if last is not None:
                return drained + last

    async def _drain_last(self, append: Append) -> int | None:
        """Append the last batch, and delete the marker so that messages go to Redis again.

        The write lock is held meanwhile, so that nothing is put behind the batch. Otherwise, under
        a steady load, the file would never be found empty. Return None, and append nothing, if
        there is more than one batch by now.
        """
        async with self._transaction_lock:
            try:
                batch = await self._in_thread(self._begin_with_oldest)
                if batch.has_more:
                    await self._in_thread(self._rollback)
                    return None
                if batch.rows:
                    await append(batch.rows)
                await self._in_thread(partial(self._delete_last, batch.last))
            except BaseException:
                # Shielded, because the drainer's task may be cancelled more than once.
                await asyncio.shield(self._in_thread(self._rollback))
                raise
        return len(batch.rows)

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function)
        except (sqlite3.Error, OSError) as error:
            raise SpoolError(f"{self.path}: {error}") from None

    # --- in the thread ---

    @property
    def _file(self) -> sqlite3.Connection:
        if self._db is None:
            raise OSError("the spool is not open")
        return self._db

    def _open(self) -> None:
        # Only the owner may read bodies. SQLite gives its other files the same permissions.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        self._db = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False
        )
        self._execute_when_free("PRAGMA journal_mode = WAL")
        # Without this macOS leaves writes in the cache of the disk.
        self._db.execute("PRAGMA fullfsync = ON")
        self._db.execute("PRAGMA synchronous = FULL")
        with self._writing() as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS messages"
                " (position INTEGER PRIMARY KEY AUTOINCREMENT, row BLOB NOT NULL)"
            )
            db.execute("CREATE TABLE IF NOT EXISTS probes (one INTEGER PRIMARY KEY, count INTEGER)")
            if self._count():
                self._marker.touch()  # a crash of the machine may have lost it

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the file's write lock, and commit at the end."""
        self._begin()
        try:
            yield self._file
            self._file.execute("COMMIT")
        except BaseException:
            self._rollback()
            raise

    def _begin(self) -> None:
        self._execute_when_free("BEGIN IMMEDIATE")

    def _execute_when_free(self, statement: str) -> None:
        deadline = time.monotonic() + BUSY_TIMEOUT
        while True:
            try:
                self._file.execute(statement)
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() > deadline:
                    raise
                time.sleep(_BUSY_PAUSE)
            else:
                return

    def _rollback(self) -> None:
        if self._file.in_transaction:  # on a full disk SQLite has already rolled back
            self._file.execute("ROLLBACK")

    def _put(self, encoded: list[tuple[bytes]], *, only_behind: bool = False) -> bool:
        with self._writing() as db:
            if only_behind and not self.is_active:
                return False
            if self._bytes() + sum(len(row) for (row,) in encoded) > self._limit:
                raise OSError(f"it is full: it may hold {self._limit} bytes")
            db.executemany("INSERT INTO messages (row) VALUES (?)", encoded)
            # Still under the write lock, so that no drain deletes the marker in between.
            self._marker.touch()
        return True

    def _probe(self) -> None:
        with self._writing() as db:
            if self._bytes() >= self._limit:
                raise OSError(f"it is full: it may hold {self._limit} bytes")
            db.execute(
                "INSERT INTO probes VALUES (1, 1) ON CONFLICT (one) DO UPDATE SET count = count + 1"
            )

    def _bytes(self) -> int:
        pages, free, size = (
            self._file.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _oldest(self) -> _Batch:
        rows: list[Row] = []
        last = size = 0
        query = "SELECT position, row FROM messages ORDER BY position"
        with closing(self._file.execute(query)) as found:
            for position, encoded in found:
                size += len(encoded)
                if rows and (len(rows) == BATCH_MESSAGES or size > BATCH_BYTES):
                    return _Batch(rows, last, has_more=True)
                rows.append(_row.decode(encoded))
                last = position
        return _Batch(rows, last, has_more=False)

    def _delete(self, last: int) -> None:
        # Not synced: if it is lost, messages are appended twice. The next put syncs it.
        self._file.execute("PRAGMA synchronous = NORMAL")
        try:
            with self._writing() as db:
                db.execute("DELETE FROM messages WHERE position <= ?", (last,))
        finally:
            self._file.execute("PRAGMA synchronous = FULL")

    def _begin_with_oldest(self) -> _Batch:
        self._begin()
        return self._oldest()

    def _delete_last(self, last: int) -> None:
        """Delete the last rows and the marker, and commit what `_begin_with_oldest` began."""
        self._file.execute("DELETE FROM messages WHERE position <= ?", (last,))
        self._marker.unlink(missing_ok=True)
        try:
            self._file.execute("COMMIT")
        except sqlite3.Error:
            self._marker.touch()
            raise

    def _count(self) -> int:
        return int(self._file.execute("SELECT count(*) FROM messages").fetchone()[0])

    def _try_lock(self) -> int | None:
        """Take the lock of the process that drains; None if another process has it.

        The lock ends with the process.
        """
        lock = os.open(self._drain_lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock
