"""Takes over what a dead or silent worker held, once its lease is over.

Idle time counts the time Redis itself was away, so nothing is taken over until this worker has
been in touch with Redis, and Redis has been up, for one whole lease: the living renew first.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import structlog

from hookmill.errors import StreamUnavailableError
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Taken

log = structlog.get_logger("worker")


class Takeover:
    """Knows when to go on with the sweep that all workers of a group share. `lease` is in seconds;
    `clock` is monotonic.
    """

    def __init__(
        self, group: Consumer, lease: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._group = group
        self._lease = lease
        self._clock = clock
        self._redis_is_settled = False
        self._next = 0.0
        self._last_contact = clock()
        self._in_touch = 0
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
            in_touch = await self._group.redis_time()
        except StreamUnavailableError:
            self.lost_contact()
            raise
        now = self._clock()
        if now - self._last_contact > self._lease / 2:
            self.lost_contact()
        if uptime < self._lease:
            self._redis_is_settled = False
        self._last_contact, self._in_touch = now, in_touch
        return self._lease / 8

    def wait(self) -> float:
        """Return the seconds until a sweep is due, 0 if it is."""
        return max(0.0, self._next - self._clock())

    async def sweep(self, free: int) -> Taken:
        """Take over up to `free` entries, going on where the sweep stopped."""
        # As of now: an answer that is waited for below may come from behind an outage.
        in_touch = self._in_touch
        if not self._redis_is_settled:
            uptime = await self._group.redis_uptime()
            if uptime < self._lease:
                self._next = self._clock() + self._lease - uptime
                return Taken([], [])
            self._redis_is_settled = True
        share = random.uniform(0.25, 0.5)  # noqa: S311 - it spreads load
        taken, wait = await self._group.take_over(free, self._lease, self._lease * share, in_touch)
        self._next = self._clock() + wait
        if taken.entries:
            log.warning("took over from a silent worker", messages=len(taken.entries))
        return taken
