"""Logs the outcome of each attempt: one line, at the level that fits the outcome."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from structlog.typing import FilteringBoundLogger

from hookmill.error_text import last_line
from hookmill.instrumentation.facts import AttemptEnded
from hookmill.message import Progress
from hookmill.runtime import log_level
from hookmill.runtime.logs import KeptLines
from worker.outcome import (
    DeadLettered,
    Discarded,
    Done,
    FannedOut,
    HeldBack,
    Ignored,
    Outcome,
    Requeued,
    RetryLater,
)

MAX_DELAY = 0.02
"""Seconds that a line waits for others at most, even if the tick of the event loop takes longer."""


_NOT_WRITTEN = (OSError, ValueError)
"""What a log raises that cannot be written (a full disk, a closed pipe). It must not stop the
worker.
"""


class Reporter:
    """Logs outcomes, those of one tick of the event loop with one system call.

    Each line has the context variables that its attempt has at its end, so `put` is called in the
    attempt's task. Only the event loop may use it.
    """

    def __init__(self) -> None:
        self._kept = KeptLines("worker")
        self._is_waiting = False
        self._waits_since = 0.0
        self.level_changed()
        log_level.tell(self)

    def level_changed(self) -> None:
        """Note whether a line is written for what was handled."""
        self._logs_handled = self._kept.log.is_enabled_for(logging.INFO)

    def put(self, ended: AttemptEnded[Outcome]) -> None:
        """Log the outcome of an attempt soon."""
        if not self._logs_handled and type(ended.outcome) is Done:
            return  # first, because the rest costs even where no line is written
        now = ended.began + ended.seconds
        if not self._is_waiting:
            asyncio.get_running_loop().call_soon(self._write)
            self._is_waiting, self._waits_since = True, now
        try:  # noqa: SIM105 - `suppress` takes a tenth of the time of a line
            report(self._kept.log, ended.outcome, ended.progress, ended.seconds)
        except _NOT_WRITTEN:
            pass
        if now - self._waits_since > MAX_DELAY:
            self._write()

    def _write(self) -> None:
        self._is_waiting = False
        with suppress(*_NOT_WRITTEN):
            self._kept.write()


def report(log: FilteringBoundLogger, outcome: Outcome, before: Progress, seconds: float) -> None:
    """Log one outcome. The context has the message's ID, source and type already."""
    attempt = before.attempts + 1
    if type(outcome) is Done:  # the usual case, first because it is frequent
        ms = _round_to_tenths(seconds * 1000)
        log.info("handled", handler=outcome.handler, attempt=attempt, ms=ms)
        return
    match outcome:
        case Ignored():
            log.debug("ignored")
        case Discarded(handler, reason):
            log.warning("discarded", handler=handler, reason=reason)
        case FannedOut(_, handlers):
            log.debug("several handlers match", handlers=handlers)
        case RetryLater(progress, after, reason, error):
            level = log.warning if error else log.info
            level(
                "will run again", handler=progress.handler, attempt=attempt,
                after=round(after, 1), reason=reason,
            )  # fmt: skip
        case DeadLettered(progress, reason, error):
            log.error(
                "dead letter", handler=progress.handler, attempts=progress.attempts,
                reason=reason, error=last_line(error),
            )  # fmt: skip
        case HeldBack(_, pause):
            log.debug("held back", pause=pause)
        case Requeued(_, reason):
            log.info("requeued", **({"reason": reason} if reason else {}))


def _round_to_tenths(number: float) -> float:
    """Round like `round(number, 1)`, in a fifth of its time; the last bit may differ."""
    return int(number * 10 + 0.5) / 10
