"""Keeps Redis small: drops what every group has finished, and removes consumers that are gone.

It also counts the unfinished anew, by which the receivers' appends refuse when there are too many.
One worker's turn is enough for all: who comes first claims it.
"""

from __future__ import annotations

import random

from hookmill.stream.upkeep import Upkeep

PERIOD = 5.0
"""Seconds between a group's turns."""

CONSUMER_IDLE = 3600.0
"""Seconds after which a consumer that holds nothing is taken for gone."""


class Janitor:
    """Upkeep of the stream and one group. `retention` is in seconds."""

    def __init__(self, upkeep: Upkeep, retention: float) -> None:
        self._upkeep = upkeep
        self._retention = retention

    async def turn(self) -> float:
        """Tidy up where nobody else just has; return the seconds until the next turn.

        Who does it goes on doing it; the others look now and then whether it still does.
        """
        if wait := await self._upkeep.claim(PERIOD):
            return wait + PERIOD * random.uniform(1.0, 2.0)  # noqa: S311 - it spreads load
        await self._upkeep.trim(self._retention)
        await self._upkeep.measure_backlog()
        await self._upkeep.retire(CONSUMER_IDLE)
        return PERIOD
