"""What happens now: what comes in, what is refused, and what becomes of the messages that came in
since the tail began, as events that can be filtered.

Each event has a cursor. Who goes on from the cursor of the last event gets all that Redis still
has. What is dropped from Redis while it looks, before it was read, is counted and told as well.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Literal, NamedTuple, Self

import msgspec

from hookmill.admin.body_paths import Condition, are_in
from hookmill.admin.outcome_feed import OutcomeFeed
from hookmill.admin.redactions import Showable, shown_by
from hookmill.admin.refused import describe as describe_refused
from hookmill.admin.units import moment
from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError, UsageError, WireVersionError
from hookmill.handlers import matches_pattern
from hookmill.message import Fields, Message, about_of
from hookmill.stream.client import Client
from hookmill.stream.heartbeats import PLACE
from hookmill.stream.refused import RefusedDeliveries, order_of
from hookmill.stream.tail import Arrived, ArrivedPage, StreamTail, before

POLL = 0.2
"""Seconds between two looks, where the last one has read all there was."""

AWAY = 1.0
"""The same while Redis is away."""

_SLOW_PLACE_MS = 10_000
"""For so long a refused delivery may take to be kept, once it has its place."""

Kind = Literal["arrived", "refused", "handled", "missed"]

_POSITION = r"[0-9]{1,15}-[0-9]{1,20}"
_CURSOR = re.compile(rf"({_POSITION}(?:,{_POSITION}){{0,63}})/({_POSITION})")


class CursorError(UsageError):
    """A cursor cannot be read, or is that of a stream with another number of partitions."""

    code = "no_cursor"


class Cursor(NamedTuple):
    """How far has been read: the last entry of each partition, and the last refused delivery."""

    entries: tuple[str, ...]
    refused: str

    def __str__(self) -> str:
        return f"{','.join(self.entries)}/{self.refused}"

    @classmethod
    def of(cls, text: str, partitions: int) -> Self:
        """Read a cursor. Raises `CursorError`."""
        found = _CURSOR.fullmatch(text)
        entries = tuple(found[1].split(",")) if found else ()
        if found is None or len(entries) != partitions:
            raise CursorError(f"{text!r} is no cursor of this stream: give one that was shown")
        return cls(entries, found[2])

    @classmethod
    def since(cls, unix_ms: int, partitions: int) -> Self:
        """Return the cursor before all that came at a time or later."""
        return cls((before(unix_ms),) * partitions, before(unix_ms))

    def behind(self, one: Arrived) -> Cursor:
        """Return the cursor behind an entry."""
        entries = list(self.entries)
        entries[one.partition] = one.id
        return Cursor(tuple(entries), self.refused)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are wanted. `*` stands for any text in a pattern. A refused delivery has no
    type, so with `type` or `where` there are only messages. With `handler` there is only what that
    handler has run.
    """

    kinds: frozenset[Kind] = frozenset(("arrived", "refused", "handled"))
    source: str | None = None
    type: str | None = None
    handler: str | None = None
    where: tuple[Condition, ...] = ()

    def has_refused(self) -> bool:
        """Whether refused deliveries can be wanted."""
        is_of_messages = self.type is not None or self.where or self.handler is not None
        return "refused" in self.kinds and not is_of_messages

    def has_arrived(self) -> bool:
        """Whether messages are wanted when they come."""
        return "arrived" in self.kinds and self.handler is None

    def matches(self, fields: Fields) -> bool:
        """Return whether a message with these fields is wanted."""
        about = about_of(fields)
        if not _fits(self.source, about.source) or not _fits(self.type, about.type):
            return False
        return not self.where or are_in(self.where, fields)


class TailEvent(msgspec.Struct, frozen=True):
    """Something that happened, as JSON-ready facts, and the cursor behind it."""

    kind: Kind
    cursor: str
    facts: dict[str, Any]


class TailLook(NamedTuple):
    """What one look has found. `is_end`: there was no more."""

    events: list[TailEvent]
    is_end: bool


class Tail:
    """Reads on from a cursor; `start` it first. Methods raise `StreamUnavailableError`."""

    def __init__(
        self, client: Client, settings: Settings, wanted: Wanted, *, with_bodies: bool = False
    ) -> None:
        self._client = client
        self._settings = settings
        self._wanted = wanted
        self._with_bodies = with_bodies
        self._stream = StreamTail(client)
        self._kept = RefusedDeliveries(client)
        self._outcomes = OutcomeFeed(client, settings.group)
        self._gaps = [_Gap() for _ in client.partitions]
        self.cursor = Cursor((), "")

    async def start(self, since_ms: int | None = None, cursor: str | None = None) -> None:
        """Begin at a time, behind a cursor, or now. Raises `CursorError`, and `SearchRefusedError`
        where a condition asks for what is redacted.
        """
        showable = await shown_by(self._client, self._settings)
        showable.check_where(self._wanted.where, self._wanted.source)
        partitions = len(self._client.partitions)
        if cursor is not None:
            self.cursor = Cursor.of(cursor, partitions)
        elif since_ms is not None:
            self.cursor = Cursor.since(since_ms, partitions)
        else:
            places = await self._places()
            newest = await self._stream.newest()
            self.cursor = Cursor(tuple(newest), places[-1][0] if places else "0-0")

    async def look(self) -> TailLook:
        """Return what has happened behind the cursor, and move it there."""
        whole = self._with_bodies or bool(self._wanted.where)
        pages = await self._stream.read(self.cursor.entries, whole=whole)
        # Looked up each time: a source may have been told to redact more.
        showable = await shown_by(self._client, self._settings)
        showable.check_where(self._wanted.where, self._wanted.source)
        events = list(self._missed(pages))
        entries = sorted((one for page in pages for one in page.entries), key=lambda one: one.order)
        for one in entries:
            self.cursor = self.cursor.behind(one)
            if self._wanted.matches(one.fields):
                facts = self._described(one, showable)
                self._outcomes.follow(one.partition, one.id, facts)
                if self._wanted.has_arrived():
                    events.append(TailEvent("arrived", str(self.cursor), facts))
        if "handled" in self._wanted.kinds:
            events += [
                TailEvent("handled", str(self.cursor), facts)
                for facts in await self._outcomes.look()
                if _fits(self._wanted.handler, facts["handler"])
            ]
        if self._wanted.has_refused():
            events += await self._refused()
        return TailLook(events, all(page.is_end for page in pages))

    def _missed(self, pages: Iterable[ArrivedPage]) -> Iterable[TailEvent]:
        number = sum(gap.after(page) for gap, page in zip(self._gaps, pages, strict=True))
        if number:
            yield TailEvent("missed", str(self.cursor), {"messages": number})

    def _described(self, one: Arrived, showable: Showable) -> dict[str, Any]:
        about = about_of(one.fields)
        seen: dict[str, Any] = {
            "at": moment(about.received_ms),
            "entry": f"{one.id}@{one.partition}" if one.partition else one.id,
            "source": about.source,
            "type": about.type,
            "message_id": one.fields.get(b"id", b"").decode("utf-8", "replace"),
            "key": one.fields.get(b"key", b"").decode("utf-8", "replace"),
        }
        if self._with_bodies:
            try:
                message = Message.from_fields(one.fields)
            except WireVersionError as error:
                return seen | {"unreadable": str(error)}
            seen["headers"] = showable.headers(message).decode("utf-8", "backslashreplace")
            seen["body"] = showable.body(message).decode("utf-8", "backslashreplace")
        return seen

    async def _places(self) -> list[tuple[str, int, str]]:
        """Return the places of refused deliveries; none while their partition cannot be asked."""
        return [] if PLACE in self._client.unseen else await self._kept.places()

    async def _refused(self) -> list[TailEvent]:
        """Return the refused deliveries that were kept behind the cursor."""
        places = [
            place
            for place in await self._places()
            if order_of(place[0]) > order_of(self.cursor.refused)
        ]
        found = {one.id: one for one in await self._kept.get(places)}
        events = []
        for kept_id, at_ms, source in places:
            one = found.get(kept_id)
            if one is None and places[-1][1] - at_ms < _SLOW_PLACE_MS:
                break  # it has its place and is not there yet
            self.cursor = self.cursor._replace(refused=kept_id)
            if one is not None and _fits(self._wanted.source, source):
                events.append(TailEvent("refused", str(self.cursor), describe_refused(one)))
        return events


async def follow(tail: Tail) -> AsyncGenerator[TailEvent | StreamUnavailableError]:
    """Look again and again. While Redis is away, the error is given in place of an event, once."""
    is_away = False
    while True:
        try:
            look = await tail.look()
        except StreamUnavailableError as error:
            if not is_away:
                yield error
            is_away = True
            await asyncio.sleep(AWAY)
            continue
        is_away = False
        for event in look.events:
            yield event
        if look.is_end:
            await asyncio.sleep(POLL)


class _Gap:
    """Counts the entries of a partition that were dropped before they were read.

    It compares what was added with what was read, from the first moment at which all was read.
    """

    def __init__(self) -> None:
        self._added: int | None = None
        self._read = 0

    def after(self, page: ArrivedPage) -> int:
        """Return how many more are missing after this page."""
        self._read += len(page.entries)
        if not page.is_end or page.added is None:
            return 0
        missing = 0 if self._added is None else page.added - self._added - self._read
        self._added, self._read = page.added, 0
        return max(0, missing)


def _fits(pattern: str | None, value: str) -> bool:
    return pattern is None or matches_pattern(pattern, value)
