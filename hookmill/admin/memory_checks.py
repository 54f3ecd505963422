"""Judges the memory of the Redis server: its bound, what happens at it, and what will be needed.

No I/O. Needed is what remembered message IDs and retained messages take, now or at a given rate.
"""

from __future__ import annotations

from collections.abc import Iterator

from hookmill.admin.findings import Finding
from hookmill.admin.units import size, span
from hookmill.config.settings import Settings
from hookmill.stream.facts import Overview, ServerFacts

BYTES_PER_ID = 37
"""Redis' memory for a remembered message ID. `python -m benchmarks.dedup_memory` measures it."""

NEARLY_FULL = 0.8
"""The share of maxmemory above which too little is left for a backlog."""


def judge_memory(
    server: ServerFacts, overview: Overview, settings: Settings, rate: float | None
) -> Iterator[Finding]:
    """Judge the memory there is and, for a `rate` of messages a second, what will be needed."""
    yield from judge_bound(server, overview, settings)
    yield from judge_needs(overview, settings, rate)


def judge_needs(overview: Overview, settings: Settings, rate: float | None) -> Iterator[Finding]:
    """Say what is needed, on all servers together."""
    yield from _judge_ids(overview, settings, rate)
    yield from _judge_retention(overview, settings, rate)


def judge_bound(
    server: ServerFacts, overview: Overview, settings: Settings, share: float = 1.0
) -> Iterator[Finding]:
    """Judge the memory of one server, which has this share of the partitions."""
    limit, used = overview.maxmemory, overview.used_memory
    if server.policy != "noeviction":
        yield Finding(
            level="error" if limit else "warning",
            what=f"maxmemory-policy is {server.policy}",
            why="a full Redis deletes messages, or forgets message IDs, and tells nobody"
            if limit
            else "once maxmemory is set, a full Redis deletes messages and tells nobody",
            do="set maxmemory-policy noeviction: a full Redis then refuses messages, and their "
            "senders send them again",
        )
    if not limit:
        yield Finding(
            level="note",
            what="maxmemory is not set",
            why="Redis grows until the operating system kills it",
            do="set maxmemory to what the machine can spare",
        )
    elif used >= limit * NEARLY_FULL:
        yield Finding(
            level="error" if used >= limit else "warning",
            what=f"{used / limit:.0%} of maxmemory is in use ({size(used)} of {size(limit)})",
            why="a full Redis takes no more deliveries, so receivers answer 503",
            do="give it more memory, or see with `hookmill status` what fills it",
        )
    if limit and not 0 < settings.backlog_bytes * share < limit:
        part = "" if share == 1.0 else f", of which this server has {share:.0%},"
        yield Finding(
            level="warning",
            what=f"HOOKMILL_BACKLOG_BYTES{part} is not below maxmemory",
            why="a backlog would fill Redis before receivers refuse it, and leave no memory for "
            "retries",
            do=f"set it to less than {int(limit / share)}",
        )


def _judge_ids(overview: Overview, settings: Settings, rate: float | None) -> Iterator[Finding]:
    """Say what the memory of message IDs takes."""
    window = settings.dedup_window
    each_group = "" if len(overview.groups) < 2 else f", in each of {len(overview.groups)} groups"
    now = sum(group.remembered for group in overview.groups)
    each_id = f"each for {span(window)} to {span(2 * window)}, at {BYTES_PER_ID} B"
    if rate is None:
        yield Finding(
            level="note",
            what=f"{now:,} message IDs are remembered: about {size(now * BYTES_PER_ID)}",
            why=each_id,
            do="give --rate MESSAGES_PER_SECOND to see what a rate would cost",
        )
        return
    least, most = round(rate * window), round(rate * 2 * window)
    groups = max(1, len(overview.groups))
    others = overview.used_memory - now * BYTES_PER_ID
    too_much = 0 < overview.maxmemory < others + most * groups * BYTES_PER_ID
    yield Finding(
        level="warning" if too_much else "note",
        what=f"at {rate:g} messages a second, {least:,} to {most:,} message IDs are remembered"
        f"{each_group}: {size(least * groups * BYTES_PER_ID)} to "
        f"{size(most * groups * BYTES_PER_ID)}",
        why=each_id + (f"; maxmemory is {size(overview.maxmemory)}" if too_much else ""),
        do="raise maxmemory, or shorten HOOKMILL_DEDUP_WINDOW" if too_much else "plan for it",
    )


def _judge_retention(
    overview: Overview, settings: Settings, rate: float | None
) -> Iterator[Finding]:
    """Say what retained messages take."""
    if not settings.retention or overview.bytes is None:
        return
    kept, each = overview.length, overview.bytes / max(1, overview.length)
    if rate is not None and overview.length:
        kept = round(rate * settings.retention)
    needed = round(kept * each)
    too_much = 0 < overview.maxmemory < overview.used_memory - overview.bytes + needed
    yield Finding(
        level="warning" if too_much else "note",
        what=f"handled messages stay for {span(settings.retention)}: "
        f"{kept:,} entries, {size(needed)}" + (f", at {rate:g} a second" if rate else " now"),
        why="a group that starts later can still handle them"
        + (f"; maxmemory is {size(overview.maxmemory)}" if too_much else ""),
        do="raise maxmemory, or shorten HOOKMILL_RETENTION" if too_much else "plan for it",
    )
