"""Watches whether a worker consumes: one that takes nothing while work waits, or settles nothing,
only looks alive.

Redis is asked only where nothing moves although hands are free, so a worker at work costs it
nothing. Where Redis does not answer, the worker is not to blame, and all time counts anew. Where it
answers late, the time until its answer does not count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import structlog

from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import allowance_for
from hookmill.stream.first_waiting import FirstWaiting
from hookmill.stream.takes import TAKE_BYTES
from worker.pool import Pool

log = structlog.get_logger("worker")

PERIOD = 2.0
"""Seconds between two looks at the pool, and between two questions to Redis while something waits.
"""

IDLE_PERIODS = 4
"""How many of these periods pass between two questions of an idle worker while nothing waits: a
fleet may be large. One that holds something asks after two.
"""

PATIENCE = 22.0
"""Seconds for which something may stand still. A lost wake-up takes up to 20 s by itself."""


class Fault(NamedTuple):
    """Why a worker is unhealthy: a short code, and a sentence for a person."""

    code: str
    detail: str


def patience_for(max_bytes: int) -> float:
    """Return the patience with a worker that may take so many bytes at once: a line that is just
    fast enough brings more than the default only in a longer time.
    """
    return PATIENCE + max(0.0, allowance_for(max_bytes) - allowance_for(TAKE_BYTES))


class Consumption:
    """Call `run_once` regularly from the event loop; `fault` says what it has found.

    `is_paused` tells whether an operator has paused all that this worker could take. `clock`
    returns monotonic seconds.
    """

    def __init__(
        self,
        pool: Pool,
        waiting: FirstWaiting,
        *,
        is_paused: Callable[[], bool] = lambda: False,
        patience: float = PATIENCE,
        period: float = PERIOD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._waiting = waiting
        self._is_paused = is_paused
        self._patience = patience
        self._period = period
        self._clock = clock
        self._seen: dict[str, tuple[object, float]] = {}
        """What was seen last, and since when it has been the same: later by the time that does not
        count.
        """
        self._ask_at = -math.inf
        self._looked = math.inf
        """When the last look had ended."""
        self.fault: Fault | None = None
        """What is wrong; None: nothing. Any thread may read it."""
        self.answered_at = -math.inf
        """When Redis answered the last look (monotonic seconds)."""

    async def run_once(self) -> float:
        """Look once; return the seconds until the next look."""
        if self._clock() - self._looked > 3 * self._period:
            self._seen.clear()  # the event loop was blocked or the process stood still
        self._note_pool()
        if not self._may_stand_still():
            self._found(None)
        elif self._clock() >= self._ask_at:
            asked = self._clock()
            try:
                await self.ask()
            except StreamUnavailableError:
                self._seen.clear()
            self._do_not_count(self._clock() - asked)
            self._note_pool()  # it may have moved meanwhile
            self._found(self._judge())
        self._looked = self._clock()
        return self._period

    async def ask(self) -> None:
        """Ask Redis what waits longest. It raises `StreamUnavailableError`."""
        for number, ids in enumerate(await self._waiting.look()):
            for name, first in zip(("stream", "again"), ids, strict=True):
                self._note(f"{name} {number}", first or None)
        self.answered_at = self._clock()
        some_wait = any(map(self._is_of_a_stream, self._seen))
        periods = IDLE_PERIODS if "idle" in self._seen else 2
        self._ask_at = self.answered_at + (0.0 if some_wait else periods * self._period)

    def _note_pool(self) -> None:
        pool = self._pool
        is_free = self._has_free_hands
        self._note("takes", pool.takes if is_free else None)
        self._note("free", is_free or None)
        self._note("idle", (is_free and not pool.held) or None)
        self._note("unsettled", pool.first_unsettled)

    @property
    def _has_free_hands(self) -> bool:
        """Whether the worker should take what is there."""
        pool = self._pool
        if not pool.opened.is_set() or pool.is_quiet or pool.cannot_take or self._is_paused():
            return False
        return pool.free_slots > 0 or pool.may_run_suspect

    def _note(self, what: str, value: object | None) -> None:
        """Note a value; None stands for nothing that could stand still."""
        if value is None:
            self._seen.pop(what, None)
        elif what not in self._seen or self._seen[what][0] != value:
            self._seen[what] = value, self._clock()

    def _age(self, what: str) -> float:
        """Return for how many seconds it has been the same; 0 if it is not there."""
        now = self._clock()
        return now - self._seen.get(what, (None, now))[1]

    def _may_stand_still(self) -> bool:
        return max(map(self._age, ("takes", "idle", "unsettled"))) >= self._period

    def _do_not_count(self, seconds: float) -> None:
        """Leave out the last seconds: Redis was waited for, and so did the pool, perhaps."""
        now = self._clock()
        for what, (value, since) in self._seen.items():
            self._seen[what] = value, min(now, since + seconds)

    @staticmethod
    def _is_of_a_stream(what: str) -> bool:
        return what.startswith(("stream ", "again "))

    def _found(self, fault: Fault | None) -> None:
        """Note what is wrong, and log it where that is something else than before."""
        before, self.fault = self.fault, fault
        if fault is not None and (before is None or before.code != fault.code):
            log.error("the worker is unhealthy", code=fault.code, detail=fault.detail)
        elif fault is None and before is not None:
            log.warning("the worker is healthy again")

    def _judge(self) -> Fault | None:
        seconds = self._patience
        if self._age("unsettled") >= seconds and not self._pool.cannot_settle:
            return Fault(
                "settles_nothing",
                f"no outcome was written for {self._age('unsettled'):.0f} s, although Redis "
                "answers: restart the worker, others take over what it holds",
            )
        if self._age("takes") >= seconds:
            return Fault(
                "consumes_nothing",
                f"the worker has not asked for messages for {self._age('takes'):.0f} s, although "
                "it has free slots and Redis answers: restart it",
            )
        longest = max(map(self._age, filter(self._is_of_a_stream, self._seen)), default=0.0)
        if min(longest, self._age("free")) >= seconds:
            return Fault(
                "consumes_nothing",
                f"a message has waited for {longest:.0f} s and nobody takes it, although the "
                "worker has free slots and Redis answers: restart it",
            )
        return None
