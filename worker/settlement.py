"""From an outcome to what is written in its entry's place. Pure: a table, one case a line."""

from __future__ import annotations

from collections.abc import Callable

from hookmill.message import Death, Progress
from hookmill.stream.entries import Entry, FollowUp, Settlement
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


def settlement_of(entry: Entry, outcome: Outcome, clock: Callable[[], float]) -> Settlement:
    """Say how an entry is settled after this outcome. `clock` gives Unix seconds."""
    if type(outcome) is Done and not entry.key:  # nearly all are; nobody asks for the owner then
        return Settlement(entry.ref)
    return Settlement(entry.ref, _follow_ups(entry, outcome, clock), entry.key, entry.owner)


def _follow_ups(entry: Entry, outcome: Outcome, clock: Callable[[], float]) -> tuple[FollowUp, ...]:
    match outcome:
        case Done() | Ignored() | Discarded():
            return ()
        case Again(progress, after):
            return (_again(entry, progress, after),)
        case Requeued(progress):
            return (_again(entry, progress),)
        case FannedOut(progress, handlers):
            return tuple(
                _again(entry, Progress(owner=progress.owner, handler=handler))
                for handler in handlers
            )
        case DeadLettered(progress, reason, error):
            death = Death(reason=reason, error=error, died_ms=int(clock() * 1000))
            fields = {**entry.fields, **progress.to_fields(), **death.to_fields()}
            return (FollowUp("dead", _token(progress), fields),)


def _again(entry: Entry, progress: Progress, after: float = 0.0) -> FollowUp:
    fields = {**entry.fields, **progress.to_fields()}
    return FollowUp("again", _token(progress), fields, int(after * 1000))


def _token(progress: Progress) -> str:
    return f"{progress.owner}/{progress.handler}"
