"""What is taken from Redis and settled there, as plain values. No I/O.

What is made for each message is a struct, because a named tuple takes three times as long to make.
The garbage collector need not look at it (`gc=False`), because it can be in no cycle.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import msgspec

from hookmill.message import PACKED, Fields, Progress

STREAM, AGAIN = 1, 2
"""The two streams that a group takes from, by their key numbers in the scripts."""

NOT_LISTED = ("headers", "body", PACKED)
"""The fields that a list does not show; of `PACKED` it shows the beginning (`surveyed.lua`)."""


def weight_of(fields: Fields) -> int:
    """Return how many bytes an entry has: those of its values, as `weight.lua` counts them."""
    return sum(map(len, fields.values()))


class EntryRef(msgspec.Struct, frozen=True, cache_hash=True, gc=False):
    """Where an entry is: in a partition's stream, or in the group's own stream of that partition.
    `key_number` is `STREAM` or `AGAIN`, `id` the entry's ID in Redis.
    """

    key_number: int
    id: str
    partition: int = 0


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A stream entry as it was taken, its fields not decoded. `weight` is how many bytes it has.

    A suspect is an entry that was taken over at least twice. It may be what crashes its workers,
    so it has to run alone: a crash must not concern other messages.
    """

    ref: EntryRef
    fields: Fields
    is_suspect: bool = False
    weight: int = 0

    @property
    def key(self) -> bytes:
        """The ordering key with its source, in every wire version; empty if there is none."""
        key = self.fields.get(b"key")
        return self.fields.get(b"source", b"") + b":" + key if key else b""

    @property
    def owner(self) -> bytes:
        """The owner token: the ID of the entry that owns the message's ID in this group."""
        return self.fields.get(b"owner") or self.ref.id.encode()


class Duplicate(NamedTuple):
    """An entry whose message ID another entry owns. It was acknowledged and does not run."""

    ref: EntryRef
    message_id: str


class Undeliverable(NamedTuple):
    """An entry that no worker received. It has become a dead letter; `error` says why."""

    ref: EntryRef
    message_id: str
    error: str


class Taken(NamedTuple):
    """What a take brought: entries to run, duplicates that it acknowledged, and how many entries it
    parked, because another message with their ordering key is not finished.

    `weight` is the bytes of all that it read. Where it may have left something that this worker can
    take at once, it `has_more`. `undeliverable` are dead letters that a takeover has made.
    """

    entries: list[Entry]
    duplicates: list[Duplicate]
    parked: int = 0
    weight: int = 0
    has_more: bool = True
    undeliverable: tuple[Undeliverable, ...] = ()

    def and_then(self, more: Taken) -> Taken:
        """Return both as one."""
        return Taken(
            self.entries + more.entries,
            self.duplicates + more.duplicates,
            self.parked + more.parked,
            self.weight + more.weight,
            self.has_more or more.has_more,
        )

    @property
    def read(self) -> int:
        """How many entries were read."""
        return len(self.entries) + len(self.duplicates) + self.parked + len(self.undeliverable)

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to take."""
        return self.read == 0


class FollowUp(msgspec.Struct, frozen=True):
    """An entry that takes the place of a settled one: to be taken again, or a dead letter. It has
    the fields of the settled one, but for those that `changes` has.

    `aside` is to be taken again too, but other messages with its ordering key do not wait for it.
    `paused` is held back by the pause that `token` names. Otherwise `token` names it uniquely among
    the delayed; `delay_ms` is in milliseconds and may be 0.
    """

    kind: Literal["again", "aside", "paused", "dead"]
    token: str | bytes
    changes: Fields
    delay_ms: int = 0


Kind = Literal[
    "done", "ignored", "discarded", "fanned_out", "requeued", "held_back",
    "retry", "waiting", "dead", "undeliverable", "duplicate",
]  # fmt: skip
"""What became of an attempt. `waiting`: no handler is known yet. `held_back`: a pause did not let
it begin. The last two are no attempts: an entry that no worker received, and a duplicate that was
dropped.
"""


class Told(NamedTuple):
    """What an outcome tells a history. The message runs again `after` seconds, where it does."""

    kind: Kind
    handler: str
    reason: str = ""
    error: str = ""
    after: float = 0.0


class SaysWhat(Protocol):
    """The outcome of an attempt, as far as a history is concerned."""

    def told(self) -> Told:
        """Return what a history keeps of it."""


class Ended(Protocol):
    """An attempt that has ended. `progress` is what was known before it; it began at `began`, by
    `time.perf_counter`, and took `seconds`.
    """

    @property
    def outcome(self) -> SaysWhat: ...  # noqa: D102 - the docstring of the class says it

    @property
    def progress(self) -> Progress: ...  # noqa: D102

    @property
    def began(self) -> float: ...  # noqa: D102

    @property
    def seconds(self) -> float: ...  # noqa: D102


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """What became of an entry. Without a follow-up it is done.

    `key`, `owner` and `weight` are those of the entry. If there is no key, no other message waits
    for it; a weight of 0 means that it is not known. `fields` are the entry's own. They are sent
    only if it is no longer in Redis. `ended` is the attempt that led to it, for the history.
    """

    ref: EntryRef
    follow_ups: tuple[FollowUp, ...] = ()
    key: bytes = b""
    owner: bytes = b""
    weight: int = 0
    fields: Fields = {}
    ended: Ended | None = None

    @property
    def written_bytes(self) -> int:
        """How many bytes are written for its follow-ups, at most."""
        size = len(self.follow_ups) * weight_of(self.fields)
        if self.follow_ups and self.ended is not None:
            size += len(self.ended.outcome.told().error)
        return size + sum(weight_of(follow_up.changes) for follow_up in self.follow_ups)


class DeadLetter(NamedTuple):
    """An entry of the dead letters: its ID there, and its fields."""

    id: str
    fields: Fields
