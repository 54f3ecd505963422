"""Moves delayed messages to the again stream when they are due, and ends pauses that have a time.
One worker does it for its group.

The others sleep a little longer, and look whether it does (hookmill/stream/releases.py). So a retry
begins within a second of its time, also where the releaser has died or stands still. Where nothing
is delayed, Redis is hardly asked.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from hookmill.stream.consumer import Consumer
from hookmill.stream.releases import Look

BATCH = 200
"""The most messages moved in one step, for each partition."""

LONGEST_PAUSE = 30.0
"""Seconds after which a worker looks although nothing is due, and after which the releaser looks at
every partition: workers of release 0.1 do not say what they delay.
"""

SHORTEST_PAUSE = 0.02
"""The least seconds between two steps of the releaser, because each costs some commands."""

WATCH_PAUSE = 0.2
"""The least seconds between two looks of the other workers, because there may be many."""

GRACE = (0.2, 0.4)
"""The seconds, from and to, that the releaser is given to move what is due: a random time between,
so that the others do not all look at once.
"""


class Delayed:
    """Moves the due messages of one consumer group to its again stream.

    `clock` returns monotonic seconds.
    """

    def __init__(self, consumer: Consumer, clock: Callable[[], float] = time.monotonic) -> None:
        self._consumer = consumer
        self._clock = clock
        self._look_at_all_at = clock()
        """When the releaser has to look at every partition."""
        self._number = -1
        """The releaser's number, as it was seen last."""
        self._must_move_by = 0.0
        """When that number must have moved."""

    async def run_once(self) -> float:
        """Move what is due, wait until more may be due; return the seconds until the next call."""
        seen = await self._consumer.look_at_delayed()
        # A releaser that ends no pauses is of an older release.
        if not seen.is_releaser and (self._stands_still(seen) or seen.pauses_due):
            seen = await self._consumer.look_at_delayed(instead_of=seen.number)
        await self._consumer.heed_pauses(seen.pauses_version)
        if seen.is_releaser:
            return await self._release(seen)
        if await self._consumer.wait_for_sooner(self._must_move_by - self._clock()):
            return WATCH_PAUSE
        return 0.0

    async def _release(self, seen: Look) -> float:
        self._number = -1
        if (now := self._clock()) >= self._look_at_all_at:
            self._look_at_all_at = now + LONGEST_PAUSE
            moved, _ = await self._consumer.release(BATCH)
            if self._consumer.pauses.is_any:  # when they are due may be lost
                await self._consumer.end_due_pauses(range(len(self._consumer.partitions)))
        elif seen.due or seen.pauses_due:
            moved, _ = await self._consumer.release(BATCH, seen.due) if seen.due else (0, None)
            if seen.pauses_due:
                await self._consumer.end_due_pauses(seen.pauses_due)
        else:
            pause = min(_pause_of(seen), self._look_at_all_at - now)
            if pause > SHORTEST_PAUSE:
                await self._consumer.wait_for_sooner(pause - SHORTEST_PAUSE)
            return SHORTEST_PAUSE
        return 0.0 if moved == BATCH else SHORTEST_PAUSE

    def _stands_still(self, seen: Look) -> bool:
        """Return whether the releaser has not done what it should have done by now."""
        now = self._clock()
        grace = random.uniform(*GRACE)  # noqa: S311 - it spreads load
        must_move_by = now + _pause_of(seen) + grace
        if seen.number != self._number:
            self._number, self._must_move_by = seen.number, must_move_by
        elif now >= self._must_move_by:
            self._number = -1  # whoever took the task over meanwhile is given its time
            return True
        self._must_move_by = min(self._must_move_by, must_move_by)
        return False


def _pause_of(seen: Look) -> float:
    """Return for how many seconds the releaser may sleep."""
    return LONGEST_PAUSE if seen.next_due is None else min(LONGEST_PAUSE, seen.next_due)
