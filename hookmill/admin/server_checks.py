"""What `hookmill check` and `hookmill status` have to say: facts in, findings out.

No I/O: `stream/inspect.py` gathers the facts, `overview.py` prints. Every judgement on a server's
version or configuration is here, with its reason and what to do about it; those on the sources are
in `judging.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from hookmill.admin.describe import span
from hookmill.admin.findings import Finding
from hookmill.config.settings import Settings, unknown_variables
from hookmill.config.source_options import QSTASH, preset_of
from hookmill.config.sources import names_of
from hookmill.stream.facts import (
    Overview,
    ServerFacts,
)

BYTES_PER_ID = 37
"""Redis' memory for a remembered message ID. `python -m benchmarks.dedup_memory` measures it."""

FLOOR = {"Redis": (6, 2), "Valkey": (7, 2)}

FIXED_SINCE = {
    "Redis": {(7, 4): 10, (8, 2): 9, (8, 4): 6, (8, 6): 6, (8, 8): 2, (8, 10): 1},
    "Valkey": {(8, 1): 9, (9, 0): 6, (9, 1): 2},
}
"""The patch of each release from which on no fault is known that an attacker can use
(September 2026). Releases that are not named here are not judged.
"""

UNMAINTAINED = {"Redis": ((7, 0),), "Valkey": ()}

CLOCK_DIFFERENCE = 2.0
"""Seconds by which this machine's clock may differ from Redis' own."""


NEARLY_FULL = 0.8
"""The part of maxmemory from which on there is too little room for a bad day."""

LEAST_WINDOW = 24 * 3600
"""Seconds for which senders repeat a delivery at least."""


def judge_settings(settings: Settings) -> Iterator[Finding]:
    """Judge what was set, as far as it can be judged without Redis."""
    by_token = (preset_of(name, settings.options_of(name)) in QSTASH for name in names_of(settings))
    if settings.public_url is None and any(by_token):
        yield Finding(
            level="warning",
            what="HOOKMILL_PUBLIC_URL is not set",
            why="a QStash token that was made for another of your URLs would be accepted here",
            do="set it to the base URL that senders were given, such as https://app.example",
        )
    if settings.dedup_window < LEAST_WINDOW:
        yield Finding(
            level="warning",
            what=f"a message ID is remembered for {span(settings.dedup_window)} only",
            why="senders repeat a delivery for days; a later repeat would run once more",
            do="set HOOKMILL_DEDUP_WINDOW to 259200 (72 h), unless your senders give up earlier",
        )
    for name in unknown_variables():
        yield Finding(
            level="warning",
            what=f"{name} is set, and nothing reads it",
            why="it may be misspelt: what it was to change is not changed",
            do="compare it with the settings table in the README, or unset it",
        )


def judge_server(server: ServerFacts, settings: Settings) -> Iterator[Finding]:
    """Judge the server itself."""
    yield from _judge_version(server)
    yield from _judge_writes(server)
    yield from _judge_durability(server, settings.durability)
    if abs(server.clock_ahead) > CLOCK_DIFFERENCE:
        yield Finding(
            level="warning",
            what=f"this machine's clock is {abs(server.clock_ahead):.1f} s "
            f"{'ahead of' if server.clock_ahead > 0 else 'behind'} Redis'",
            why="signed tokens are judged by the one, dedup and delays follow the other",
            do="have both follow a time server",
        )
    for text in server.hidden:
        yield Finding(
            level="note",
            what=f"could not be looked at: {text}",
            why="managed servers often forbid it; nothing was judged from it",
            do="look it up in your provider's console",
        )


def _judge_version(server: ServerFacts) -> Iterator[Finding]:
    release, patch = _release(server.version)
    name = f"{server.flavour} {server.version}"
    if release < FLOOR[server.flavour]:
        yield Finding(
            level="error",
            what=f"{name} is too old",
            why="commands that we rely on are missing or behave otherwise",
            do="use Redis 6.2 or newer, or Valkey 7.2 or newer",
        )
    fixed = FIXED_SINCE[server.flavour].get(release)
    if fixed is not None and patch < fixed:
        yield Finding(
            level="warning",
            what=f"{name} has known security faults",
            why="whoever reaches the server could crash it or take it over",
            do=f"update it to {release[0]}.{release[1]}.{fixed} or newer",
        )
    if release in UNMAINTAINED[server.flavour]:
        yield Finding(
            level="note",
            what=f"{name} is no longer maintained by its makers",
            why="security faults are mended only where your distribution does it",
            do="plan for a newer release",
        )
    if server.missing:
        yield Finding(
            level="error",
            what=f"the server does not have {', '.join(server.missing)}",
            why="messages could not be taken or settled",
            do="use Redis 6.2 or newer, or Valkey 7.2 or newer, with these commands enabled",
        )
    if server.is_cluster:
        yield Finding(
            level="warning",
            what="the server is a node of a Redis Cluster",
            why="all keys lie in one slot; should it move to another node, this URL is wrong",
            do="use a server that is not part of a cluster",
        )


def _judge_writes(server: ServerFacts) -> Iterator[Finding]:
    if server.is_replica:
        yield Finding(
            level="error",
            what="the server is a replica",
            why="it refuses writes, or forgets them at the next synchronisation",
            do="have REDIS_URL name the primary",
        )
    elif server.refusal:
        yield Finding(
            level="error",
            what=f"the server refuses writes: {server.refusal}",
            why="no delivery can be stored; receivers answer 503",
            do="mend what it says",
        )
    if server.aof_failed or server.snapshot_failed:
        yield Finding(
            level="error",
            what=f"the last {'AOF write' if server.aof_failed else 'snapshot'} failed",
            why="what is not on the disk is lost with a restart, and Redis may refuse writes",
            do="look at the server's log: the disk may be full",
        )


def _judge_durability(server: ServerFacts, durability: str) -> Iterator[Finding]:
    fsync, waits = server.appendfsync, durability != "memory"
    if not server.aof:
        yield Finding(
            level="error",
            what="appendonly is off",
            why="a restart of Redis loses messages that were answered with 200",
            do="set appendonly yes and appendfsync always",
        )
    elif fsync in {"everysec", "no"} and not waits:
        lost = "a second or two" if fsync == "everysec" else "half a minute"
        yield Finding(
            level="warning",
            what=f"appendfsync is {fsync}",
            why=f"a power cut loses {lost} of messages that were answered with 200",
            do="set appendfsync always, or HOOKMILL_DURABILITY=aof",
        )
    if durability == "aof" and server.has_waitaof is False and fsync not in {"always", None}:
        yield Finding(
            level="error",
            what=f"HOOKMILL_DURABILITY is aof, the server has no WAITAOF, appendfsync is {fsync}",
            why="what is asked cannot be had; receivers would not start",
            do="set appendfsync always, or use Redis 7.2 or newer",
        )
    if durability.startswith("replicas:"):
        wanted = int(durability.partition(":")[2])
        if server.replicas < wanted:
            yield Finding(
                level="error",
                what=f"HOOKMILL_DURABILITY is {durability}; "
                f"{_count(server.replicas, 'replica is', 'replicas are')} connected",
                why="every delivery would be refused with 503",
                do="connect more replicas, or ask for fewer",
            )


def judge_memory(
    server: ServerFacts, overview: Overview, settings: Settings, rate: float | None
) -> Iterator[Finding]:
    """Judge the room there is; with the `rate` of messages a second, the room there has to be."""
    limit, used = overview.maxmemory, overview.used_memory
    if server.policy != "noeviction":
        yield Finding(
            level="error" if limit else "warning",
            what=f"maxmemory-policy is {server.policy}",
            why="a full Redis deletes messages, or the records of IDs, without a word"
            if limit
            else "as soon as maxmemory is set, a full Redis deletes messages without a word",
            do="set maxmemory-policy noeviction: then it refuses, and senders come again",
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
            what=f"{used / limit:.0%} of maxmemory is in use "
            f"({readable_size(used)} of {readable_size(limit)})",
            why="a full Redis takes no more deliveries; receivers answer 503",
            do="give it more memory, or see with `hookmill status` what fills it",
        )
    if limit and not 0 < settings.backlog_bytes < limit:
        yield Finding(
            level="warning",
            what="HOOKMILL_BACKLOG_BYTES is not below maxmemory",
            why="a backlog would fill Redis before it is refused, and leave no room for retries",
            do=f"set it to less than {limit}",
        )
    yield from _judge_dedup(overview, settings, rate)
    yield from _judge_retention(overview, settings, rate)


def _judge_dedup(overview: Overview, settings: Settings, rate: float | None) -> Iterator[Finding]:
    window = settings.dedup_window
    each_group = "" if len(overview.groups) < 2 else f", in each of {len(overview.groups)} groups"
    now = sum(group.remembered for group in overview.groups)
    if rate is None:
        yield Finding(
            level="note",
            what=f"{now:,} message IDs are remembered: about {readable_size(now * BYTES_PER_ID)}",
            why=f"each for {span(window)} to {span(2 * window)}, at {BYTES_PER_ID} B",
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
        f"{each_group}: {readable_size(least * groups * BYTES_PER_ID)} to "
        f"{readable_size(most * groups * BYTES_PER_ID)}",
        why=f"each for {span(window)} to {span(2 * window)}, at {BYTES_PER_ID} B"
        + (f"; maxmemory is {readable_size(overview.maxmemory)}" if too_much else ""),
        do="raise maxmemory, or shorten HOOKMILL_DEDUP_WINDOW" if too_much else "plan for it",
    )


def _judge_retention(
    overview: Overview, settings: Settings, rate: float | None
) -> Iterator[Finding]:
    if not settings.retention or overview.bytes is None:
        return
    kept, each = overview.length, overview.bytes / max(1, overview.length)
    if rate is not None and overview.length:
        kept = round(rate * settings.retention)
    size = round(kept * each)
    too_much = 0 < overview.maxmemory < overview.used_memory - overview.bytes + size
    yield Finding(
        level="warning" if too_much else "note",
        what=f"handled messages stay for {span(settings.retention)}: "
        f"{kept:,} entries, {readable_size(size)}"
        + (f", at {rate:g} a second" if rate else " now"),
        why="they can be handled anew by a group that starts later"
        + (f"; maxmemory is {readable_size(overview.maxmemory)}" if too_much else ""),
        do="raise maxmemory, or shorten HOOKMILL_RETENTION" if too_much else "plan for it",
    )


def judge_groups(overview: Overview, settings: Settings) -> Iterator[Finding]:
    """Judge whether what waits is waited upon."""
    names = {group.name for group in overview.groups}
    if overview.length and settings.group not in names:
        yield Finding(
            level="warning",
            what=f"no worker of group {settings.group} has ever run, and messages are there",
            why="nobody handles them",
            do=f"start `hookmill worker --group {settings.group}`",
        )
    for group in overview.groups:
        if group.has_work and not group.workers(settings.lease):
            yield Finding(
                level="warning",
                what=f"nobody runs group {group.name}, and messages wait for it",
                why="the stream keeps all that any group has yet to finish: it only grows",
                do=f"start `hookmill worker --group {group.name}`, or remove the group for good "
                "with XGROUP DESTROY",
            )
        if group.dead:
            letters = _count(group.dead, "dead letter lies", "dead letters lie")
            yield Finding(
                level="note",
                what=f"{letters} in group {group.name}",
                why="each is a message that was accepted and not handled",
                do="see `hookmill dead list`; replay what is mended, drop what is of no use",
            )


def _release(version: str) -> tuple[tuple[int, int], int]:
    """Split "8.2.9" into its release and its patch; what is no number counts as 0."""
    parts = [int(part) if part.isdecimal() else 0 for part in version.split(".")]
    major, minor, patch = (*parts, 0, 0, 0)[:3]
    return (major, minor), patch


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def readable_size(number: float) -> str:
    """Write bytes as people do."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return (
                f"{number:.0f} {unit}" if number >= 99.5 or unit == "B" else f"{number:.2g} {unit}"
            )
        number /= 1000
    return f"{number:,.1f} TB"
