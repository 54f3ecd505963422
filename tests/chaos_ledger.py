"""What the ledger of a chaos run says: how often and in which order the messages ran, and whether a
fault is the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

LEASE = 2.0


class Fault(NamedTuple):
    """A planned fault: its kind, its target, how long it lasts, and after how many accepted
    deliveries it happens.
    """

    after: int
    kind: str
    target: int
    seconds: float


class PastFault(NamedTuple):
    """A fault that happened: from when to when in Unix time, and to which process."""

    fault: Fault
    began: float
    ended: float
    pid: int


class Run(NamedTuple):
    """One run of a handler, read from the ledger. `ended` is None if it never ended."""

    pid: int
    began: float
    ended: float | None


Runs = Mapping[str, Sequence[Run]]
"""The runs of each message ID."""


class Verdict(NamedTuple):
    """What the ledger says at the end.

    `run_again` counts the messages that began more than once; `unexplained` those of them for which
    no fault is the reason. `overlapping` counts messages that ran at the same time as an earlier
    one of their key, which is allowed if a worker was frozen for longer than its lease.
    `disordered` counts those that did so without such a freeze, and those that began before the
    earlier one had ended for the first time.
    """

    accepted: int
    handled: int
    dead: int
    lost: int
    run_again: int
    unexplained: int
    overlapping: int
    disordered: int
    faults: int
    seconds: float


def count_broken_order(
    keys: Iterable[Sequence[str]], runs: Runs, faults: Sequence[PastFault]
) -> tuple[int, int]:
    """Count the overlapping and the disordered messages; `Verdict` explains the words. `keys` has
    for each key its message IDs in the order in which they were accepted.
    """
    overlapping: set[str] = set()
    disordered: set[str] = set()
    for message_ids in keys:
        free_at = 0.0
        for message_id in message_ids:
            each = runs.get(message_id, ())
            if each and each[0].began < free_at:
                disordered.add(message_id)
            # A message that never ended is counted as lost or dead, not here.
            free_at = max(free_at, min((run.ended for run in each if run.ended), default=0.0))
        for earlier, later in _overlaps(message_ids, runs):
            excused = any(_lost_its_lease(run, faults) for run in (earlier[1], later[1]))
            (overlapping if excused else disordered).add(later[0])
    return len(overlapping - disordered), len(disordered)


def _overlaps(
    message_ids: Sequence[str], runs: Runs
) -> Iterator[tuple[tuple[str, Run], tuple[str, Run]]]:
    """Return the pairs of runs that went on at the same time, for different messages of one key. A
    run without an end does not count, because its worker was killed.
    """
    all_runs = sorted(
        ((one, run) for one in message_ids for run in runs.get(one, ())),
        key=lambda pair: pair[1].began,
    )
    for place, earlier in enumerate(all_runs):
        for later in all_runs[place + 1 :]:
            if later[1].began >= (earlier[1].ended or earlier[1].began):
                break
            if later[0] != earlier[0]:
                yield earlier, later


def _lost_its_lease(run: Run, faults: Iterable[PastFault]) -> bool:
    """Return whether the worker was frozen during the run or shortly before it, for so long that
    it can have lost its lease.
    """
    return any(
        one.fault.kind == "freeze worker"
        and one.pid == run.pid
        # A lease is renewed three times before it expires, so half of it can be too long.
        and one.ended - one.began >= LEASE / 2
        and run.began <= one.ended + LEASE
        and (run.ended or run.began) >= one.began
        for one in faults
    )
