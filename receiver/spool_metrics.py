"""What the metrics say of the spool: how many messages it holds, their bytes, and the oldest.

It is read through a connection of its own, which only reads: a count of many rows must not hold up
those who write.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hookmill.instrumentation.histograms import gauge
from hookmill.message import about_of
from hookmill.stream.arrival import Row

PERIOD = 5.0
"""Seconds for which what was read is shown."""

BUSY_TIMEOUT = 1.0
"""Seconds to wait for a lock of the file."""


class SpoolContent(NamedTuple):
    """What the spool holds: messages, bytes, and when the oldest was received (Unix seconds)."""

    messages: int
    bytes: int
    oldest: float | None


class SpoolMetrics:
    """A collector of gauges. `limit` is the most bytes that the file may have."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._read_at = -PERIOD
        self._spooled: SpoolContent | None = None

    async def refresh(self) -> None:
        """Read the file, unless that was done just now."""
        if time.monotonic() - self._read_at >= PERIOD:
            self._read_at = time.monotonic()
            self._spooled = await asyncio.to_thread(look_into, self._path)

    def collect(self) -> Iterator[Any]:
        """Yield the gauges. What cannot be read is not shown."""
        messages, size, oldest = self._spooled or (None, None, None)
        yield gauge(
            "hookmill_spool_messages",
            "Messages in the spool, which Redis has not taken yet.",
            messages,
        )
        yield gauge("hookmill_spool_bytes", "Bytes in use in the spool.", size)
        yield gauge(
            "hookmill_spool_limit_bytes", "The most bytes that the spool may have.", self._limit
        )
        yield gauge(
            "hookmill_spool_oldest_timestamp_seconds",
            "When the oldest message in the spool was received. Absent: there is none.",
            oldest,
        )


def look_into(path: Path) -> SpoolContent | None:
    """Return what a spool file holds; None if that cannot be read now."""
    try:
        opened = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", BUSY_TIMEOUT, uri=True)
        with closing(opened) as db:
            count, first = db.execute("SELECT count(*), min(position) FROM messages").fetchone()
            oldest = db.execute("SELECT row FROM messages WHERE position = ?", (first,)).fetchone()
            pages, free, size = (
                db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
    except (sqlite3.Error, OSError):
        return None
    return SpoolContent(count, (pages - free) * size, _received_at(oldest[0]) if oldest else None)


def _received_at(encoded: bytes) -> float | None:
    try:
        return about_of(msgspec.msgpack.decode(encoded, type=Row).fields).received_ms / 1000
    except msgspec.DecodeError:
        return None
