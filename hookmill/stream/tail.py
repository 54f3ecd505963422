"""Reads what comes into the stream, from a position that the reader keeps.

It changes nothing: groups, their lag and what they hold stay as they are. It is asked again and
again, because a reader that waits in Redis would cost every append some time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hookmill.message import Fields
from hookmill.stream.client import Client
from hookmill.stream.entries import NOT_LISTED
from hookmill.stream.script_runner import Call, ScriptRunner
from hookmill.stream.view import look_around, seen

MOST_AT_ONCE = 200
"""Entries of a partition that are read in one step."""

_PAGE_BYTES = 1024 * 1024
"""Bytes that Redis reads in one step: other commands wait meanwhile."""

LOOK_AGAIN = 10.0
"""Seconds after which it is found out again which nodes of a cluster can be asked."""

_LAST_OF_A_MILLISECOND = 2**64 - 1


class Arrived(NamedTuple):
    """An entry that a receiver has appended."""

    partition: int
    id: str
    fields: Fields

    @property
    def order(self) -> tuple[int, int, int]:
        """By what entries of several partitions are sorted."""
        ms, _, number = self.id.partition("-")
        return int(ms), int(number), self.partition


class ArrivedPage(NamedTuple):
    """What came into a partition behind a position. `is_end`: there is no more now. `added` is how
    many entries were ever added, None if that is not known.
    """

    entries: list[Arrived]
    is_end: bool
    added: int | None


class StreamTail:
    """Reads the partitions of a stream. Methods raise `StreamUnavailableError`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._scripts = ScriptRunner(client, drains=False)

    async def newest(self) -> list[str]:
        """Return the position in each partition behind all that is there now."""
        asked = seen(self._client)
        calls = [Call(number, [keys.stream]) for number, keys in asked]
        replies = await self._scripts.run_each("newest", calls)
        found = {number: reply.decode() for (number, _), reply in zip(asked, replies, strict=True)}
        # What comes meanwhile in a partition that cannot be asked is shown when it can.
        now = max((at.partition("-")[0] for at in found.values()), key=int, default="0")
        return [
            found.get(number) or before(int(now)) for number in range(len(self._client.partitions))
        ]

    async def read(self, positions: Sequence[str], *, whole: bool) -> list[ArrivedPage]:
        """Return what came behind these positions, a page for each partition: an empty one for one
        that cannot be asked. Unless `whole`, headers and bodies stay in Redis.
        """
        await look_around(self._client, LOOK_AGAIN)
        left_out = () if whole else NOT_LISTED
        asked = seen(self._client)
        calls = [
            Call(
                number,
                [keys.stream],
                [f"({positions[number]}", "+", MOST_AT_ONCE, _PAGE_BYTES, *left_out],
            )
            for number, keys in asked
        ]
        replies = await self._scripts.run_each("tail", calls)
        pages = [ArrivedPage([], is_end=True, added=None) for _ in self._client.partitions]
        for (number, _), reply in zip(asked, replies, strict=True):
            (rows, has_ended), added = reply
            entries = [
                Arrived(number, entry_id.decode(), dict(zip(flat[::2], flat[1::2], strict=True)))
                for entry_id, flat in rows
            ]
            pages[number] = ArrivedPage(entries, bool(has_ended), added if added >= 0 else None)
        return pages


def before(unix_ms: int) -> str:
    """Return the position before all that came at a time (Unix milliseconds) or later."""
    return f"{unix_ms - 1}-{_LAST_OF_A_MILLISECOND}" if unix_ms > 0 else "0-0"
