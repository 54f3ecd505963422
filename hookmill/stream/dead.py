"""A group's dead letters: read them, send them back, delete them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hookmill.entries import DeadLetter
from hookmill.message import RESET_BY_REPLAY
from hookmill.stream.connection import script, translated
from hookmill.stream.stream import Stream

_NOT_LISTED = ("headers", "body")

_PAGE_BYTES = 4 * 1024 * 1024
"""What one step may move in Redis: bodies may be large, and everybody else waits meanwhile."""


class DeadLetters:
    """A group's dead letters, oldest first."""

    def __init__(self, stream: Stream, group: str) -> None:
        self.keys = stream.keys.of_group(group)
        self._redis = stream.redis
        self._scripts = {name: script(self._redis, name) for name in ("survey", "replay", "drop")}

    async def count(self) -> int:
        """Return how many there are."""
        with translated():
            return int(await self._redis.xlen(self.keys.dead))

    async def read(self, after: str = "-", count: int = 100) -> list[DeadLetter]:
        """Return up to `count` dead letters that follow the one with the ID `after`."""
        start = after if after == "-" else f"({after}"
        with translated():
            rows: Any = await self._redis.xrange(self.keys.dead, start, "+", count=count)
        return [DeadLetter(entry_id.decode(), fields) for entry_id, fields in rows]

    async def newest(self) -> str | None:
        """Return the ID of the newest, or None: there are none."""
        with translated():
            rows: Any = await self._redis.xrevrange(self.keys.dead, count=1)
        return rows[0][0].decode() if rows else None

    async def survey(self, first: str, last: str, count: int) -> list[DeadLetter]:
        """Return up to `count` dead letters from `first` to `last`, without headers and bodies.

        A "(" before an ID leaves it out. Fewer come where they are large; none: no more are there.
        """
        args = [first, last, count, _PAGE_BYTES, *_NOT_LISTED]
        rows = await self._run("survey", [self.keys.dead], args)
        return [
            DeadLetter(entry_id.decode(), dict(zip(flat[::2], flat[1::2], strict=True)))
            for entry_id, flat in rows
        ]

    async def get(self, dead_id: str) -> DeadLetter | None:
        """Return one dead letter, or None."""
        with translated():
            rows: Any = await self._redis.xrange(self.keys.dead, dead_id, dead_id)
        return DeadLetter(rows[0][0].decode(), rows[0][1]) if rows else None

    async def replay(self, dead_ids: Sequence[str]) -> int:
        """Send dead letters back to be taken again; return how many were still there."""
        args = [len(RESET_BY_REPLAY), *RESET_BY_REPLAY, *dead_ids]
        return int(await self._run("replay", [self.keys.dead, self.keys.again], args))

    async def drop(self, dead_ids: Sequence[str]) -> int:
        """Delete dead letters for good; return how many were still there.

        Their message IDs are released: a sender that delivers one again is heard.
        """
        return int(await self._run("drop", [self.keys.dead, self.keys.owners], dead_ids))

    async def _run(self, script: str, keys: list[str], args: Sequence[Any]) -> Any:
        with translated():
            return await self._scripts[script](keys=keys, args=args)
