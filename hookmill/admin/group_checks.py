"""Judges the consumer groups: whether workers run for what waits.

No I/O. Advice that removes a group says what unfinished work goes with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from hookmill.admin.findings import Finding
from hookmill.admin.worker_checks import SickWorker, sick_workers
from hookmill.config.settings import DEFAULT_GROUP, Settings
from hookmill.errors import see
from hookmill.stream.facts import GroupFacts, Overview


def judge_groups(overview: Overview, settings: Settings) -> Iterator[Finding]:
    """Judge each group, and whether the group of the settings is there."""
    names = {group.name for group in overview.groups}
    if overview.length and settings.group not in names:
        yield Finding(
            level="warning",
            what=f"there is no group {settings.group}, and messages are there",
            why="nothing in this group handles them",
            do=f"{_made_with(settings.group)}start `hookmill worker --group {settings.group}`",
        )
    for group in overview.groups:
        if group.pins(settings.lease):
            yield _without_workers(group)
        for one in sick_workers(group, settings.lease):
            yield _sick(group, one)
        for name in group.heedless(settings.lease):
            yield _heedless(group, name)


def _made_with(group: str) -> str:
    """Return what has to be done before the first worker of a group can start."""
    if group == DEFAULT_GROUP:
        return ""
    return f"make it with `hookmill group add {group} --from beginning` (or `--from now`), then "


def _sick(group: GroupFacts, worker: SickWorker) -> Finding:
    return Finding(
        level="warning",
        what=f"worker {worker.name} in group {group.name} is sick: {worker.code}",
        why=worker.what,
        do=worker.do,
    )


def _heedless(group: GroupFacts, worker: str) -> Finding:
    return Finding(
        level="warning",
        what=f"worker {worker} in group {group.name} does not heed pauses",
        why="it is of an older release and runs what is paused: it may have started later",
        do=f"replace it with one of this release; {see('how-to/pause.md')}",
    )


def unfinished(group: GroupFacts) -> str:
    """Return how many messages of a group are in which state: what is lost with the group."""
    waiting = "an unknown number" if group.waiting is None else f"{group.waiting:,}"
    counts = ((group.held, "held"), (group.delayed, "delayed"), (group.again, "again"),
              (group.parked, "parked"), (group.paused, "paused"), (group.dead, "dead"))  # fmt: skip
    return ", ".join([f"{waiting} waiting", *(f"{n:,} {state}" for n, state in counts if n)])


def _without_workers(group: GroupFacts) -> Finding:
    return Finding(
        level="warning",
        what=f"no worker of group {group.name} runs, and messages wait for it",
        why="no heartbeat of a worker is there, and none of an older release was active. So "
        "nothing handles them, and the stream keeps every message that a group has not finished: "
        "it only grows",
        do=f"start `hookmill worker --group {group.name}`. If nobody needs its unfinished work "
        f"({unfinished(group)}), `hookmill group drop {group.name}` deletes the group with it; "
        f"{see('how-to/remove-a-group.md')}",
    )
