"""Lets delayed messages go when they are due, to the second. Any worker may do it for all.

All of them sleep until what is due first, and hear of it when something is delayed that comes
before: so nothing depends on who delayed it, and where nothing waits they hardly ask.
"""

from __future__ import annotations

from hookmill.stream.consumer import Consumer

BATCH = 200
"""Messages let go in one step."""

LONGEST_PAUSE = 30.0
"""Seconds between looks, should nobody have been told."""

SHORTEST_PAUSE = 0.02
"""Seconds between looks at least: each costs some commands."""


class Delayed:
    """Moves due messages of one group to where they are taken again."""

    def __init__(self, group: Consumer) -> None:
        self._group = group

    async def turn(self) -> float:
        """Let go what is due, and wait until more may be; return the pause until the next turn."""
        moved, next_due = await self._group.release(BATCH)
        if moved == BATCH:
            return 0.0
        pause = LONGEST_PAUSE if next_due is None else min(LONGEST_PAUSE, next_due)
        if pause > SHORTEST_PAUSE:
            await self._group.wait_for_sooner(pause - SHORTEST_PAUSE)
        return SHORTEST_PAUSE
