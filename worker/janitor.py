"""Keeps Redis small: drops what every group has finished, and removes consumers that are gone.

It also counts the unfinished anew, by which the receivers' appends refuse when there are too many.
"""

from __future__ import annotations

import random

from hookmill.stream import Group, Stream

PERIOD = 10.0
"""Seconds between turns."""

CONSUMER_IDLE = 3600.0
"""Seconds after which a consumer that holds nothing is taken for gone."""


class Janitor:
    """Upkeep of the stream and one group. `retention` is in seconds."""

    def __init__(self, stream: Stream, group: Group, retention: float) -> None:
        self._stream = stream
        self._group = group
        self._retention = retention

    async def turn(self) -> float:
        """Tidy up; return the seconds until the next turn, jittered so that workers spread."""
        await self._stream.trim(self._retention)
        await self._stream.measure_backlog()
        await self._group.retire(CONSUMER_IDLE)
        return PERIOD * random.uniform(0.5, 1.0)  # noqa: S311 - it spreads load
