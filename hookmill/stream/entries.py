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


class Duplicate(NamedTuple):
    """An entry that only repeated a message ID which another entry owns."""

    ref: EntryRef
    message_id: str


class Taken(NamedTuple):
    """What a take brought: entries to run, the repeats it acknowledged instead, and how many it
    parked until those with the same key are through.
    """

    entries: list[Entry]
    duplicates: list[Duplicate]
    parked: int = 0

    @property
    def read(self) -> int:
        """How many entries were read."""
        return len(self.entries) + len(self.duplicates) + self.parked

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
