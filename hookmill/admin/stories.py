"""What is told of a message, as values that are ready for JSON. No I/O."""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal[
    "waiting", "held", "delayed", "again", "parked", "paused", "dead",
    "handled", "discarded", "ignored", "duplicate", "finished",
]  # fmt: skip
"""Where a message is for a group, or for one handler of it."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message is for one handler ("": for all, or none is known yet). Times are ISO 8601 in
    UTC, "" if there is none.

    `entry` is what holds its place: an entry of the stream, of the group's own stream, or a dead
    letter. `since` is since when at the earliest, `until` is when the next attempt is due. `behind`
    is the entry for which a parked message waits, or which a duplicate repeats.
    """

    state: State
    handler: str = ""
    entry: str = ""
    worker: str = ""
    since: str = ""
    until: str = ""
    attempts: int = 0
    deliveries: int = 0
    behind: str = ""
    behind_id: str = ""
    position: int | None = None
    reason: str = ""


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt, or what else happened to a message in a group. `outcome` is one of the kinds of
    `hookmill.stream.entries`; `seconds` is how long it ran.
    """

    outcome: str
    handler: str
    attempt: int
    worker: str
    began_at: str
    seconds: float
    settled_at: str
    next_at: str
    reason: str
    error: str
    is_late: bool
    may_be_late: bool
    dead_letter: str
    duplicate: str


class GroupStory(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a message in one group. `notes` say what is not known, and why."""

    group: str
    places: tuple[Place, ...]
    attempts: tuple[Tried, ...]
    duplicates: tuple[str, ...]
    notes: tuple[str, ...]


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was found. `entry` is its entry in the stream: its owner token, and `@N` where
    that is in a partition other than the first. Times are ISO 8601 in UTC, "" if there is none.
    `is_trimmed`: the entry is no longer in the stream.
    """

    entry: str
    message_id: str
    source: str
    type: str
    received_at: str
    is_trimmed: bool


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, the oldest first; the sources whose messages were looked for; and what was
    not looked at, in `notes`.
    """

    matches: tuple[Match, ...]
    sources: tuple[str, ...]
    notes: tuple[str, ...]


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a message. `headers` are as they are stored, a line each; `body_bytes`
    is None where the message is no longer there, or cannot be read.
    """

    entry: str
    message_id: str
    source: str
    type: str
    key: str
    received_at: str
    is_trimmed: bool
    headers: str
    body_bytes: int | None
    groups: tuple[GroupStory, ...]
    notes: tuple[str, ...]
