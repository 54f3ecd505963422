"""Keeps Redis small: trims what every group has finished, and removes consumers that are gone.

It also counts the unfinished messages again; receivers refuse deliveries when there are too many.
Dead letters beyond a bound are dropped, where one is set, and are counted again by reason where the
counts are wrong. Workers that heed no pause are named.
One worker does it for all of its group: the first one claims the task.
"""

from __future__ import annotations

import random

from hookmill.stream.dead_reasons import DeadReasons
from hookmill.stream.upkeep import Upkeep
from worker.dead_letter_bounds import DeadLetterBounds
from worker.heedless import HeedlessWorkers

PERIOD = 5.0
"""Seconds between two runs for one group."""

CONSUMER_IDLE = 3600.0
"""Seconds after which a consumer that holds nothing is removed."""


class Janitor:
    """The upkeep of the stream and of one group. `retention` is in seconds."""

    def __init__(
        self,
        upkeep: Upkeep,
        retention: float,
        dead_letters: DeadLetterBounds | None = None,
        heedless: HeedlessWorkers | None = None,
        dead_reasons: DeadReasons | None = None,
    ) -> None:
        self._upkeep = upkeep
        self._retention = retention
        self._dead_letters = dead_letters
        self._heedless = heedless
        self._dead_reasons = dead_reasons

    async def run_once(self) -> float:
        """Do the upkeep if no other worker does it; return the seconds until the next call.

        The worker that has claimed the upkeep goes on with it. The others look from time to time
        whether the claim has ended.
        """
        if wait := await self._upkeep.claim(PERIOD):
            return wait + PERIOD * random.uniform(1.0, 2.0)  # noqa: S311 - it spreads load
        await self._upkeep.trim(self._retention)
        await self._upkeep.measure_backlog()
        await self._upkeep.retire(CONSUMER_IDLE)
        if self._dead_letters is not None:
            await self._dead_letters.enforce()
        if self._heedless is not None:
            await self._heedless.look()
        if self._dead_reasons is not None:
            await self._dead_reasons.mend()
        return PERIOD
