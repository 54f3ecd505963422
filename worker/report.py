"""Says in the log what became of an attempt: one line each, at the level it deserves."""

from __future__ import annotations

import structlog

from hookmill.message import Progress
from worker.attempt import Again, Dead, Discarded, Done, FannedOut, HandedBack, Ignored, Outcome

log = structlog.get_logger("worker")


def report(outcome: Outcome, before: Progress, seconds: float) -> None:
    """Log an outcome. The message's ID, source and type are bound already."""
    attempt, ms = before.attempts + 1, round(seconds * 1000, 1)
    match outcome:
        case Done(handler):
            log.info("handled", handler=handler, attempt=attempt, ms=ms)
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
        case Dead(progress, reason, error):
            log.error(
                "dead letter", handler=progress.handler, attempts=progress.attempts,
                reason=reason, error=error.strip().rpartition("\n")[2],
            )  # fmt: skip
        case HandedBack():
            log.info("handed back")
