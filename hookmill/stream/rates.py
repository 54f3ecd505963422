"""The history of rates: counts of each minute of the last hours, and of each ten minutes of a day.

Programs add what they have counted once a period. The hashes lie in partition 0, and expire.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hookmill.stream.client import Client, checked
from hookmill.stream.heartbeats import PLACE
from hookmill.stream.script_runner import Call, ScriptRunner

PERIOD = 10.0
"""Seconds between two additions of a program."""


class Span(NamedTuple):
    """How a span of time is kept: by which name, in steps of how many seconds, and how many."""

    name: str
    step: int
    kept: int


HOUR = Span("minute", 60, 120)
DAY = Span("ten", 600, 150)


class RateHistory:
    """Adds counts, and reads them. Methods raise `StreamUnavailableError`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._key = client.partitions[PLACE].rates
        self._scripts = ScriptRunner(client, drains=False)

    async def add(self, counts: Iterable[tuple[str, int]]) -> None:
        """Add counts to the time that it is now, by Redis' clock."""
        spans = [word for span in (HOUR, DAY) for word in (span.name, span.step, span.kept)]
        words = [word for pair in counts for word in pair]
        await self._scripts.run("rates", Call(PLACE, [self._key], [*spans, *words]))

    async def now(self) -> int:
        """Return Redis' time, in Unix seconds."""
        seconds, _ = await self._client.execute(PLACE, "TIME")
        return int(seconds)

    async def read(self, span: Span, numbers: Sequence[int]) -> list[list[tuple[bytes, bytes]]]:
        """Return the counts of these steps: step N begins at N times its seconds."""
        asked = [("HGETALL", f"{self._key}:{span.name}:{number}") for number in numbers]
        replies = [checked(reply) for reply in await self._client.ask(PLACE, *asked)]
        return [_pairs(reply) for reply in replies]


def _pairs(flat: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    words = iter(flat)
    return list(zip(words, words, strict=True))
