"""Takes over the messages of a dead or silent worker after their leases have ended.

The time in which Redis is unavailable counts as idle time, too. So nothing is taken over until this
worker has had contact with Redis, and Redis has been up, for one whole lease: in that time the
workers that are alive renew their leases.
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
    """Decides when this worker goes on with the sweep that all workers of a group share.

    `lease` is in seconds; `clock` returns monotonic seconds.
    """

    def __init__(
        self, consumer: Consumer, lease: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._consumer = consumer
        self._lease = lease
        self._clock = clock
        self._uptime_is_enough = False
        self._next_sweep = 0.0
        self._last_contact = clock()
        """When Redis last answered `keep_in_touch`, by our clock."""
        self._last_contact_ms = 0
        """The same moment by Redis' clock, in Unix milliseconds; 0: not known."""
        self.lost_contact()

    def lost_contact(self) -> None:
        """Note that Redis did not answer: the wait for one whole lease of contact begins again."""
        self._uptime_is_enough = False
        self._next_sweep = self._clock() + self._lease

    async def keep_in_touch(self) -> float:
        """Ask Redis for its uptime and time; return the seconds until the next call.

        The pool alone does not notice an outage: without free slots it does not talk to Redis, and
        a frozen Redis answers late but without an error. In both cases the other workers could not
        renew their leases in the meantime.
        """
        try:
            uptime = await self._consumer.redis_uptime()
            contact_ms = await self._consumer.redis_time()
        except StreamUnavailableError:
            self.lost_contact()
            raise
        now = self._clock()
        if now - self._last_contact > self._lease / 2:
            self.lost_contact()
        if uptime < self._lease:
            self._uptime_is_enough = False
        self._last_contact, self._last_contact_ms = now, contact_ms
        return self._lease / 8

    def wait(self) -> float:
        """Return the seconds until the next sweep is due; 0 if it is due now."""
        return max(0.0, self._next_sweep - self._clock())

    async def sweep(self, count: int) -> Taken:
        """Take over up to `count` entries, from where the last sweep stopped."""
        # Read it now: the reply awaited below may come after an outage, which must count.
        contact_ms = self._last_contact_ms
        if not self._uptime_is_enough:
            uptime = await self._consumer.redis_uptime()
            if uptime < self._lease:
                self._next_sweep = self._clock() + self._lease - uptime
                return Taken([], [])
            self._uptime_is_enough = True
        pause = self._lease * random.uniform(0.25, 0.5)  # noqa: S311 - it spreads load
        taken, wait = await self._consumer.take_over(count, self._lease, pause, contact_ms)
        self._next_sweep = self._clock() + wait
        if taken.entries:
            log.warning("took over from a silent worker", messages=len(taken.entries))
        return taken
