"""Lets delayed messages go when they are due, to the second. Any worker may do it for all."""

from __future__ import annotations

from hookmill.stream import Group

BATCH = 200
"""Messages let go in one step."""

LONGEST_PAUSE = 1.0
SHORTEST_PAUSE = 0.02
"""Seconds between looks: others may delay a message meanwhile, and a look costs a command."""


class Delayed:
    """Moves due messages of one group to where they are taken again."""

    def __init__(self, group: Group) -> None:
        self._group = group

    async def turn(self) -> float:
        """Let go what is due; return the seconds until the next turn."""
        moved, next_due = await self._group.release(BATCH)
        if moved == BATCH:
            return 0.0
        if next_due is None:
            return LONGEST_PAUSE
        return min(LONGEST_PAUSE, max(SHORTEST_PAUSE, next_due))
