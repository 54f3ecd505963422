"""What a look at the server, the stream and its groups brings, as plain values. No I/O."""

from __future__ import annotations

from typing import Literal

import msgspec

SILENCE = 60.0
"""Seconds after which a worker that nothing was heard of counts as gone, or a lease if longer."""


class ConsumerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process as Redis knows it. `idle_ms`: since it was last heard of."""

    name: str
    pending: int
    idle_ms: int


class GroupFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a group's work is in which state. `waiting` is None where Redis cannot say.

    `parked` are those that others with the same ordering key go before. `oldest_ms` is when the
    oldest message came that waits, is held, or is to be taken again (Unix milliseconds).
    `remembered` counts message IDs, `duplicates` the deliveries that only repeated one, `late` the
    outcomes of workers that had lost their message to another.
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
        """Return how many workers of this group were heard of lately; none: nobody runs it."""
        return sum(one.idle_ms < max(SILENCE, lease) * 1000 for one in self.consumers)


def together_of(parts: list[GroupFacts]) -> GroupFacts:
    """Add up a group's parts in the partitions."""
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
    """The stream and its groups. `now_ms` is Redis' time; `bytes` is None where it cannot say."""

    now_ms: int
    partitions: int
    length: int
    bytes: int | None
    used_memory: int
    maxmemory: int
    groups: tuple[GroupFacts, ...]


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A server as it shows itself. None: it could not be looked at, as `hidden` says.

    `missing` are commands that we need and that it does not have; `refusal` is what it says to a
    write; `clock_ahead` is by how many seconds this machine's clock is before Redis' own.
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
