"""Requeues messages that wait here for a thread while another worker has a free one.

Which messages need a thread is not known before they are taken. So a worker whose threads are all
busy may hold some while another worker is idle.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from hookmill.stream.facts import Heartbeat
from worker.threads import HandlerThreads, WaitingMessage

PERIOD = 0.5
"""Seconds between two looks whether a message waits, and the least that a message has waited when
it is moved: mostly a thread is free before.
"""

PERIOD_AFTER_MOVE = 1.0
"""Seconds between two looks after some were moved. A worker that runs such messages writes its
heartbeat that often.
"""

TAKEN_AFTER = 0.1
"""Seconds after which others have taken what was moved."""

REST = 0.3
"""Seconds in which this worker takes nothing, so that another one takes what it has requeued."""


class ReadsHeartbeats(Protocol):
    """Where the heartbeats of the group's workers are read."""

    async def read(self) -> tuple[Heartbeat, ...]:
        """Return those that have not expired."""


class WaitingMover:
    """Call `run_once` regularly. `rest` has the pool take nothing for so many seconds. `name` is
    this worker's, `lease` is in seconds, `clock` returns Unix seconds.
    """

    def __init__(
        self,
        threads: HandlerThreads,
        heartbeats: ReadsHeartbeats,
        rest: Callable[[float], Awaitable[None]],
        name: str,
        lease: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._threads = threads
        self._heartbeats = heartbeats
        self._rest = rest
        self._name = name
        self._lease = lease
        self._clock = clock
        self._moved_at = -math.inf
        """When messages were last moved, by `time.monotonic`."""

    async def run_once(self) -> float:
        """Requeue what others have free threads for; return the seconds until the next call.

        The others write their heartbeats every third of a lease, so looking more often shows
        nothing new. Only a worker that runs moved messages writes them more often.
        """
        if not (waiting := self._movable()):
            return PERIOD
        alive = await self._heartbeats.read()
        since_move = time.monotonic() - self._moved_at
        # An older heartbeat does not know yet of what was moved then.
        oldest = (since_move - TAKEN_AFTER) * 1000
        others = [one for one in alive if one.name != self._name and one.age_ms < oldest]
        if movable := _with_free_threads(waiting, others):
            await self._rest(REST)
            now_ms = int(self._clock() * 1000)
            for one in movable:
                self._threads.requeue(one, msgspec.structs.replace(one.progress, moved_ms=now_ms))
            self._moved_at, since_move = time.monotonic(), 0.0
        third = self._lease / 3
        return max(PERIOD, min(third, PERIOD_AFTER_MOVE if since_move < third else third))

    def _movable(self) -> list[WaitingMessage]:
        """Return what has waited for a while, and was not moved within the last lease.

        The clocks of two workers may differ. Then a message is moved more often, or waits longer.
        """
        since, now_ms = time.monotonic() - PERIOD, self._clock() * 1000
        return [
            one
            for one in self._threads.waiting()
            if one.since <= since and abs(now_ms - one.progress.moved_ms) >= self._lease * 1000
        ]


def _with_free_threads(
    waiting: Iterable[WaitingMessage], others: Sequence[Heartbeat]
) -> list[WaitingMessage]:
    """Return as many of these messages as other workers have free threads for their handlers."""
    free = Counter({one.name: min(one.free_slots, one.free_threads) for one in others})
    movable = []
    for message in waiting:
        for one in others:
            if free[one.name] > 0 and message.handler.name in one.handlers:
                free[one.name] -= 1
                movable.append(message)
                break
    return movable
