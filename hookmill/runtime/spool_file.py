"""The format of the spool's file: its SQLite tables, and each statement that reads or writes them.

Receivers put messages into the file and drain it, and `hookmill spool` looks at what was set aside.
All of them may have it open at the same time. Nothing here knows Redis. Every method may raise
`sqlite3.Error` or `OSError`; the methods block, so a program with an event loop needs a thread.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from hookmill.errors import StreamUnavailableError
from hookmill.stream.arrival import Row

BUSY_TIMEOUT = 5.0
"""Seconds to wait while another process writes to the file."""

_BUSY_PAUSE = 0.002
"""Seconds between two attempts to write. SQLite's own pauses grow to 0.1 seconds, so that a process
could wait for ever beside a busy one.
"""

_TABLES = (
    "messages (position INTEGER PRIMARY KEY AUTOINCREMENT, row BLOB NOT NULL)",
    "probes (one INTEGER PRIMARY KEY, count INTEGER)",
    # Rows that cannot be read. `position` is the one that the row had in `messages`.
    "set_aside (position INTEGER PRIMARY KEY, row BLOB, reason TEXT, since_ms INTEGER)",
)

_row = msgspec.msgpack.Decoder(Row)


class SpoolError(StreamUnavailableError):
    """The spool cannot take a message: it is full, or its file cannot be written."""

    code = "spool"


class Unreadable(NamedTuple):
    """The position of a row that cannot be read, and why."""

    position: int
    reason: str


class SetAside(NamedTuple):
    """A row that was set aside. `since_ms` is in Unix milliseconds, `size` in bytes."""

    position: int
    since_ms: int
    size: int
    reason: str


class Batch(NamedTuple):
    """The oldest rows, in order.

    `last` is the position of the last one, `size` the bytes of all. `has_more` says whether
    further rows follow.
    """

    rows: list[Row]
    last: int
    size: int
    has_more: bool
    unreadable: list[Unreadable]


class SpoolFile:
    """One spool file, opened by one process. `limit` is in bytes."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.marker = path.with_name(f"{path.name}.active")
        self._limit = limit
        self._opened: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether the file is open here."""
        return self._opened is not None

    @property
    def db(self) -> sqlite3.Connection:
        """The connection. Raises `OSError` if the file is not open."""
        if self._opened is None:
            raise OSError("the spool is not open")
        return self._opened

    def open(self) -> None:
        """Open or create the file."""
        # Only the owner may read bodies. SQLite gives its other files the same permissions.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        self._opened = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False
        )
        self._execute_when_free("PRAGMA journal_mode = WAL")
        # Without this macOS leaves writes in the cache of the disk.
        self.db.execute("PRAGMA fullfsync = ON")
        self.db.execute("PRAGMA synchronous = FULL")
        # Some builds of SQLite overwrite what is deleted. A delete would then need as much room on
        # the disk as the deleted messages have.
        self.db.execute("PRAGMA secure_delete = FAST").fetchall()
        with self.writing():
            for table in _TABLES:
                self.db.execute(f"CREATE TABLE IF NOT EXISTS {table}")

    def close(self) -> None:
        """Close the file. Its messages stay in it. A second call does nothing."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    # --- transactions ---

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the file's write lock, and commit at the end."""
        self.begin()
        try:
            yield self.db
            self.commit()
        except BaseException:
            self.rollback()
            raise

    def begin(self) -> None:
        """Take the write lock. This writes nothing, so it works on a full disk too."""
        self._execute_when_free("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Write what was changed since `begin`, and release the write lock."""
        self.db.execute("COMMIT")

    def rollback(self) -> None:
        """Forget what was changed since `begin`, and release the write lock."""
        if self.db.in_transaction:  # on a full disk SQLite has already rolled back
            self.db.execute("ROLLBACK")

    def _execute_when_free(self, statement: str) -> None:
        deadline = time.monotonic() + BUSY_TIMEOUT
        while True:
            try:
                self.db.execute(statement)
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() > deadline:
                    raise
                time.sleep(_BUSY_PAUSE)
            else:
                return

    # --- what receivers do ---

    @property
    def is_active(self) -> bool:
        """Whether messages must go through the spool, here or in another process."""
        return self.marker.exists()

    def make_active(self) -> None:
        """Make the marker if there is none. The caller holds the write lock."""
        if not self.is_active:  # it may be another user's, who ran `hookmill spool retry`
            self.marker.touch()

    def put(self, encoded: list[tuple[bytes]], *, only_behind: bool = False) -> bool:
        """Store all rows or none, and make the spool active.

        With `only_behind`, return False and store nothing if the spool is not active.
        """
        with self.writing() as db:
            if only_behind and not self.is_active:
                return False
            if self._bytes() + sum(len(row) for (row,) in encoded) > self._limit:
                raise OSError(f"it is full: it may hold {self._limit} bytes")
            db.executemany("INSERT INTO messages (row) VALUES (?)", encoded)
            # Still under the write lock, so that no drain deletes the marker in between.
            self.make_active()
        return True

    def probe(self) -> None:
        """Raise unless a message could be put now. It writes, to be sure."""
        with self.writing() as db:
            if self._bytes() >= self._limit:
                raise OSError(f"it is full: it may hold {self._limit} bytes")
            db.execute(
                "INSERT INTO probes VALUES (1, 1) ON CONFLICT (one) DO UPDATE SET count = count + 1"
            )

    def oldest(self, after: int, most_messages: int, most_bytes: int) -> Batch:
        """Read the oldest rows behind the position `after`; a larger row comes alone."""
        batch = Batch([], 0, 0, has_more=False, unreadable=[])
        size = 0
        query = "SELECT position, row FROM messages WHERE position > ? ORDER BY position"
        with closing(self.db.execute(query, (after,))) as found:
            for position, encoded in found:
                rows = batch.rows
                if rows and (len(rows) == most_messages or size + len(encoded) > most_bytes):
                    return batch._replace(has_more=True)
                try:
                    rows.append(_row.decode(encoded))
                except msgspec.DecodeError as error:
                    batch.unreadable.append(Unreadable(position, str(error)))
                    if len(batch.unreadable) == most_messages:
                        return batch._replace(has_more=True)
                    continue
                size += len(encoded)
                batch = batch._replace(last=position, size=size)
        return batch

    def delete_through(self, last: int) -> None:
        """Delete the rows up to this position, within the transaction that is open."""
        self.db.execute("DELETE FROM messages WHERE position <= ?", (last,))

    def delete_unsynced(self, last: int) -> None:
        """Delete the rows up to this position. A crash of the machine may bring them back."""
        self.db.execute("PRAGMA synchronous = NORMAL")
        try:
            with self.writing():
                self.delete_through(last)
        finally:
            self.db.execute("PRAGMA synchronous = FULL")

    def count(self, after: int = 0) -> int:
        """Return how many messages are behind the position `after`."""
        query = "SELECT count(*) FROM messages WHERE position > ?"
        return int(self.db.execute(query, (after,)).fetchone()[0])

    def has_through(self, last: int) -> bool:
        """Return whether there is a message up to the position `last`."""
        query = "SELECT EXISTS (SELECT 1 FROM messages WHERE position <= ?)"
        return bool(self.db.execute(query, (last,)).fetchone()[0])

    def digest_of(self, position: int) -> bytes:
        """Return the digest of the row at a position; b"" if there is none."""
        query = "SELECT row FROM messages WHERE position = ?"
        found = self.db.execute(query, (position,)).fetchone()
        return hashlib.blake2b(found[0], digest_size=16).digest() if found else b""

    def free_the_log(self) -> None:
        """Move what was committed from SQLite's log into the file, and empty the log.

        It does as much as is possible now: another process may read, or the disk may be full.
        """
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _bytes(self) -> int:
        pages, free, size = (
            self.db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    # --- rows that cannot be read ---

    def set_aside(self, unreadable: Iterable[Unreadable]) -> None:
        """Move rows to the table `set_aside`, each with its reason. They count to the limit."""
        with self.writing() as db:
            for position, reason in unreadable:
                db.execute(
                    "INSERT INTO set_aside SELECT position, row, ?, ? FROM messages"
                    " WHERE position = ?",
                    (reason, int(time.time() * 1000), position),
                )
                db.execute("DELETE FROM messages WHERE position = ?", (position,))

    def all_set_aside(self) -> list[SetAside]:
        """Return what was set aside, the oldest first, without the rows themselves."""
        query = "SELECT position, since_ms, length(row), reason FROM set_aside ORDER BY position"
        return [SetAside(*found) for found in self.db.execute(query)]

    def row_set_aside(self, position: int) -> bytes | None:
        """Return the bytes of a row that was set aside; None if there is none at this position."""
        query = "SELECT row FROM set_aside WHERE position = ?"
        found = self.db.execute(query, (position,)).fetchone()
        return bytes(found[0]) if found else None

    def retry(self, positions: Sequence[int]) -> int:
        """Put rows that were set aside behind all others. Return how many there were."""
        with self.writing() as db:
            for position in positions:
                db.execute(
                    "INSERT INTO messages (row) SELECT row FROM set_aside WHERE position = ?",
                    (position,),
                )
            done = self._delete_set_aside(positions)
            if done:
                self.make_active()
        return done

    def drop(self, positions: Sequence[int]) -> int:
        """Delete rows that were set aside for good. Return how many there were."""
        with self.writing():
            return self._delete_set_aside(positions)

    def _delete_set_aside(self, positions: Sequence[int]) -> int:
        query = "DELETE FROM set_aside WHERE position = ?"
        return sum(self.db.execute(query, (position,)).rowcount for position in positions)


def is_out_of_room(error: sqlite3.Error) -> bool:
    """Whether the disk had no room for a write."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
