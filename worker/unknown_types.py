"""Says for how long no worker of the group has had a handler for an event type.

A deploy may be about to bring one. So a message of such a type waits for the grace period, which
counts from the first message of the type, and starts again when a worker appears that knows it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from hookmill.errors import StreamUnavailableError
from hookmill.handlers import Handlers, matches_pattern
from hookmill.stream.facts import Heartbeat
from hookmill.stream.first_sights import FirstSights
from hookmill.stream.heartbeats import Heartbeats
from worker.unmatched import Sight

LOOK_PERIOD = 1.0
"""Seconds in which Redis is asked once about a type, and once about the workers."""

MOST_KEPT = 1000
"""Types whose answer is kept in memory."""

FORGET_PERIOD = 600.0
"""Seconds after which this worker looks again for types that it knows."""


class UnknownTypes:
    """The event types that this worker's handlers do not match. `clock` is in seconds.

    Call `forget_known` regularly: then a deploy that brought a type and is rolled back leaves a
    whole grace period.
    """

    def __init__(
        self,
        sights: FirstSights,
        heartbeats: Heartbeats,
        handlers: Handlers[Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sights = sights
        self._heartbeats = heartbeats
        self._handlers = handlers
        self._clock = clock
        self._looks: dict[str, tuple[float, Sight]] = {}
        self._workers: tuple[float, tuple[Heartbeat, ...]] | None = None
        self._asking = asyncio.Lock()

    async def look(self, event_type: str) -> Sight:
        """Return what is known of a type. While Redis is unavailable, that is nothing."""
        async with self._asking:  # the other messages of the type get the same answer
            if found := self._kept(event_type):
                return found
            try:
                is_known = knows(await self._living(), event_type)
                seconds = await self._sights.look(event_type, is_known=is_known)
                sight = Sight(seconds, is_known)
            except StreamUnavailableError:
                sight = Sight()
            if len(self._looks) >= MOST_KEPT:
                self._looks.clear()
            self._looks[event_type] = self._clock(), sight
            return sight

    async def forget_known(self) -> float:
        """Forget the types that this worker knows; return the seconds until the next call."""
        types = await self._sights.types()
        await self._sights.forget(
            event_type
            for event_type in types
            if self._handlers.matching(event_type) or self._handlers.ignores(event_type)
        )
        return FORGET_PERIOD

    def _kept(self, event_type: str) -> Sight | None:
        """Return a recent answer, as it would be now."""
        asked, sight = self._looks.get(event_type, (0.0, None))
        passed = self._clock() - asked
        if sight is None or passed >= LOOK_PERIOD:
            return None
        return sight if sight.is_known else sight._replace(unknown_for=sight.unknown_for + passed)

    async def _living(self) -> tuple[Heartbeat, ...]:
        now = self._clock()
        if self._workers is None or now - self._workers[0] >= LOOK_PERIOD:
            self._workers = now, await self._heartbeats.read()
        return self._workers[1]


def knows(heartbeats: Iterable[Heartbeat], event_type: str) -> bool:
    """Return whether one of these workers has a handler for a type, or ignores it on purpose."""
    return any(
        matches_pattern(pattern, event_type)
        for one in heartbeats
        for patterns in (*one.handlers.values(), one.ignored)
        for pattern in patterns
    )
