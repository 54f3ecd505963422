"""Judges the Redis server: version, whether it takes writes, how durable they are, its clock.

No I/O: `hookmill/stream/inspector.py` gathers the facts.
"""

from __future__ import annotations

from collections.abc import Iterator

from hookmill.admin.findings import Finding
from hookmill.admin.units import count
from hookmill.config.settings import Settings
from hookmill.stream.facts import ServerFacts

FLOOR = {"Redis": (6, 2), "Valkey": (7, 2)}
"""The oldest release of each that has all the commands that we need."""

FIXED_SINCE = {
    "Redis": {(7, 4): 10, (8, 2): 9, (8, 4): 6, (8, 6): 6, (8, 8): 2, (8, 10): 1},
    "Valkey": {(8, 1): 9, (9, 0): 6, (9, 1): 2},
}
"""For each release the first patch without a known fault that an attacker can use (September 2026).
Releases that are not named here are not judged.
"""

UNMAINTAINED = {"Redis": ((7, 0),), "Valkey": ()}

CLOCK_DIFFERENCE = 2.0
"""How many seconds this machine's clock may differ from Redis' clock."""


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
            why="this clock decides whether a signed token is in time, Redis' clock decides about "
            "duplicates and delays",
            do="synchronise the clocks of both machines with a time server (NTP)",
        )
    for text in server.hidden:
        yield Finding(
            level="note",
            what=f"could not be looked at: {text}",
            why="managed servers often forbid it, so that nothing could be judged from it",
            do="look it up in your provider's console",
        )


def _judge_version(server: ServerFacts) -> Iterator[Finding]:
    release, patch = _release(server.version)
    name = f"{server.flavour} {server.version}"
    if release < FLOOR[server.flavour]:
        yield Finding(
            level="error",
            what=f"{name} is too old",
            why="commands that Hookmill needs are missing or work differently",
            do="use Redis 6.2 or newer, or Valkey 7.2 or newer",
        )
    fixed = FIXED_SINCE[server.flavour].get(release)
    if fixed is not None and patch < fixed:
        yield Finding(
            level="warning",
            what=f"{name} has known security faults",
            why="anyone who reaches the server could crash it or take it over",
            do=f"update it to {release[0]}.{release[1]}.{fixed} or newer",
        )
    if release in UNMAINTAINED[server.flavour]:
        yield Finding(
            level="note",
            what=f"{name} is no longer maintained by its makers",
            why="security faults are fixed only where your distribution does it",
            do="plan for a newer release",
        )
    if server.missing:
        yield Finding(
            level="error",
            what=f"the server does not have {', '.join(server.missing)}",
            why="workers could not take messages, or not settle them",
            do="use Redis 6.2 or newer, or Valkey 7.2 or newer, with these commands enabled",
        )
    if server.is_cluster and not server.address:
        yield Finding(
            level="warning",
            what="the server is a node of a Redis Cluster",
            why="REDIS_URL names one node, and it is wrong as soon as the keys move to another",
            do="set REDIS_URL to redis+cluster://HOST:PORT,HOST:PORT, with some of the nodes",
        )


def _remedy(refusal: str) -> str:
    if "maxmemory" in refusal:
        return (
            "raise maxmemory (CONFIG SET maxmemory), or start more workers: they can still finish "
            "what is there, which gives room. `hookmill status` shows what fills it"
        )
    if "MISCONF" in refusal or "disk" in refusal:
        return (
            "make room on the disk of Redis: it cannot write its snapshot or its append-only file"
        )
    return "fix the cause that Redis names"


def _judge_writes(server: ServerFacts) -> Iterator[Finding]:
    if server.is_replica:
        yield Finding(
            level="error",
            what="the server is a replica",
            why="it refuses writes, or loses them at its next synchronisation",
            do="set REDIS_URL to the primary",
        )
    elif server.refusal:
        yield Finding(
            level="error",
            what=f"the server refuses writes: {server.refusal}",
            why="no delivery can be stored, so receivers answer 503",
            do=_remedy(server.refusal),
        )
    if server.aof_failed or server.snapshot_failed:
        yield Finding(
            level="error",
            what=f"the last {'AOF write' if server.aof_failed else 'snapshot'} failed",
            why="a restart loses what is not on the disk, and Redis may refuse writes",
            do="look at the server's log: the disk may be full",
        )


def _judge_durability(server: ServerFacts, durability: str) -> Iterator[Finding]:
    fsync, waits = server.appendfsync, durability != "memory"
    if not server.aof:
        yield Finding(
            level="error",
            what="appendonly is off",
            why="a restart of Redis loses messages that were answered with 200",
            do="run CONFIG SET appendonly yes and CONFIG SET appendfsync always on the running "
            "server, then write both into its configuration file (after a restart with a changed "
            "file alone, Redis is empty)",
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
            why="this durability is not possible here: receivers would not start",
            do="set appendfsync always, or use Redis 7.2 or newer",
        )
    if durability.startswith("replicas:"):
        wanted = int(durability.partition(":")[2])
        if server.replicas < wanted:
            yield Finding(
                level="error",
                what=f"HOOKMILL_DURABILITY is {durability}; "
                f"{count(server.replicas, 'replica is', 'replicas are')} connected",
                why="every delivery would be refused with 503",
                do="connect more replicas, or ask for fewer",
            )


def _release(version: str) -> tuple[tuple[int, int], int]:
    """Split "8.2.9" into its release and its patch; what is not a number counts as 0."""
    parts = [int(part) if part.isdecimal() else 0 for part in version.split(".")]
    major, minor, patch = (*parts, 0, 0, 0)[:3]
    return (major, minor), patch
