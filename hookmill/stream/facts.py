"""What can be known about the server, the stream and its groups, as plain values. No I/O."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

SILENCE = 60.0
"""Seconds of silence after which a worker of an older release, which writes no heartbeat, counts as
gone; a lease, if that is longer.
"""

CAN_PAUSE = "pause"
"""What the heartbeat of a worker that heeds pauses says that it can."""


class Backlog(NamedTuple):
    """How many messages are unfinished, and how many bytes they have. In a limit, 0 means none."""

    messages: int
    bytes: int

    def share(self, partitions: int) -> Backlog:
        """Return one partition's part of a limit."""
        return Backlog(*(math.ceil(number / partitions) for number in self))


NO_LIMIT = Backlog(0, 0)


ALL = "all"
"""The name of the pause of all that a group has."""


class Pause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pause, as it is noted. Times are Unix milliseconds by Redis' clock, 0 for none.

    `kind` says what `value` is: a handler, a source, or the ordering key of a `source`. `names` are
    the names of the handler, older ones included. `held_back` counts the messages that it holds
    back. Where it `is_ending`, these are being put back.
    """

    kind: Literal["all", "handler", "source", "key"]
    value: str = ""
    source: str = ""
    names: tuple[str, ...] = ()
    who: str = ""
    why: str = ""
    since_ms: int = 0
    until_ms: int = 0
    held_back: int = 0
    is_ending: bool = False

    @property
    def name(self) -> str:
        """The name under which it is noted. There is one pause of each name."""
        if self.kind == "key":
            return f"key:{self.source}:{self.value}"
        return ALL if self.kind == "all" else f"{self.kind}:{self.value}"


class ConsumerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process as Redis knows it: how many entries it holds, and for how long it was silent
    (milliseconds). `lease_number` is None for a worker of an older release, which writes none.
    """

    name: str
    pending: int
    idle_ms: int
    lease_number: int | None = None


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker says of itself. What a heartbeat of another release leaves out is at its
    default. docs/reference/redis-keys.md describes each field; spans of time are in seconds.
    """

    name: str
    host: str = ""
    pid: int = 0
    version: str = ""
    group: str = ""
    wire_versions: tuple[int, ...] = ()
    handlers: dict[str, tuple[str, ...]] = {}
    aliases: dict[str, str] = {}
    ignored: tuple[str, ...] = ()
    can: tuple[str, ...] = ()
    concurrency: int = 0
    threads: int = 0
    lease: float = 0.0
    uptime: float = 0.0
    held: int = 0
    oldest_held: float | None = None
    free_slots: int = 0
    free_threads: int = 0
    program: str = ""
    stuck_threads: int = 0
    sick: str = ""
    sick_why: str = ""
    troubles: dict[str, str] = {}
    age_ms: int = 0
    """How old it is, by Redis' clock. The reader sets it; it is not written."""


class GroupFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a group's work is in which state. `waiting` is None where Redis cannot say.

    `parked` messages wait for another one with their ordering key, `paused` ones for the end of
    their pause. `oldest_ms` is when the oldest
    message that waits, is held or was requeued was received (Unix milliseconds).
    `remembered` counts message IDs. `duplicates` counts entries that were dropped because their ID
    was known. `late` counts outcomes that were ignored because another worker had the message.
    `backlog_bytes` are those of the unfinished messages when they were last measured, less what was
    finished since (None: never measured).
    `dead_bytes` is what dead letters take of Redis' memory, about (None where Redis does not say);
    `oldest_dead_ms` is when the oldest one was written. `dead_reasons` tells how many there are
    of each reason, the most first (hookmill/stream/dead_reasons.py).
    `heartbeats` are those of the workers whose event loop runs.
    `due` are those of the delayed messages that are due by now, `next_due_ms` is when the first of
    the delayed ones is (None: none is delayed). `could_run_ms` is since when the oldest message
    could have run that no worker has taken (None: there is none). `guessed_waiting` is an estimate
    where Redis cannot say how many wait.
    """

    name: str
    waiting: int | None
    held: int
    delayed: int
    again: int
    parked: int
    dead: int
    oldest_ms: int | None
    remembered: int
    duplicates: int
    late: int
    consumers: tuple[ConsumerFacts, ...]
    dead_bytes: int | None = None
    backlog_bytes: int | None = None
    oldest_dead_ms: int | None = None
    heartbeats: tuple[Heartbeat, ...] = ()
    paused: int = 0
    pauses: tuple[Pause, ...] = ()
    due: int = 0
    next_due_ms: int | None = None
    could_run_ms: int | None = None
    guessed_waiting: int = 0
    dead_reasons: dict[str, int] = {}

    @property
    def unread(self) -> int:
        """How many messages wait; an estimate where Redis cannot say."""
        return self.guessed_waiting if self.waiting is None else self.waiting

    @property
    def runnable(self) -> int:
        """How many messages workers could have in hand now: what waits, what is to be taken again,
        what is due, and what they hold. It is the number to scale workers by. While all is paused,
        that is what they hold.
        """
        if any(pause.kind == "all" and not pause.is_ending for pause in self.pauses):
            return self.held
        return self.unread + self.again + self.due + self.held

    @property
    def has_work(self) -> bool:
        """Whether anything waits for a worker of this group."""
        return self.waiting != 0 or bool(
            self.held or self.delayed or self.again or self.parked or self.paused
        )

    @property
    def backlog(self) -> int | None:
        """How many messages are unfinished; None where Redis cannot say how many wait."""
        if self.waiting is None:
            return None
        return self.waiting + self.held + self.delayed + self.again + self.parked + self.paused

    def pins(self, lease: float) -> bool:
        """Return whether there is unfinished work and no worker for it. Then the stream keeps it,
        and it counts as backlog, for as long as nobody does anything.
        """
        return self.has_work and not self.workers(lease)

    def workers(self, lease: float) -> int:
        """Return how many workers of this group run: those with a heartbeat, and those of an older
        release that were not silent for too long. `lease` is in seconds.
        """
        limit = max(SILENCE, lease) * 1000
        older = [one for one in self.without_heartbeat if one.lease_number is None]
        return len(self.heartbeats) + sum(one.idle_ms < limit for one in older)

    def cannot_pause(self, lease: float) -> list[str]:
        """Return the names of the workers that run and heed no pause, because they are of an older
        release. `lease` is in seconds.
        """
        return heedless_among(self.heartbeats, self.without_heartbeat, lease)

    def heedless(self, lease: float) -> list[str]:
        """Return the same while something is paused, which they run all the same; else none."""
        return self.cannot_pause(lease) if self.pauses else []

    @property
    def without_heartbeat(self) -> list[ConsumerFacts]:
        """The consumers without a heartbeat: of an older release (without a lease number), killed,
        or with a blocked event loop.
        """
        alive = {one.name for one in self.heartbeats}
        return [one for one in self.consumers if one.name not in alive]

    def blocked(self, lease: float) -> list[ConsumerFacts]:
        """Return the workers whose event loop is blocked while their leases are still renewed.

        A killed worker was silent for two thirds of a lease when its heartbeat ends, because both
        are written every third of a lease. A blocked one renewed what it holds since then.
        """
        return [
            one
            for one in self.without_heartbeat
            if one.lease_number is not None and one.pending and one.idle_ms < lease * 500
        ]


def sum_of(parts: list[GroupFacts]) -> GroupFacts:
    """Add up the facts of a group in each of the partitions."""
    waiting = [part.waiting for part in parts if part.waiting is not None]
    sizes = [part.dead_bytes for part in parts if part.dead_bytes is not None]
    unfinished = [part.backlog_bytes for part in parts if part.backlog_bytes is not None]
    consumers: dict[str, list[ConsumerFacts]] = {}
    for part in parts:
        for one in part.consumers:
            consumers.setdefault(one.name, []).append(one)
    counts = (
        *("held", "delayed", "again", "parked", "paused", "dead"),
        *("remembered", "duplicates", "late"),
    )
    return GroupFacts(
        name=parts[0].name,
        waiting=sum(waiting) if len(waiting) == len(parts) else None,
        oldest_ms=earliest(part.oldest_ms for part in parts),
        dead_bytes=sum(sizes) if len(sizes) == len(parts) else None,
        backlog_bytes=sum(unfinished) if len(unfinished) == len(parts) else None,
        oldest_dead_ms=earliest(part.oldest_dead_ms for part in parts),
        guessed_waiting=0 if len(waiting) == len(parts) else sum(part.unread for part in parts),
        due=sum(part.due for part in parts),
        dead_reasons=dict(_sum_of_reasons(parts)),
        next_due_ms=earliest(part.next_due_ms for part in parts),
        could_run_ms=earliest(part.could_run_ms for part in parts),
        consumers=tuple(
            ConsumerFacts(
                name=name,
                pending=sum(one.pending for one in each),
                idle_ms=min(one.idle_ms for one in each),
            )
            for name, each in sorted(consumers.items())
        ),
        **{count: sum(getattr(part, count) for part in parts) for count in counts},
    )


def heedless_among(
    heartbeats: Iterable[Heartbeat], others: Iterable[ConsumerFacts], lease: float
) -> list[str]:
    """Return the names of the workers that heed no pause. `others` have no heartbeat."""
    silent_ms = max(SILENCE, lease) * 1000
    older = [one.name for one in heartbeats if CAN_PAUSE not in one.can]
    older += [one.name for one in others if one.lease_number is None and one.idle_ms < silent_ms]
    return sorted(older)


def _sum_of_reasons(parts: list[GroupFacts]) -> list[tuple[str, int]]:
    """Return how many dead letters there are of each reason, the most first."""
    found: Counter[str] = Counter()
    for part in parts:
        found.update(part.dead_reasons)
    return sorted(found.items(), key=lambda one: (-one[1], one[0]))


def earliest(times: Iterable[int | None]) -> int | None:
    """Return the first of these times; None where there is none."""
    return min([time for time in times if time is not None], default=None)


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The stream and its groups. `now_ms` is Redis' time (Unix milliseconds), `length` the entries
    of the stream, `bytes` its size (None where Redis does not say). What is said is without the
    `unseen` partitions, which could not be asked: the number of each, and why.
    """

    now_ms: int
    partitions: int
    length: int
    bytes: int | None
    used_memory: int
    maxmemory: int
    groups: tuple[GroupFacts, ...]
    unseen: dict[int, str] = {}


class SentinelFacts(NamedTuple):
    """How a master is watched: by how many sentinels, how many have to agree that it has failed,
    and how many replicas could take its place.
    """

    sentinels: int
    quorum: int
    replicas: int


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A server and its configuration. None means that the server does not tell, see `hidden`.

    `missing` are commands that we need and that it does not have. `refusal` is the error with
    which it refuses a write ("" where it takes it). `clock_ahead` is by how many seconds this
    machine's clock is ahead of Redis' own (below 0: behind). `hidden` says what could not be read.
    Of a node of a Redis Cluster there are its `address` and its `partitions` as well. `settings`
    are those that it was asked for and has told. `maxclients` is how many connections it takes (0:
    it does not say), `clients` is how many it has.
    """

    flavour: Literal["Redis", "Valkey"]
    version: str
    aof: bool
    aof_failed: bool
    snapshot_failed: bool
    appendfsync: str | None
    policy: str
    is_replica: bool
    replicas: int
    is_cluster: bool
    missing: tuple[str, ...] | None
    has_waitaof: bool | None
    refusal: str
    clock_ahead: float
    hidden: tuple[str, ...]
    address: str = ""
    partitions: tuple[int, ...] = ()
    used_memory: int = 0
    maxmemory: int = 0
    maxclients: int = 0
    clients: int = 0
    settings: dict[str, str] = {}
