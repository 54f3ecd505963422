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

MOST_AT_ONCE = 200
"""Entries of a partition that are read in one step."""

_PAGE_BYTES = 1024 * 1024
"""Bytes that Redis reads in one step: other commands wait meanwhile."""

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
        calls = [Call(number, [keys.stream]) for number, keys in enumerate(self._client.partitions)]
        return [reply.decode() for reply in await self._scripts.run_each("newest", calls)]

    async def read(self, positions: Sequence[str], *, whole: bool) -> list[ArrivedPage]:
        """Return what came behind these positions, a page for each partition. Unless `whole`,
        headers and bodies stay in Redis.
        """
        left_out = () if whole else NOT_LISTED
        calls = [
            Call(number, [keys.stream], [f"({at}", "+", MOST_AT_ONCE, _PAGE_BYTES, *left_out])
            for number, (keys, at) in enumerate(
                zip(self._client.partitions, positions, strict=True)
            )
        ]
        pages = []
        for number, reply in enumerate(await self._scripts.run_each("tail", calls)):
            (rows, has_ended), added = reply
            entries = [
                Arrived(number, entry_id.decode(), dict(zip(flat[::2], flat[1::2], strict=True)))
                for entry_id, flat in rows
            ]
            pages.append(ArrivedPage(entries, bool(has_ended), added if added >= 0 else None))
        return pages


def before(unix_ms: int) -> str:
    """Return the position before all that came at a time (Unix milliseconds) or later."""
    return f"{unix_ms - 1}-{_LAST_OF_A_MILLISECOND}" if unix_ms > 0 else "0-0"
