"""Judges the memory of the Redis server: its bound, what happens at it, and what will be needed.

No I/O. Needed is what remembered message IDs and retained messages take, now or at a given rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hookmill.admin.findings import Finding
from hookmill.admin.id_rates import SourceRate
from hookmill.admin.units import size, span
from hookmill.config.settings import Settings
from hookmill.config.windows import own_windows
from hookmill.stream.facts import Overview, ServerFacts

BYTES_PER_ID = 37
"""Redis' memory for a remembered message ID. `python -m benchmarks.dedup_memory` measures it."""

NEARLY_FULL = 0.8
"""The share of maxmemory above which too little is left for a backlog."""


def judge_needs(
    overview: Overview,
    settings: Settings,
    rate: float | None,
    sources: Sequence[SourceRate] = (),
) -> Iterator[Finding]:
    """Say what is needed, on all servers together. `sources` says how much of the rate is whose;
    without that it counts for the window of all.
    """
    if rate is None:
        yield _ids_now(overview, settings)
    else:
        rates = sources or [SourceRate("", rate, settings.dedup_window)]
        yield _ids_needed(overview, rate, rates)
        if len(rates) > 1:
            yield from (_ids_of_source(overview, one) for one in _by_need(rates))
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


def _ids_now(overview: Overview, settings: Settings) -> Finding:
    """Say what the memory of message IDs takes."""
    now = sum(group.remembered for group in overview.groups)
    return Finding(
        level="note",
        what=f"{now:,} message IDs are remembered: about {size(now * BYTES_PER_ID)}",
        why=_for_how_long({settings.dedup_window, *own_windows(settings)}),
        do="give --rate MESSAGES_PER_SECOND to see what a rate would cost, or --rate "
        "SOURCE=MESSAGES_PER_SECOND",
    )


def _ids_needed(overview: Overview, rate: float, rates: Sequence[SourceRate]) -> Finding:
    """Say what the memory of message IDs will take."""
    each_group = "" if len(overview.groups) < 2 else f", in each of {len(overview.groups)} groups"
    now = sum(group.remembered for group in overview.groups)
    numbers, memory, most = _needed(overview, *rates)
    others = overview.used_memory - now * BYTES_PER_ID
    too_much = 0 < overview.maxmemory < others + most
    shorten = "HOOKMILL_DEDUP_WINDOW"
    if (largest := _by_need(rates)[0].source) and len(rates) > 1:
        shorten = f"dedup_window of {largest}"
    return Finding(
        level="warning" if too_much else "note",
        what=f"at {rate:g} messages a second, {numbers} message IDs are remembered"
        f"{each_group}: {memory}",
        why=_for_how_long({one.window for one in rates})
        + (f"; maxmemory is {size(overview.maxmemory)}" if too_much else ""),
        do=f"raise maxmemory, or shorten {shorten}" if too_much else "plan for it",
    )


def _ids_of_source(overview: Overview, one: SourceRate) -> Finding:
    numbers, memory, _ = _needed(overview, one)
    name = f"source {one.source}" if one.source else "the other sources"
    return Finding(
        level="note",
        what=f"of these, {name} has {numbers}: {memory}",
        why=f"{one.rate:,.6g} messages a second"
        + (", its share of the last day" if one.is_share else "")
        + f", each for {span(one.window)} to {span(2 * one.window)}",
        do="a shorter dedup_window in its table makes it less"
        if one.source
        else "give --rate SOURCE=MESSAGES_PER_SECOND for those with a dedup_window of their own",
    )


def _needed(overview: Overview, *rates: SourceRate) -> tuple[str, str, int]:
    """Return how many IDs are remembered in a group and what they take in all, in words, and the
    most bytes.
    """
    ids = sum(one.rate * one.window for one in rates)
    least, most = round(ids), round(2 * ids)
    each = max(1, len(overview.groups)) * BYTES_PER_ID
    return f"{least:,} to {most:,}", f"{size(least * each)} to {size(most * each)}", most * each


def _by_need(rates: Sequence[SourceRate]) -> list[SourceRate]:
    return sorted(rates, key=lambda one: -one.rate * one.window)


def _for_how_long(windows: set[int]) -> str:
    if len(windows) > 1:
        spans = ", ".join(span(one) for one in sorted(windows))
        return f"each for one to two windows of its source ({spans}), at {BYTES_PER_ID} B"
    (window,) = windows
    return f"each for {span(window)} to {span(2 * window)}, at {BYTES_PER_ID} B"


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
