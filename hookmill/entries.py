"""What is taken from Redis and settled there, as plain values, and the names of the keys.

No I/O: `stream` fills these in and writes them down, everybody else passes them on.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from hookmill.message import Fields

STREAM, AGAIN = 1, 2
"""The scripts' key numbers of the two streams a group takes from."""


class Keys:
    """The names of one partition's keys. `{0}` in them is the partition's hash tag."""

    def __init__(self, prefix: str, partition: int = 0) -> None:
        self.base = f"{prefix}:{{{partition}}}"
        self.stream = f"{self.base}:stream"
        self.probe = f"{self.base}:probe"

    def of_group(self, group: str) -> GroupKeys:
        """Name the keys of one consumer group in this partition."""
        base = f"{self.base}:{group}"
        return GroupKeys(
            stream=self.stream,
            again=f"{base}:again",
            delayed=f"{base}:delayed",
            delayed_entries=f"{base}:delayed:entries",
            dead=f"{base}:dead",
            owners=f"{base}:owners",
            low_water=f"{base}:low-water",
            suspects=f"{base}:suspects",
        )


class GroupKeys(NamedTuple):
    """The names of the keys that one consumer group uses in one partition."""

    stream: str
    again: str
    delayed: str
    delayed_entries: str
    dead: str
    owners: str
    low_water: str
    suspects: str


class EntryRef(NamedTuple):
    """Where an entry stands: in the stream or in the group's again stream (`STREAM`, `AGAIN`)."""

    key_number: int
    id: str


class Entry(NamedTuple):
    """A stream entry as it was taken, its fields unread.

    A suspect is one that was taken over twice: it may be what ends its workers, and has to run
    alone, so that it does not take its neighbours along.
    """

    ref: EntryRef
    fields: Fields
    is_suspect: bool = False


class Repeat(NamedTuple):
    """An entry that only repeated a message ID which another entry owns."""

    ref: EntryRef
    message_id: str


class Taken(NamedTuple):
    """What a take brought: entries to run, and the repeats it acknowledged instead."""

    entries: list[Entry]
    repeats: list[Repeat]


class FollowUp(NamedTuple):
    """What stands in a settled entry's place. `token` names it uniquely; `delay_ms` may be 0."""

    kind: Literal["again", "dead"]
    token: str
    fields: Fields
    delay_ms: int = 0


class Settlement(NamedTuple):
    """An entry and what became of it: no follow-up means that it is done."""

    ref: EntryRef
    follow_ups: tuple[FollowUp, ...] = ()


class DeadLetter(NamedTuple):
    """An entry of the dead letters: its ID there, and its fields."""

    id: str
    fields: Fields
