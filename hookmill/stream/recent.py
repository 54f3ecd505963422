"""The newest entries of the stream, for a list. They come without what a list does not show."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from hookmill.stream.client import Client
from hookmill.stream.entries import NOT_LISTED, DeadLetter
from hookmill.stream.script_runner import Call, ScriptRunner
from hookmill.stream.view import seen

_PLACE = re.compile("([0-9]{1,20})-([0-9]{1,20})(?:@([0-9]{1,5}))?")

_LARGEST = 2**64 - 1
"""Redis takes no larger number in the ID of an entry."""

_PAGE_BYTES = 4 * 1024 * 1024
"""Bytes that Redis reads in one step."""


class EntryPlace(NamedTuple):
    """The ID of an entry in parts, and its partition: they sort by age."""

    ms: int
    sequence: int
    partition: int

    @classmethod
    def of(cls, text: str) -> EntryPlace:
        """Read `MS-SEQUENCE`, with `@N` behind it for a partition other than the first. Raises
        `ValueError`.
        """
        if not (found := _PLACE.fullmatch(text)):
            raise ValueError(text)
        place = cls(*(int(part or 0) for part in found.groups()))
        if max(place) > _LARGEST:
            raise ValueError(text)
        return place

    def __str__(self) -> str:
        entry_id = f"{self.ms}-{self.sequence}"
        return f"{entry_id}@{self.partition}" if self.partition else entry_id


class RecentEntries:
    """Reads the stream from its end."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._scripts = ScriptRunner(client, drains=False)

    async def before(
        self, place: EntryPlace | None, first_ms: int, count: int, *, whole: bool = False
    ) -> list[DeadLetter]:
        """Return up to `count` entries before a place (None: the end), the newest first, and none
        from before `first_ms`. Fewer come where they are large; an empty list means no more.
        """
        rest = [count, _PAGE_BYTES, *(() if whole else NOT_LISTED)]
        asked = seen(self._client)
        calls = [
            Call(number, [keys.stream], [f"{first_ms}-0", _last(place, number), *rest])
            for number, keys in asked
        ]
        rows: list[tuple[EntryPlace, Any]] = []
        ends = []
        replies = await self._scripts.run_each("survey_newest", calls)
        for (number, _), (page, has_ended) in zip(asked, replies, strict=True):
            rows += [(_place(entry_id, number), flat) for entry_id, flat in page]
            if page and not has_ended:
                ends.append(rows[-1][0])  # what others have before this one comes later
        rows = sorted((row for row in rows if not ends or row[0] >= max(ends)), reverse=True)
        return [DeadLetter(str(at), _fields(flat)) for at, flat in rows[:count]]


def _last(place: EntryPlace | None, partition: int) -> str:
    """Return the highest ID of a partition before a place."""
    if place is None:
        return "+"
    entry_id = f"{place.ms}-{place.sequence}"
    return entry_id if partition < place.partition else f"({entry_id}"


def _place(entry_id: bytes, partition: int) -> EntryPlace:
    return EntryPlace.of(f"{entry_id.decode()}@{partition}")


def _fields(flat: list[bytes]) -> dict[bytes, bytes]:
    words = iter(flat)
    return dict(zip(words, words, strict=True))
