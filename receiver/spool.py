"""The spool: accepted deliveries in a local SQLite file while Redis is away.

What is put here is synced to the disk before the sender gets its 200, and is drained into the
stream in the order it came, across restarts, by whichever process that shares the file has the
lock. From the first put until the file is empty again everything goes through it, or a later
delivery would overtake an earlier one; a second file, the marker, tells the other processes.
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
"""What is drained in one step at most (a larger message goes alone)."""

PATIENCE = 5.0
"""Seconds to wait for another process that writes to the file."""

_PAUSE = 0.002
"""Seconds between two looks whether it still does. SQLite's own pauses grow to a tenth of a
second, with which one process would starve behind a busy neighbour.
"""

_T = TypeVar("_T")
Append = Callable[[Sequence[Row]], Awaitable[object]]

_row = msgspec.msgpack.Decoder(Row)


class SpoolError(StreamUnavailableError):
    """The spool cannot take a message: it is full, or its file cannot be written."""

    code = "spool"


class _Batch(NamedTuple):
    """The oldest rows, the position of the last of them, and whether there are more."""

    rows: list[Row]
    last: int
    has_more: bool


class Spool:
    """One spool file. `limit` is in bytes. All SQL runs in one thread of its own.

    `_turn` is held by whoever needs the thread for more than one step; the tasks of one loop
    share one connection, and so one transaction.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._marker = path.with_name(f"{path.name}.active")
        self._lock = path.with_name(f"{path.name}.lock")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._turn = asyncio.Lock()
        self._db: sqlite3.Connection | None = None
        self.is_stuck_in_backlog = False
        """Whether the last try to drain met a full backlog: then nothing more is to be put. The
        drainer writes this, the appender reads it.
        """

    async def open(self) -> None:
        """Open the file, or make it; raise `SpoolError` where that is impossible."""
        await self._in_thread(self._open)

    async def close(self) -> None:
        """Close the file; what it holds stays. Twice is once."""
        if self._db is not None:
            await self._in_thread(self._db.close)
            self._db = None
        self._thread.shutdown()

    @property
    def is_active(self) -> bool:
        """Whether messages must go through the spool, here or in another process."""
        return self._marker.exists()

    async def put(self, rows: Sequence[Row]) -> None:
        """Keep all of the rows or none; on return they are synced to the disk."""
        encoded = [(msgspec.msgpack.encode(row),) for row in rows]
        async with self._turn:
            await self._in_thread(partial(self._put, encoded))

    async def follow(self, rows: Sequence[Row]) -> bool:
        """Put the rows behind those that are here; return False, and keep none, if those have left.

        Who finds the spool active must not make it so again after the drain that ended meanwhile:
        under a load that never pauses it would never end.
        """
        encoded = [(msgspec.msgpack.encode(row),) for row in rows]
        async with self._turn:
            return await self._in_thread(partial(self._put, encoded, only_behind=True))

    async def probe(self) -> None:
        """Raise `SpoolError` unless a message could be put now. Writes, for only that tells."""
        async with self._turn:
            await self._in_thread(self._probe)

    async def drain(self, append: Append) -> int:
        """Append what is here, oldest first, until it is empty; return how many there were.

        Does nothing while another process drains. An error of `append` passes through; what was
        appended until then is gone from the file. A crash in between appends a batch twice: the
        workers drop the repeats by their IDs.
        """
        lock = await self._in_thread(self._try_lock)
        if lock is None:
            return 0
        try:
            return await self._drain(append)
        finally:
            os.close(lock)

    async def count(self) -> int:
        """Return how many messages wait here."""
        return await self._in_thread(self._count)

    async def _drain(self, append: Append) -> int:
        drained = 0
        while True:
            batch = await self._in_thread(self._oldest)
            if batch.has_more:
                await append(batch.rows)
                async with self._turn:
                    await self._in_thread(partial(self._delete, batch.last))
                drained += len(batch.rows)
                continue
            last = await self._drain_last(append)
            if last is not None:
                return drained + last

    async def _drain_last(self, append: Append) -> int | None:
        """Append the last batch while nobody can put anything behind it, and let messages go
        straight again. Under a steady load the file would never be found empty otherwise.

        None: meanwhile there was more than one batch.
        """
        async with self._turn:
            try:
                batch = await self._in_thread(self._hold_oldest)
                if batch.has_more:
                    await self._in_thread(self._let_go)
                    return None
                if batch.rows:
                    await append(batch.rows)
                await self._in_thread(partial(self._leave, batch.last))
            except BaseException:
                await self._in_thread(self._let_go)
                raise
        return len(batch.rows)

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function)
        except (sqlite3.Error, OSError) as error:
            raise SpoolError(f"{self.path}: {error}") from None

    # From here on: what runs in the thread.

    @property
    def _file(self) -> sqlite3.Connection:
        if self._db is None:
            raise OSError("it is not open")
        return self._db

    def _open(self) -> None:
        # Bodies are nobody else's to read; the files that SQLite puts beside it follow suit.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        self._db = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False
        )
        self._patiently("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA fullfsync = ON")  # or macOS leaves it in the disk's own cache
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
        """Hold the file's one write lock; commit at the end."""
        self._begin()
        try:
            yield self._file
            self._file.execute("COMMIT")
        except BaseException:
            self._let_go()
            raise

    def _begin(self) -> None:
        self._patiently("BEGIN IMMEDIATE")

    def _patiently(self, statement: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._file.execute(statement)
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)
            else:
                return

    def _let_go(self) -> None:
        if self._file.in_transaction:  # SQLite itself ends one that met a full disk
            self._file.execute("ROLLBACK")

    def _put(self, encoded: list[tuple[bytes]], *, only_behind: bool = False) -> bool:
        with self._writing() as db:
            if only_behind and not self.is_active:
                return False
            if self._bytes() + sum(len(row) for (row,) in encoded) > self._limit:
                raise OSError(f"it is full: it may hold {self._limit} bytes")
            db.executemany("INSERT INTO messages (row) VALUES (?)", encoded)
            # Under the write lock: nobody can find the file empty and remove it in between.
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
        # Not synced: if this is lost, messages are repeated. The next put syncs it.
        self._file.execute("PRAGMA synchronous = NORMAL")
        try:
            with self._writing() as db:
                db.execute("DELETE FROM messages WHERE position <= ?", (last,))
        finally:
            self._file.execute("PRAGMA synchronous = FULL")

    def _hold_oldest(self) -> _Batch:
        self._begin()
        return self._oldest()

    def _leave(self, last: int) -> None:
        """Delete the last rows and the marker, in the transaction that `_hold_oldest` began."""
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
        """Become the one process that drains, if none is; the lock ends with the process."""
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock
