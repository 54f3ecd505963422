"""Replaces a process that says that it has to be started again, or that does not answer any more.

Whoever runs the supervisor would have to stop all processes for the sake of one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from http import HTTPStatus

import structlog

from hookmill.runtime.child_process import ChildProcess, Said
from hookmill.runtime.seat import Seat

log = structlog.get_logger("supervisor")

PERIOD = 5.0
"""Seconds between two looks."""

ANSWER_WITHIN = 3.0
"""Seconds that an answer may take."""

SICK, SILENT = 2, 4
"""Looks in a row after which a process is replaced: at which it said that it is sick, or said
nothing. A machine that is too busy makes a process silent, too.
"""


class HealthWatch:
    """Watches the processes of some seats; `run` it in a task."""

    def __init__(self, seats: Sequence[Seat], period: float = PERIOD) -> None:
        self._seats, self._period = seats, period
        self._strikes: dict[ChildProcess, tuple[int, int]] = {}

    async def run(self) -> None:
        """Look again and again, until the task is cancelled."""
        while True:
            await asyncio.sleep(self._period)
            await asyncio.gather(*(self._look(seat) for seat in self._seats))
            running = {seat.child for seat in self._seats}
            self._strikes = {one: many for one, many in self._strikes.items() if one in running}

    async def _look(self, seat: Seat) -> None:
        child = seat.child
        if child is None or not seat.is_ready or child.leaving.is_set():
            return
        said = await child.ask("/healthz", ANSWER_WITHIN)
        sick, silent = self._strikes.get(child, (0, 0))
        is_well = said is not None and said.status == HTTPStatus.OK
        sick, silent = (0, 0) if is_well else (sick + (said is not None), silent + (said is None))
        self._strikes[child] = sick, silent
        if sick >= SICK or silent >= SILENT:
            del self._strikes[child]
            log.error(
                "a process is not healthy: replacing it",
                process=seat.number, pid=child.pid, why=_why(said),
            )  # fmt: skip
            await seat.replace()


def _why(said: Said | None) -> str:
    if said is None:
        return "it does not answer"
    try:
        return str(json.loads(said.body)["detail"])
    except (ValueError, TypeError, KeyError):
        return f"it answered {said.status}"
