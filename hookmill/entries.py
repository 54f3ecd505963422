"""What is taken from Redis and settled there, as plain values, and the names of the keys.

No I/O: `stream` fills these in and writes them down, everybody else passes them on. What is made
for each message is a struct: a named tuple takes three times as long to make.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from hookmill.message import Fields

STREAM, AGAIN = 1, 2
"""The scripts' key numbers of the two streams a group takes from."""


class Keys:
    """The names of one partition's keys. `{0}` in them is partition 0's hash tag."""

    def __init__(self, prefix: str, partition: int = 0) -> None:
        self.base = f"{prefix}:{{{partition}}}"
        self.stream = f"{self.base}:stream"
        self.probe = f"{self.base}:probe"
        self.backlog = f"{self.base}:backlog"
        self.tokens = f"{self.base}:tokens"
        # A script that goes through all groups makes up the names of their keys from these.
        group = self.of_group("\0")
        before = group.again.split("\0")[0]
        after = [key.split("\0")[1] for key in (group.again, group.delayed, group.parked)]
        self.group_parts = [before, *after]
        self.low_water_parts = group.low_water.split("\0")

    def of_group(self, group: str) -> GroupKeys:
        """Name the keys of one consumer group in this partition."""
        base = f"{self.base}:{group}"
        return GroupKeys(
            stream=self.stream,
            again=f"{base}:again",
            delayed=f"{base}:delayed",
            delayed_entries=f"{base}:delayed:entries",
            sooner=f"{base}:sooner",
            dead=f"{base}:dead",
            owners=f"{base}:owners",
            low_water=f"{base}:low-water",
            suspects=f"{base}:suspects",
            busy=f"{base}:busy",
            parked=f"{base}:parked",
            sweep=f"{base}:sweep",
            counts=f"{base}:counts",
            upkeep=f"{base}:upkeep",
        )


class GroupKeys(NamedTuple):
    """The names of the keys that one consumer group uses in one partition."""

    stream: str
    again: str
    delayed: str
    delayed_entries: str
    sooner: str
    dead: str
    owners: str
    low_water: str
    suspects: str
    busy: str
    parked: str
    sweep: str
    counts: str
    upkeep: str


class EntryRef(msgspec.Struct, frozen=True):
    """Where an entry stands: in a partition's stream, or in the group's again stream beside it
    (`STREAM`, `AGAIN`).
    """

    key_number: int
    id: str
    partition: int = 0


class Entry(msgspec.Struct, frozen=True):
    """A stream entry as it was taken, its fields unread.

    A suspect is one that was taken over twice: it may be what ends its workers, and has to run
    alone, so that it does not take its neighbours along.
    """

    ref: EntryRef
    fields: Fields
    is_suspect: bool = False

    @property
    def key(self) -> bytes:
        """The ordering key, whatever wire version the message has; empty: it waits for no other.

        Keys count per source.
        """
        key = self.fields.get(b"key")
        return self.fields.get(b"source", b"") + b":" + key if key else b""

    @property
    def owner(self) -> bytes:
        """The token by which the group knows who owns the message's ID."""
        return self.fields.get(b"owner") or self.ref.id.encode()


class Repeat(NamedTuple):
    """An entry that only repeated a message ID which another entry owns."""

    ref: EntryRef
    message_id: str


class Taken(NamedTuple):
    """What a take brought: entries to run, the repeats it acknowledged instead, and how many it
    parked until those with the same key are through.
    """

    entries: list[Entry]
    repeats: list[Repeat]
    parked: int = 0

    @property
    def read(self) -> int:
        """How many entries were read."""
        return len(self.entries) + len(self.repeats) + self.parked

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to take."""
        return self.read == 0


class FollowUp(msgspec.Struct, frozen=True):
    """What stands in a settled entry's place. `token` names it uniquely; `delay_ms` may be 0."""

    kind: Literal["again", "dead"]
    token: str
    fields: Fields
    delay_ms: int = 0


class Settlement(msgspec.Struct, frozen=True):
    """An entry and what became of it: no follow-up means that it is done. `key` and `owner` are
    the entry's; without a key its settling concerns no other.
    """

    ref: EntryRef
    follow_ups: tuple[FollowUp, ...] = ()
    key: bytes = b""
    owner: bytes = b""


class DeadLetter(NamedTuple):
    """An entry of the dead letters: its ID there, and its fields."""

    id: str
    fields: Fields
