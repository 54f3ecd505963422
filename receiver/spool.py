"""The spool: accepted deliveries in a local SQLite file while Redis is away.

What is put here is synced to the disk before the sender gets its 200, and is drained into the
stream in the order it came, across restarts and by whichever process that shares the file gets the
lock. From the first put until the file is empty again everything goes through it, or a later
delivery would overtake an earlier one. A second file says so to the other processes.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from hookmill.errors import HookmillError
from hookmill.message import Fields, Message

BATCH = 500
"""Messages drained in one step."""

BUSY = 5.0
"""Seconds to wait for another process that writes to the file."""

_T = TypeVar("_T")

_fields = msgspec.msgpack.Decoder(Fields)


class SpoolError(HookmillError):
    """The spool cannot take a message: the disk is full or the file is not writable."""

    code = "spool"


class Spool:
    """One spool file. `limit` is in bytes of messages. All SQL runs in one thread of its own."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._marker = path.with_name(f"{path.name}.active")
        self._lock = path.with_name(f"{path.name}.lock")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._putting = 0
        self._db: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the file, or make it; raise `SpoolError` where that is impossible."""
        await self._in_thread(self._open)

    async def close(self) -> None:
        """Close the file; what it holds stays."""
        if self._db is not None:
            await self._in_thread(self._db.close)
        self._thread.shutdown()

    @property
    def is_active(self) -> bool:
        """Whether messages must go through the spool, here or in another process."""
        return self._putting > 0 or self._marker.exists()

    async def put(self, messages: Sequence[Message]) -> None:
        """Keep all of the messages or none; on return they are synced to the disk."""
        rows = [msgspec.msgpack.encode(message.to_fields()) for message in messages]
        self._putting += 1
        try:
            await self._in_thread(lambda: self._put(rows))
        finally:
            self._putting -= 1

    async def probe(self) -> None:
        """Raise `SpoolError` unless the file takes writes."""
        await self._in_thread(lambda: self._put([]))

    async def drain(self, append: Callable[[Sequence[Message]], Awaitable[object]]) -> int:
        """Append what is here, oldest first, until it is empty; return how many there were.

        Does nothing while another process drains. An error of `append` passes through; what was
        appended until then is gone from the file. A crash in between appends a batch twice: the
        workers drop the repeats by their IDs.
        """
        drained = 0
        with self._drain_lock() as is_ours:
            while is_ours:
                rows = await self._in_thread(self._oldest)
                if not rows:
                    await self._in_thread(self._leave_if_empty)
                    break
                await append([Message.from_fields(_fields.decode(row)) for _, row in rows])
                last = rows[-1][0]
                await self._in_thread(lambda last=last: self._delete(last))  # type: ignore[misc] # the lambda binds its value
                drained += len(rows)
        return drained

    async def count(self) -> int:
        """Return how many messages wait here."""
        return await self._in_thread(self._count)

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function)
        except (sqlite3.Error, OSError) as error:
            raise SpoolError(f"{self.path}: {error}") from None

    def _open(self) -> None:
        self._db = sqlite3.connect(
            self.path, timeout=BUSY, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS messages"
            " (position INTEGER PRIMARY KEY AUTOINCREMENT, fields BLOB NOT NULL)"
        )
        with self._writing():
            if self._count():
                self._marker.touch()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the file's one write lock; commit at the end."""
        db = self._db
        if db is None:
            raise OSError("it is not open")
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    def _put(self, rows: list[bytes]) -> None:
        with self._writing() as db:
            if rows and self._bytes(db) + sum(map(len, rows)) > self._limit:
                raise OSError(f"it is full: it may hold {self._limit} bytes")
            db.executemany("INSERT INTO messages (fields) VALUES (?)", [(row,) for row in rows])
            if rows:
                # Under the write lock: nobody can find the file empty and remove it in between.
                self._marker.touch()

    def _bytes(self, db: sqlite3.Connection) -> int:
        pages, free, size = (
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _oldest(self) -> list[tuple[int, bytes]]:
        with self._writing() as db:
            return db.execute(
                "SELECT position, fields FROM messages ORDER BY position LIMIT ?", (BATCH,)
            ).fetchall()

    def _delete(self, last: int) -> None:
        with self._writing() as db:
            db.execute("DELETE FROM messages WHERE position <= ?", (last,))

    def _leave_if_empty(self) -> None:
        with self._writing():
            if not self._count():
                self._marker.unlink(missing_ok=True)

    def _count(self) -> int:
        if self._db is None:
            return 0
        return int(self._db.execute("SELECT count(*) FROM messages").fetchone()[0])

    @contextmanager
    def _drain_lock(self) -> Iterator[bool]:
        """Try to become the one process that drains; the lock ends with the process."""
        file = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield True
                return
            yield False
        finally:
            os.close(file)
