"""Watches the worker's periodic tasks: whether each ends its runs and begins the next ones.

One that hangs without blocking the event loop fails at nothing, so nothing else would tell. Only
time counts in which the event loop turned. While Redis is away, runs end with an error, and others
begin.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import structlog

from hookmill.runtime.tasks import Turns
from worker.consumption import Fault
from worker.delayed import LONGEST_PAUSE

log = structlog.get_logger("worker")

PERIOD = 0.5
"""Seconds between two looks. A look counts no more than two of them, because the event loop was
blocked or the process stood still.
"""

PATIENCE = 60.0
"""Seconds that a run may take: several answers of Redis, of which each may take its timeout."""

LONG = {"delayed": PATIENCE + LONGEST_PAUSE, "janitor": 5 * PATIENCE}
"""The same for duties that wait for something, or that ask Redis many times. The janitor ends each
of its three long parts after 20 s, because a slow Redis is no fault of the worker.
"""


OF_PARTITION = " of partition "
"""Stands between a duty and a partition, where each of several has the same duty."""


class Duties:
    """The periodic tasks. Start each with what `of` returns, and call `look` regularly.

    `where` returns where a task of this name is, for the log.
    """

    def __init__(
        self,
        where: Callable[[str], str] = lambda _: "",
        *,
        patience: float = PATIENCE,
        long: Mapping[str, float] = LONG,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._where = where
        self._patience = patience
        self._long = long
        self._clock = clock
        self._turns: dict[str, Turns] = {}
        self._seen: dict[str, tuple[int, float]] = {}
        """What was seen last of each duty, and for how many seconds it has been the same."""
        self._looked = clock()
        self.fault: Fault | None = None
        """Which duty stands still; None: none. Any thread may read it."""

    def of(self, name: str) -> Turns:
        """Return what the task of this duty has to keep up to date."""
        return self._turns.setdefault(name, Turns())

    async def look(self) -> float:
        """Look once; return the seconds until the next look."""
        now = self._clock()
        passed, self._looked = min(now - self._looked, 2 * PERIOD), now
        for name, turns in self._turns.items():
            before, seconds = self._seen.get(name, (turns.count, 0.0))
            is_same = before == turns.count
            self._seen[name] = turns.count, seconds + passed if is_same else 0.0
        self._judge()
        return PERIOD

    def _judge(self) -> None:
        before, self.fault = self.fault, None
        for name, turns in self._turns.items():
            _, seconds = self._seen[name]
            if seconds < turns.pause + self._long.get(
                name.partition(OF_PARTITION)[0], self._patience
            ):
                continue
            self.fault = Fault(
                "part_stands_still",
                f"the part {name} of the worker has stood still for {seconds:.0f} s: restart the "
                "worker, others take over what it holds",
            )
            if before is None:
                log.error("a part of the worker stands still", part=name, stack=self._where(name))
            return
        if before is not None:
            log.warning("no part of the worker stands still any longer")
