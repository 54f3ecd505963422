"""Says for each outcome what is written to Redis in the place of its entry. It does no I/O."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from hookmill.instrumentation.facts import AttemptEnded
from hookmill.message import Death, Progress, last_error_fields
from hookmill.stream.entries import Entry, FollowUp, Settlement
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


def settlement_of(
    entry: Entry,
    outcome: Outcome,
    clock: Callable[[], float],
    ended: AttemptEnded[Outcome] | None = None,
) -> Settlement:
    """Return how an entry is settled after this outcome. `clock` returns Unix seconds. `ended` is
    the attempt that led to it.
    """
    if type(outcome) is Done and not entry.key:  # the usual case, which needs no owner
        return Settlement(entry.ref, weight=entry.weight, ended=ended)
    if ended is not None and ended.progress.unknown_ms and _waits_for_handler(outcome):
        ended = None  # that it waits is known, and counted once
    follow_ups = _follow_ups(outcome, clock)
    # The fields, because Redis copies them from the entry, and somebody may have deleted that.
    fields = entry.fields if follow_ups else {}
    return Settlement(entry.ref, follow_ups, entry.key, entry.owner, entry.weight, fields, ended)


def _waits_for_handler(outcome: Outcome) -> bool:
    return isinstance(outcome, RetryLater) and not outcome.progress.handler


def _follow_ups(outcome: Outcome, clock: Callable[[], float]) -> tuple[FollowUp, ...]:
    match outcome:
        case Done() | Ignored() | Discarded():
            return ()
        case RetryLater(progress, after, _, error, keeps_key):
            retry = _to_run_again(progress, after, error)
            return (retry if keeps_key else msgspec.structs.replace(retry, kind="aside"),)
        case Requeued(progress):
            return (_to_run_again(progress),)
        case HeldBack(progress, pause):
            token = pause.encode("utf-8", "surrogateescape")
            return (FollowUp("paused", token, progress.to_fields()),)
        case FannedOut(progress, handlers):
            return tuple(
                _to_run_again(Progress(owner=progress.owner, handler=handler))
                for handler in handlers
            )
        case DeadLettered(progress, reason, error):
            death = Death(reason=reason, error=error, died_ms=int(clock() * 1000))
            changes = {**progress.to_fields(), **death.to_fields()}
            return (FollowUp("dead", _token(progress), changes),)


def _to_run_again(progress: Progress, after: float = 0.0, error: str = "") -> FollowUp:
    changes = {**progress.to_fields(), **last_error_fields(error)}
    return FollowUp("again", _token(progress), changes, int(after * 1000))


def _token(progress: Progress) -> str:
    return f"{progress.owner}/{progress.handler}"
