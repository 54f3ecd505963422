"""What can be known about the server, the stream and its groups, as plain values. No I/O."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import msgspec

SILENCE = 60.0
"""Seconds of silence after which a worker counts as gone; a lease, if that is longer."""


class Backlog(NamedTuple):
    """How many messages are unfinished, and how many bytes they have. In a limit, 0 means none."""

    messages: int
    bytes: int

    def share(self, partitions: int) -> Backlog:
        """Return one partition's part of a limit."""
        return Backlog(*(math.ceil(number / partitions) for number in self))


NO_LIMIT = Backlog(0, 0)


class ConsumerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process as Redis knows it: how many entries it holds, and for how long it was silent
    (milliseconds).
    """

    name: str
    pending: int
    idle_ms: int


class GroupFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a group's work is in which state. `waiting` is None where Redis cannot say.

    `parked` messages wait for another one with their ordering key. `oldest_ms` is when the oldest
    message that waits, is held or was requeued was received (Unix milliseconds).
    `remembered` counts message IDs. `duplicates` counts entries that were dropped because their ID
    was known. `late` counts outcomes that were ignored because another worker had the message.
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

    @property
    def has_work(self) -> bool:
        """Whether anything waits for a worker of this group."""
        return self.waiting != 0 or bool(self.held or self.delayed or self.again or self.parked)

    def workers(self, lease: float) -> int:
        """Return how many workers of this group were not silent for too long. `lease` is in
        seconds.
        """
        return sum(one.idle_ms < max(SILENCE, lease) * 1000 for one in self.consumers)


def sum_of(parts: list[GroupFacts]) -> GroupFacts:
    """Add up the facts of a group in each of the partitions."""
    waiting = [part.waiting for part in parts if part.waiting is not None]
    oldest = [part.oldest_ms for part in parts if part.oldest_ms is not None]
    consumers: dict[str, list[ConsumerFacts]] = {}
    for part in parts:
        for one in part.consumers:
            consumers.setdefault(one.name, []).append(one)
    counts = ("held", "delayed", "again", "parked", "dead", "remembered", "duplicates", "late")
    return GroupFacts(
        name=parts[0].name,
        waiting=sum(waiting) if len(waiting) == len(parts) else None,
        oldest_ms=min(oldest, default=None),
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


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The stream and its groups. `now_ms` is Redis' time (Unix milliseconds), `length` the entries
    of the stream, `bytes` its size (None where Redis does not say).
    """

    now_ms: int
    partitions: int
    length: int
    bytes: int | None
    used_memory: int
    maxmemory: int
    groups: tuple[GroupFacts, ...]


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A server and its configuration. None means that the server does not tell, see `hidden`.

    `missing` are commands that we need and that it does not have. `refusal` is the error with
    which it refuses a write ("" where it takes it). `clock_ahead` is by how many seconds this
    machine's clock is ahead of Redis' own (below 0: behind). `hidden` says what could not be read.
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
