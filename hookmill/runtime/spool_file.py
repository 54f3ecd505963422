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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from hookmill.errors import StreamUnavailableError
from hookmill.runtime.spool_marker import SpoolMarker
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

_MOST_PASSED = 64 * 1024 * 1024
"""Bytes of rows that one read passes over, at most, so that a put need not wait long for it."""


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
    """The oldest rows, in order, with their positions.

    `last` is the position up to which all rows were looked at, `size` the bytes of the rows.
    `has_more` says whether further rows follow.
    """

    rows: list[Row]
    positions: list[int]
    last: int
    size: int
    has_more: bool
    unreadable: list[Unreadable]


LAST = 2**63 - 1
"""A position behind all others."""

IsWanted = Callable[[int, Row], bool]
"""Whether the row at a position belongs to the batch that is read."""


class SpoolFile:
    """One spool file, opened by one process. `limit` is in bytes."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.marker = SpoolMarker(path.with_name(f"{path.name}.active"))
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

    def put(self, encoded: Sequence[bytes], partitions: Iterable[int]) -> None:
        """Store all rows or none, and have everything of their partitions follow them here."""
        with self.writing():
            self._insert(encoded)
            # Still under the write lock, so that no drain changes the marker in between.
            self.marker.add(partitions)

    def put_behind(self, encoded: Sequence[bytes], partitions: Sequence[int]) -> list[bool]:
        """Store the rows whose partitions still go through the spool, each with its partition at
        the same place. Return for each row whether it was stored.
        """
        with self.writing():
            spooled = self.marker.read()
            stored = [partition in spooled for partition in partitions]
            self._insert([row for row, is_stored in zip(encoded, stored, strict=True) if is_stored])
        return stored

    def _insert(self, encoded: Sequence[bytes]) -> None:
        if encoded and self._bytes() + sum(map(len, encoded)) > self._limit:
            raise OSError(f"it is full: it may hold {self._limit} bytes")
        insert = "INSERT INTO messages (row) VALUES (?)"
        self.db.executemany(insert, [(row,) for row in encoded])

    def probe(self) -> None:
        """Raise unless a message could be put now. It writes, to be sure."""
        with self.writing() as db:
            if self._bytes() >= self._limit:
                raise OSError(f"it is full: it may hold {self._limit} bytes")
            db.execute(
                "INSERT INTO probes VALUES (1, 1) ON CONFLICT (one) DO UPDATE SET count = count + 1"
            )

    def oldest(
        self, span: tuple[int, int], most_messages: int, most_bytes: int, is_wanted: IsWanted
    ) -> Batch:
        """Read the oldest wanted rows behind a position and up to another one; a row that is larger
        comes alone.
        """
        after, through = span
        batch = Batch([], [], after, 0, has_more=False, unreadable=[])
        size = passed = 0
        query = (
            "SELECT position, row FROM messages WHERE position > ? AND position <= ?"
            " ORDER BY position"
        )
        with closing(self.db.execute(query, (after, through))) as found:
            for position, encoded in found:
                try:
                    row = _row.decode(encoded)
                except msgspec.DecodeError as error:
                    batch.unreadable.append(Unreadable(position, str(error)))
                    if len(batch.unreadable) == most_messages:
                        return batch._replace(has_more=True)
                    continue
                if is_wanted(position, row):
                    is_full = len(batch.rows) == most_messages or size + len(encoded) > most_bytes
                    if batch.rows and is_full:
                        return batch._replace(has_more=True)
                    batch.rows.append(row)
                    batch.positions.append(position)
                    size += len(encoded)
                elif (passed := passed + len(encoded)) > _MOST_PASSED:
                    return batch._replace(has_more=True)
                batch = batch._replace(last=position, size=size)
        return batch

    def delete(self, positions: Sequence[int]) -> None:
        """Delete the rows at these positions, within the transaction that is open."""
        query = "DELETE FROM messages WHERE position = ?"
        self.db.executemany(query, [(position,) for position in positions])

    def delete_unsynced(self, positions: Sequence[int]) -> None:
        """Delete the rows at these positions. A crash of the machine may bring them back."""
        self.db.execute("PRAGMA synchronous = NORMAL")
        try:
            with self.writing():
                self.delete(positions)
        finally:
            self.db.execute("PRAGMA synchronous = FULL")

    def count(self) -> int:
        """Return how many messages are here."""
        return int(self.db.execute("SELECT count(*) FROM messages").fetchone()[0])

    def positions(self, is_wanted: IsWanted) -> list[int]:
        """Return the positions of the rows that are wanted, among those that can be read."""
        wanted = []
        for position, encoded in self.db.execute("SELECT position, row FROM messages"):
            with suppress(msgspec.DecodeError):
                if is_wanted(position, _row.decode(encoded)):
                    wanted.append(position)
        return wanted

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
            if done and not self.is_active:  # it may be another user's file
                self.marker.add_all()
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
