"""What the ledger of a chaos run says: how often and in which order the messages ran, and whether a
fault is the reason.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.chaos.schedule import LEASE, Fault
from tests.chaos.site import Death

SLACK = LEASE * 3
"""Seconds after the end of a run within which its worker still may not have acknowledged it, for
example because Redis was away.
"""

HEEDED_WITHIN = 1.0
"""Seconds after which each worker heeds a pause."""

SILENT_AFTER = {"half-open": 15.0, "switch, sessions kept": 5.0, "switch, sessions moved": 5.0}
"""Seconds after the start of a fault for which all workers may have been silent beyond their lease:
until they give their connections up, or as long as a switch may take.
"""


class PastFault(NamedTuple):
    """A fault that happened: from when to when in Unix time, and to which process."""

    fault: Fault
    began: float
    ended: float
    pid: int


class PastPause(NamedTuple):
    """A pause: which message IDs it covered, since when it was noted, and until when surely."""

    name: str
    covers: Callable[[str], bool]
    began: float
    ended: float


class PastReplay(NamedTuple):
    """A replay: which message IDs it covered, when it began, and how many it has replayed."""

    covers: Callable[[str], bool]
    began: float
    replayed: int


class Steered(NamedTuple):
    """What operators did."""

    pauses: Sequence[PastPause] = ()
    replays: Sequence[PastReplay] = ()


class Run(NamedTuple):
    """One run of a handler, read from the ledger. `ended` is None if it never ended."""

    pid: int
    began: float
    ended: float | None


Runs = Mapping[str, Sequence[Run]]
"""The runs of each message ID."""


class Verdict(NamedTuple):
    """What the ledger says at the end.

    `dead` has the reason of each dead letter by its message ID. `longest_wait` is in seconds, from
    when a message was accepted until its handler ended. `run_again` counts the messages that began
    more than once; `unexplained` has the runs of those of them for which the guarantees name no
    cause. `overlapping` counts messages that ran at the same time as an earlier one of their key,
    which is allowed if a worker was silent for longer than its lease. `disordered` counts those
    that did so without such a silence, and those that began before the earlier one had ended for
    the first time. `while_paused` has the runs that began although they were paused.
    `not_replayed` counts those that were replayed and did not run again.
    """

    accepted: int
    handled: int
    dead: Mapping[str, str]
    lost: frozenset[str]
    longest_wait: float
    run_again: int
    unexplained: Mapping[str, Sequence[Run]]
    overlapping: int
    disordered: int
    faults: int
    pauses: int
    replayed: int
    while_paused: Sequence[tuple[str, str, Run]]
    not_replayed: int

    @property
    def is_good(self) -> bool:
        broken = self.lost or self.unexplained or self.disordered
        return not (broken or self.while_paused or self.not_replayed)


class Ledger:
    """The file that the handlers write. `read` reads what was added to it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ledger.txt"
        self._place = 0
        self.runs: defaultdict[str, list[Run]] = defaultdict(list)
        self.handled: dict[str, float] = {}
        """When each message was handled for the first time, in Unix time."""

    def read(self) -> None:
        with self._path.open() as file:
            file.seek(self._place)
            for row in file:
                if not row.endswith("\n"):
                    break
                self._place += len(row)  # it is all ASCII
                self._note(*row.split())

    def _note(self, what: str, message_id: str, _: str, pid: str, moment: str) -> None:
        runs = self.runs[message_id]
        if what == "begin":
            runs.append(Run(int(pid), float(moment), None))
        else:
            at = max(n for n, run in enumerate(runs) if run.pid == int(pid))
            runs[at] = runs[at]._replace(ended=float(moment))
            self.handled.setdefault(message_id, float(moment))

    def judge(
        self,
        accepted: Mapping[str, float],
        in_order: Iterable[Sequence[str]],
        dead: Mapping[str, str],
        past: Sequence[PastFault],
        deaths: Mapping[int, Death],
        steered: Steered,
    ) -> Verdict:
        run_again = {one: each for one, each in self.runs.items() if len(each) > 1}
        replays = steered.replays
        overlapping, disordered = count_broken_order(in_order, self.runs, past)
        return Verdict(
            accepted=len(accepted),
            handled=len(self.handled),
            dead=dead,
            lost=frozenset(accepted.keys() - self.handled.keys() - dead.keys()),
            longest_wait=max(
                (self.handled[one] - at for one, at in accepted.items() if one in self.handled),
                default=0.0,
            ),
            run_again=len(run_again),
            unexplained={
                one: each
                for one, each in run_again.items()
                if not are_explained(each, past, deaths, sum(each.covers(one) for each in replays))
            },
            overlapping=overlapping,
            disordered=disordered,
            faults=len(past),
            pauses=len(steered.pauses),
            replayed=sum(one.replayed for one in replays),
            while_paused=[*begun_while_paused(self.runs, steered.pauses, past)],
            not_replayed=sum(max(0, one.replayed - self._ran_again(one, dead)) for one in replays),
        )

    def _ran_again(self, replay: PastReplay, dead: Mapping[str, str]) -> int:
        """Count the messages that may have run because of a replay, or died."""
        return sum(
            message_id in dead or any(run.began >= replay.began for run in runs[1:])
            for message_id, runs in self.runs.items()
            if replay.covers(message_id)
        )


def are_explained(
    runs: Sequence[Run],
    past: Sequence[PastFault],
    deaths: Mapping[int, Death],
    replays: int = 0,
) -> bool:
    """Return whether the guarantees name a cause for each run of a message but one. That one is the
    last, or the one before a worker that came back too late ran the message as well. Each replay of
    the message may be the cause of one more.
    """
    without_cause = [run for run in runs[:-1] if not is_explained(run, past, deaths)]
    came_back = len(without_cause) == 1 + replays and _lost_its_lease(runs[-1], past)
    return len(without_cause) <= replays or came_back


def begun_while_paused(
    runs: Runs, pauses: Sequence[PastPause], past: Sequence[PastFault]
) -> Iterator[tuple[str, str, Run]]:
    """Yield the pause, the message and the run, where one began although it was paused. A worker
    may begin within a second what it was given just before, or when it is no longer silent.
    """
    for pause in pauses:
        covered = ((one, each) for one, each in runs.items() if pause.covers(one))
        for message_id, each in covered:
            for run in each:
                is_paused = pause.began + HEEDED_WITHIN < run.began < pause.ended
                if is_paused and not _lost_its_lease(run, past):
                    yield pause.name, message_id, run


def is_explained(run: Run, past: Iterable[PastFault], deaths: Mapping[int, Death]) -> bool:
    """Return whether the guarantees name a cause for another run after this one: its worker died,
    or was silent beyond its lease, before it had acknowledged the message. A worker that ends by
    itself, or that was asked to, acknowledges before.
    """
    death = deaths.get(run.pid)
    until = (run.ended or math.inf) + SLACK
    has_died = (
        death is not None and death.why in {"kill", "memory"} and run.began <= death.moment <= until
    )
    return has_died or _lost_its_lease(run, past, SLACK)


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


def _lost_its_lease(run: Run, faults: Iterable[PastFault], slack: float = 0.0) -> bool:
    """Return whether the worker was frozen or cut off from Redis, during the run or shortly before
    it or within `slack` seconds after it, for so long that it can have lost its lease.
    """
    return any(
        run.began <= until + LEASE and (run.ended or run.began) + slack >= one.began
        for one in faults
        if (until := _silent_until(one, run.pid)) is not None
    )


def _silent_until(one: PastFault, pid: int) -> float | None:
    """Return until when a fault can have kept a worker silent, if for longer than its lease."""
    if one.fault.kind in SILENT_AFTER:
        return one.began + SILENT_AFTER[one.fault.kind]
    # A lease is renewed three times before it expires, so half of it can be too long.
    is_frozen = one.fault.kind == "freeze worker" and one.pid == pid
    return one.ended if is_frozen and one.ended - one.began >= LEASE / 2 else None
