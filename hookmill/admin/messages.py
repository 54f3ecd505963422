"""What an operator can ask of one message: find it, and tell its story.

A message is found by its ID, because each group remembers which entry owns an ID. The story says
where it is in every group, and what became of each attempt. `hookmill/cli/message.py` prints it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

from hookmill.admin.opening import open_stream
from hookmill.admin.places import Subject, group_stories
from hookmill.admin.redactions import shown_by
from hookmill.admin.stories import Match, Search, Story
from hookmill.admin.units import moment
from hookmill.config.settings import Settings
from hookmill.config.source_secrets import SETTINGS_OF
from hookmill.errors import HookmillError, WireVersionError
from hookmill.message import Fields, Message, Progress, about_of
from hookmill.stream.client import Client
from hookmill.stream.groups import KnownGroup, no_group
from hookmill.stream.history import History
from hookmill.stream.whereabouts import Whereabouts

_ENTRY_ID = re.compile("([0-9]{1,15}-[0-9]{1,10})(?:@([0-9]{1,2}))?")

_SAMPLE = 100
"""Entries at either end of a partition that are looked at for the sources there are."""

_RECENT_MS = 60_000
"""Milliseconds before the last entry of a partition: there the newest of these are looked for."""


class NoSuchMessageError(HookmillError):
    """No message was found by this ID."""

    code = "no_such_message"


class Known(NamedTuple):
    """What is known of a message from how it was found, "" for what is not."""

    message_id: str
    source: str


class Messages:
    """Finds messages and tells their stories, in the groups of these names."""

    def __init__(self, client: Client, settings: Settings, groups: tuple[str, ...]) -> None:
        self.groups = groups
        self._client = client
        self._settings = settings
        self._look = Whereabouts(client)
        self._history = History(client)

    async def find(self, text: str, source: str | None = None) -> Search:
        """Find messages by their ID, or by the ID of an entry: of the stream, of what a group takes
        again, or of a dead letter. Raises `NoSuchMessageError` if there is none.
        """
        notes: list[str] = []
        sources = [source] if source is not None else await self._sources()
        found = await self._by_entry(text) if source is None else set()
        known = {each: Known("", "") for each in found}
        if not found:
            known = await self._by_message_id(text, sources)
        if not known:
            found = await self._among_waiting(text, source, notes)
            known = {each: Known(text, "") for each in found}
        notes += map(str, self._client.unseen.values())
        if not known:
            raise NoSuchMessageError(_not_found(text, sources, notes))
        matches = [await self._match(*each, known[each]) for each in sorted(known)]
        return Search(matches=tuple(matches), sources=tuple(sources), notes=tuple(notes))

    async def story(self, match: Match) -> Story:
        """Return all that is known of a message that was found."""
        token, number = _entry_of(match.entry)
        fields = await self._fields(number, token)
        message = _message_of(fields)
        known = Message(id=match.message_id, source=match.source, type="", body=b"", received_ms=0)
        subject = Subject(
            partition=number,
            token=token,
            fields=fields,
            digest=(fields or {}).get(b"digest") or known.digest,
            received_ms=about_of(fields).received_ms if fields else _ms_of(token),
        )
        return Story(
            entry=match.entry,
            message_id=match.message_id,
            source=match.source,
            type=match.type,
            key=message.key if message else "",
            received_at=match.received_at,
            is_trimmed=match.is_trimmed,
            headers=await self._headers(message),
            body_bytes=len(message.body) if message else None,
            groups=await group_stories(self._client, self.groups, subject),
            notes=_notes_about(fields, message),
        )

    async def _headers(self, message: Message | None) -> str:
        if message is None:
            return ""
        showable = await shown_by(self._client, self._settings)
        return showable.headers(message).decode("utf-8", "backslashreplace")

    async def _by_entry(self, text: str) -> set[tuple[int, str]]:
        """Find messages by the ID of an entry. Without `@N`, it may be of any partition."""
        if not (found := _ENTRY_ID.fullmatch(text)):
            return set()
        entry_id, number = found.groups()
        numbers = self._look.partitions if number is None else [int(number)]
        return {
            (each, token)
            for each in numbers
            if each < self._look.total
            for token in await self._tokens_of(each, entry_id)
        }

    async def _tokens_of(self, number: int, entry_id: str) -> set[str]:
        """Return the owner tokens of what has this entry ID in a partition."""
        tokens = {entry_id} if await self._look.entry(number, entry_id) is not None else set()
        for group in self.groups:
            for ask in (self._look.again_entry, self._look.dead_letter):
                if fields := await ask(group, number, entry_id):
                    tokens.add(Progress.from_fields(fields, entry_id).owner)
            if not tokens and await self._history.attempts(group, number, entry_id):
                tokens.add(entry_id)
        return tokens

    async def _by_message_id(self, text: str, sources: list[str]) -> dict[tuple[int, str], Known]:
        """Find messages whose ID a group remembers: those that were taken."""
        digests = {_digest(source, text): source for source in sources}
        owners = [
            owner
            for group in self.groups
            for owner in await self._look.owners(group, list(digests))
        ]
        return {
            (owner.partition, owner.token): Known(text, digests[owner.digest]) for owner in owners
        }

    async def _among_waiting(
        self, text: str, source: str | None, notes: list[str]
    ) -> set[tuple[int, str]]:
        """Look for a message among those that no group has taken yet."""
        tokens = set()
        for number in self._look.partitions:
            taken = [await self._look.last_delivered(group, number) for group in self.groups]
            after = max(taken, key=_id_parts, default="") or "0-0"
            found = await self._look.in_stream(number, after, text)
            tokens |= {
                (number, entry_id)
                for entry_id, fields in found.entries
                if source is None or fields.get(b"digest") == _digest(source, text)
            }
            if not found.is_all:
                notes.append(
                    f"of the messages that wait in partition {number}, only the "
                    f"{found.looked_at:,} oldest were looked at"
                )
        return tokens

    async def _sources(self) -> list[str]:
        """Return the sources whose messages there may be: those of the settings, and those of some
        of the oldest and of the newest entries.
        """
        names = dict.fromkeys([*self._settings.sources, *SETTINGS_OF])
        for number in self._look.partitions:
            newest = _ms_of(await self._look.newest(number))
            for first in ("-", str(max(0, newest - _RECENT_MS))):
                for fields in await self._look.some_of(number, first, _SAMPLE):
                    names.setdefault(about_of(fields).source)
        return [name for name in names if name]

    async def _match(self, number: int, token: str, known: Known) -> Match:
        fields = await self._look.entry(number, token)
        kept = await self._fields(number, token) if fields is None else fields
        about = about_of(kept or {})
        message_id = (kept or {}).get(b"id", known.message_id.encode("utf-8", "surrogatepass"))
        return Match(
            entry=f"{token}@{number}" if number else token,
            message_id=message_id.decode("utf-8", "backslashreplace"),
            source=about.source or known.source,
            type=about.type,
            received_at=moment(about.received_ms or _ms_of(token)),
            is_trimmed=fields is None,
        )

    async def _fields(self, number: int, token: str) -> Fields | None:
        """Return a message's fields; where it was trimmed, from its dead letter."""
        fields = await self._look.entry(number, token)
        if fields is not None:
            return fields
        for group in self.groups:
            for attempt in await self._history.attempts(group, number, token):
                dead_id = attempt.dead_id
                if dead_id and (kept := await self._look.dead_letter(group, number, dead_id)):
                    return kept
        return None


@asynccontextmanager
async def opened(settings: Settings, group: str | None = None) -> AsyncIterator[Messages]:
    """Open the messages for all groups, or for one. Raises `GroupRefusedError` if there is none of
    this name.
    """
    async with await open_stream(settings) as client:
        groups = await Whereabouts(client).groups()
        if group is not None and group not in groups:
            raise no_group(group, [KnownGroup(name) for name in groups])
        yield Messages(client, settings, tuple(groups) if group is None else (group,))


def _not_found(text: str, sources: Iterable[str], notes: Iterable[str]) -> str:
    fault = (
        f"no message {text} was found, of these sources: {', '.join(sources) or 'none'}. A message "
        "that was taken is found for one to two HOOKMILL_DEDUP_WINDOW, or dedup_window of its "
        "source. One of another source is found with --source NAME"
    )
    return "; ".join([fault, *notes])


def _digest(source: str, message_id: str) -> bytes:
    return Message(id=message_id, source=source, type="", body=b"", received_ms=0).digest


def _entry_of(text: str) -> tuple[str, int]:
    token, _, number = text.partition("@")
    return token, int(number or 0)


def _ms_of(token: str) -> int:
    return _id_parts(token)[0]


def _id_parts(entry_id: str) -> tuple[int, int]:
    ms, _, sequence = entry_id.partition("-")
    return (int(ms), int(sequence)) if ms.isdecimal() and sequence.isdecimal() else (0, 0)


def _message_of(fields: Fields | None) -> Message | None:
    try:
        return None if fields is None else Message.from_fields(fields)
    except WireVersionError:
        return None


def _notes_about(fields: Fields | None, message: Message | None) -> tuple[str, ...]:
    if fields is None:
        return ("its entry was trimmed from the stream: headers and body are no longer there",)
    if message is None:
        return ("this release cannot read the message",)
    return ()
