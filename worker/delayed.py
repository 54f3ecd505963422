"""Moves delayed messages to the again stream when they are due. Any worker does it for all.

Every worker waits until the first message is due. Redis wakes them all when a message is delayed
that is due earlier. So a retry does not depend on the worker that delayed it, and where nothing is
delayed Redis is hardly asked.
"""

from __future__ import annotations

from hookmill.stream.consumer import Consumer

BATCH = 200
"""The most messages moved in one step, for each partition."""

LONGEST_PAUSE = 30.0
"""Seconds after which Redis is asked again although no wake-up came: one may be lost."""

SHORTEST_PAUSE = 0.02
"""The least seconds between two steps, because each costs some commands."""


class Delayed:
    """Moves the due messages of one consumer group to its again stream."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def run_once(self) -> float:
        """Move what is due, wait until more may be due; return the seconds until the next call."""
        moved, next_due = await self._consumer.release(BATCH)
        if moved == BATCH:
            return 0.0
        pause = LONGEST_PAUSE if next_due is None else min(LONGEST_PAUSE, next_due)
        if pause > SHORTEST_PAUSE:
            await self._consumer.wait_for_sooner(pause - SHORTEST_PAUSE)
        return SHORTEST_PAUSE
