"""`hookmill status` without its printing: how much of each group's work is in which state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from hookmill.admin import pauses
from hookmill.admin.checkup import inspecting
from hookmill.admin.worker_checks import described, sick_workers
from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError
from hookmill.stream.facts import GroupFacts, Overview
from hookmill.stream.groups import KnownGroup, no_group

MOST_REASONS = 8
"""Reasons of dead letters that a person is shown."""


async def look(settings: Settings) -> Overview:
    """Look at the stream and its groups once. Raises `StreamUnavailableError`."""
    async with inspecting(settings) as inspector:
        return await inspector.overview()


def only(overview: Overview, name: str) -> Overview:
    """Return what is known of one group. Raises `GroupRefusedError` if there is none."""
    groups = tuple(group for group in overview.groups if group.name == name)
    if not groups:
        raise no_group(name, (KnownGroup(group.name) for group in overview.groups))
    return msgspec.structs.replace(overview, groups=groups)


async def watch(
    settings: Settings, every: float
) -> AsyncGenerator[Overview | StreamUnavailableError, None]:
    """Look again and again, every so many seconds.

    While Redis is away, the error is given in place of an overview, because a person who watches
    wants to see it return. At the start the error is raised.
    """
    async with inspecting(settings) as inspector:
        while True:
            try:
                seen: Overview | StreamUnavailableError = await inspector.overview()
            except StreamUnavailableError as error:
                seen = error
            yield seen
            await asyncio.sleep(every)


def describe(overview: Overview, lease: float) -> dict[str, Any]:
    """Return an overview as JSON-ready values, with ages in seconds instead of times.

    `lease` (seconds) decides which workers of an older release still count as running.
    """
    seen: dict[str, Any] = {
        "stream": {
            "partitions": overview.partitions,
            "length": overview.length,
            "bytes": overview.bytes,
        },
        "used_memory": overview.used_memory,
        "maxmemory": overview.maxmemory or None,
        "groups": [],
        "unseen": [{"partition": n, "why": why} for n, why in overview.unseen.items()],
    }
    for group in overview.groups:
        row = msgspec.structs.asdict(group)
        row["consumers"] = [msgspec.structs.asdict(one) for one in group.consumers]
        row["heartbeats"] = [msgspec.structs.asdict(one) for one in group.heartbeats]
        row["pauses"] = [pauses.describe(one) for one in group.pauses]
        row["heedless_workers"] = group.heedless(lease)
        del row["oldest_ms"], row["oldest_dead_ms"], row["could_run_ms"], row["next_due_ms"]
        del row["guessed_waiting"]
        row["runnable"] = group.runnable
        row["could_run_age"] = _age(overview, group.could_run_ms)
        row["oldest_age"] = oldest_age(overview, group)
        row["oldest_dead_age"] = _age(overview, group.oldest_dead_ms)
        row["workers"] = group.workers(lease)
        row["sick_workers"] = described(sick_workers(group, lease))
        seen["groups"].append(row)
    return seen


def oldest_age(overview: Overview, group: GroupFacts) -> float | None:
    """Return how long ago (seconds, by Redis' clock) the oldest unfinished message came."""
    return _age(overview, group.oldest_ms)


def dead_reasons(group: GroupFacts) -> list[tuple[str, int]]:
    """Return how many dead letters a group has of each reason, the most first; beyond some reasons
    they are added up as others.
    """
    every = list(group.dead_reasons.items())
    shown, rest = every[:MOST_REASONS], every[MOST_REASONS:]
    if rest:
        shown.append((f"{len(rest)} other reasons", sum(number for _, number in rest)))
    return shown


def _age(overview: Overview, since_ms: int | None) -> float | None:
    return None if since_ms is None else max(0, overview.now_ms - since_ms) / 1000
