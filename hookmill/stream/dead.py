"""A group's dead letters: read them, send them back, delete them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hookmill.entries import DeadLetter
from hookmill.message import RESET_BY_REPLAY
from hookmill.stream.connection import script, translated
from hookmill.stream.stream import Stream


class DeadLetters:
    """A group's dead letters, oldest first."""

    def __init__(self, stream: Stream, group: str) -> None:
        self.keys = stream.keys.of_group(group)
        self._redis = stream.redis
        self._replay = script(self._redis, "replay")

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

    async def get(self, dead_id: str) -> DeadLetter | None:
        """Return one dead letter, or None."""
        with translated():
            rows: Any = await self._redis.xrange(self.keys.dead, dead_id, dead_id)
        return DeadLetter(rows[0][0].decode(), rows[0][1]) if rows else None

    async def replay(self, dead_ids: Sequence[str]) -> int:
        """Send dead letters back to be taken again; return how many were still there."""
        with translated():
            return int(
                await self._replay(
                    keys=[self.keys.dead, self.keys.again],
                    args=[len(RESET_BY_REPLAY), *RESET_BY_REPLAY, *dead_ids],
                )
            )

    async def drop(self, dead_ids: Sequence[str]) -> int:
        """Delete dead letters for good; return how many were still there."""
        with translated():
            return int(await self._redis.xdel(self.keys.dead, *dead_ids))
