"""Takes over what a dead or silent worker held, once its lease is over.

Idle time counts the time Redis itself was away, so nothing is taken over until this worker has
been in touch with Redis, and Redis has been up, for one whole lease: the living renew first.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import structlog

from hookmill.entries import AGAIN, STREAM, Entry, Repeat, Taken
from hookmill.errors import StreamUnavailableError
from hookmill.stream import Group

log = structlog.get_logger("worker")


class Takeover:
    """Keeps the place in the sweep. `lease` is in seconds; `clock` is monotonic."""

    def __init__(
        self, group: Group, lease: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._group = group
        self._lease = lease
        self._clock = clock
        self._cursors = {STREAM: "0-0", AGAIN: "0-0"}
        self._redis_is_settled = False
        self._next = 0.0
        self._last_contact = clock()
        self.lost_contact()

    def lost_contact(self) -> None:
        """Note that Redis did not answer: the wait for one whole lease begins anew."""
        self._redis_is_settled = False
        self._next = self._clock() + self._lease

    async def keep_in_touch(self) -> float:
        """Ask Redis for a sign of life; return the seconds until the next turn.

        A pool whose hands are full does not talk to Redis, and a frozen Redis answers late but
        without an error: either way the other workers have not renewed meanwhile.
        """
        try:
            uptime = await self._group.redis_uptime()
        except StreamUnavailableError:
            self.lost_contact()
            raise
        now = self._clock()
        if now - self._last_contact > self._lease / 2:
            self.lost_contact()
        if uptime < self._lease:
            self._redis_is_settled = False
        self._last_contact = now
        return self._lease / 8

    def wait(self) -> float:
        """Return the seconds until a sweep is due, 0 if it is."""
        return max(0.0, self._next - self._clock())

    async def sweep(self, free: int) -> Taken:
        """Take over up to `free` entries, going on where the last sweep stopped."""
        if not self._redis_is_settled:
            uptime = await self._group.redis_uptime()
            if uptime < self._lease:
                self._next = self._clock() + self._lease - uptime
                return Taken([], [])
            self._redis_is_settled = True
        entries: list[Entry] = []
        repeats: list[Repeat] = []
        for key_number in (AGAIN, STREAM):
            if free > len(entries):
                taken, self._cursors[key_number] = await self._group.take_over(
                    key_number, self._cursors[key_number], free - len(entries), self._lease
                )
                entries += taken.entries
                repeats += taken.repeats
        self._schedule_next()
        if entries:
            log.warning("took over from a silent worker", messages=len(entries))
        return Taken(entries, repeats)

    def _schedule_next(self) -> None:
        """Go on at once in the middle of a sweep, else pause; jittered, so that workers spread."""
        is_over = all(cursor == "0-0" for cursor in self._cursors.values())
        share = random.uniform(0.25, 0.5)  # noqa: S311 - it spreads load
        self._next = self._clock() + (self._lease * share if is_over else 0.0)
