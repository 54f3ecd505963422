"""Says in the log what became of an attempt: one line each, at the level it deserves."""

from __future__ import annotations

import asyncio
import contextvars
import time
from contextlib import suppress

import structlog
from structlog.typing import FilteringBoundLogger

from hookmill.message import Progress
from hookmill.runtime.logs import written_together
from worker.outcome import (
    Again,
    DeadLettered,
    Discarded,
    Done,
    FannedOut,
    Ignored,
    Outcome,
    Requeued,
)

log = structlog.get_logger("worker")


LATEST = 0.02
"""Seconds that a line waits for others at most, however long the loop's tick takes."""


class Reporter:
    """Logs the outcomes of one tick of the loop together, with one system call. Each line is
    written in the context that its attempt had in the end.

    Only the event loop may use it.
    """

    def __init__(self) -> None:
        self._ended: list[tuple[contextvars.Context, Outcome, Progress, float]] = []
        self._since = 0.0

    def put(self, outcome: Outcome, before: Progress, began: float) -> None:
        """Have an outcome logged. `began` is when its attempt did, by `perf_counter`."""
        now = time.perf_counter()
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._tell)
            self._since = now
        self._ended.append((contextvars.copy_context(), outcome, before, now - began))
        if now - self._since > LATEST:
            self._tell()

    def _tell(self) -> None:
        ended, self._ended = self._ended, []
        # A full disk under the log, or nobody to read it, is no reason not to handle what waits.
        with suppress(OSError, ValueError), written_together():
            bound = log.bind()  # once for all: what it is made from looks it up for each line
            for context, outcome, before, seconds in ended:
                context.run(report, bound, outcome, before, seconds)


def report(log: FilteringBoundLogger, outcome: Outcome, before: Progress, seconds: float) -> None:
    """Log an outcome. The message's ID, source and type are bound already."""
    attempt = before.attempts + 1
    if type(outcome) is Done:  # nearly all are
        ms = _tenths(seconds * 1000)
        log.info("handled", handler=outcome.handler, attempt=attempt, ms=ms)
        return
    match outcome:
        case Ignored():
            log.debug("ignored")
        case Discarded(handler, reason):
            log.warning("discarded", handler=handler, reason=reason)
        case FannedOut(_, handlers):
            log.debug("several handlers match", handlers=handlers)
        case Again(progress, after, reason, error):
            level = log.warning if error else log.info
            level(
                "will run again", handler=progress.handler, attempt=attempt,
                after=round(after, 1), reason=reason,
            )  # fmt: skip
        case DeadLettered(progress, reason, error):
            log.error(
                "dead letter", handler=progress.handler, attempts=progress.attempts,
                reason=reason, error=error.strip().rpartition("\n")[2],
            )  # fmt: skip
        case Requeued():
            log.info("handed back")


def _tenths(number: float) -> float:
    """Round as `round(number, 1)` does, but for the last bit, at a fifth of its price."""
    return int(number * 10 + 0.5) / 10
