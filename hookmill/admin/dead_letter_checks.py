"""Judges the dead letters of each group: how many there are, and how near they are to a bound.

No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator

from hookmill.admin.findings import Finding
from hookmill.admin.units import age, count, size, span
from hookmill.config.settings import Settings
from hookmill.errors import see
from hookmill.stream.facts import GroupFacts, Overview

NEAR = 0.8
"""The share of a bound from which on it is worth a warning."""

MUCH = 0.25
"""The share of maxmemory that dead letters may take before it is worth a warning, where they have
no bound: nothing takes them away, and the rest is for messages and their IDs.
"""


def judge_dead_letters(overview: Overview, settings: Settings) -> Iterator[Finding]:
    """Judge each group that has dead letters. The bounds are those of the settings."""
    for group in overview.groups:
        if not group.dead:
            continue
        yield _there_are(group)
        near = list(_near_bounds(group, overview, settings))
        if near:
            yield _near_a_bound(group, near)
        elif _are_unbounded(settings) and _take_much(group, overview):
            yield _much_memory(group, overview)


def _there_are(group: GroupFacts) -> Finding:
    letters = count(group.dead, "dead letter lies", "dead letters lie")
    taken = "" if group.dead_bytes is None else f" ({size(group.dead_bytes)})"
    return Finding(
        level="note",
        what=f"{letters} in group {group.name}{taken}",
        why="each is a message that was accepted and not handled",
        # With --group, because without it the commands mean the group of the settings.
        do=f"look at them with `hookmill dead list --group {group.name}`; replay those "
        "whose cause is fixed, drop those that nobody needs",
    )


def _near_bounds(group: GroupFacts, overview: Overview, settings: Settings) -> Iterator[str]:
    """Yield how much of each bound is used up, for those that are near."""
    if 0 < settings.dead_messages * NEAR <= group.dead:
        yield f"{group.dead:,} of {settings.dead_messages:,} (HOOKMILL_DEAD_MESSAGES)"
    if group.dead_bytes is not None and 0 < settings.dead_bytes * NEAR <= group.dead_bytes:
        yield f"{size(group.dead_bytes)} of {size(settings.dead_bytes)} (HOOKMILL_DEAD_BYTES)"
    if group.oldest_dead_ms is not None and settings.dead_age:
        seconds = (overview.now_ms - group.oldest_dead_ms) / 1000
        if seconds >= settings.dead_age * NEAR:
            yield f"{age(seconds)} of {span(settings.dead_age)} (HOOKMILL_DEAD_AGE)"


def _near_a_bound(group: GroupFacts, near: list[str]) -> Finding:
    return Finding(
        level="warning",
        what=f"the dead letters of group {group.name} are near a bound: {', '.join(near)}",
        why="a worker drops the oldest ones beyond it, for good",
        do=f"replay or drop them with `hookmill dead replay` or `drop --group {group.name}`, or "
        "raise the bound",
    )


def _are_unbounded(settings: Settings) -> bool:
    return not (settings.dead_messages or settings.dead_bytes or settings.dead_age)


def _take_much(group: GroupFacts, overview: Overview) -> bool:
    return 0 < overview.maxmemory * MUCH <= (group.dead_bytes or 0)


def _much_memory(group: GroupFacts, overview: Overview) -> Finding:
    taken = group.dead_bytes or 0
    return Finding(
        level="warning",
        what=f"the dead letters of group {group.name} take {taken / overview.maxmemory:.0%} of "
        f"maxmemory ({size(taken)} of {size(overview.maxmemory)})",
        why="nothing takes them away, and a full Redis takes no more deliveries",
        do=f"replay or drop them with `hookmill dead replay` or `drop --group {group.name}`, or "
        f"set a bound, such as HOOKMILL_DEAD_BYTES; {see('how-to/replay-dead-letters.md')}",
    )
