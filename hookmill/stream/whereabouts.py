"""Finds where a message is in Redis: who owns its ID, and in which states its entries are.

What has no index is looked through only up to a number of entries, in short steps. The results say
whether that was all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hookmill.errors import GroupLostError
from hookmill.message import Fields
from hookmill.stream.client import Client, checked
from hookmill.stream.entries import NOT_LISTED
from hookmill.stream.groups import Groups
from hookmill.stream.keys import GroupKeys
from hookmill.stream.script_runner import Call, ScriptRunner
from hookmill.stream.view import first_seen, seen

MOST_LOOKED_AT = 10_000
"""Entries of one stream, or of one list, that are looked at in search of a message."""

_PAGE, _PAGE_BYTES = 500, 1024 * 1024
"""Entries that Redis looks at in one step, and the bytes of those after which it ends: other
commands wait meanwhile.
"""


class Owner(NamedTuple):
    """Which entry owns a message ID: its partition and its ID, and the digest of the message ID."""

    partition: int
    token: str
    digest: bytes


class Holder(NamedTuple):
    """Who holds an entry, when that was last renewed, and how often it was given out."""

    worker: str
    idle_ms: int
    deliveries: int


class Found(NamedTuple):
    """What a search has found: entries with their IDs and fields, without headers and bodies.
    `is_all`: it has looked at all there is.
    """

    entries: list[tuple[str, Fields]]
    looked_at: int = 0
    is_all: bool = True


class Parked(NamedTuple):
    """The place of a parked message in its line, from 0 on (None: not found), how long the line is,
    and the owner token of the message that all of them wait for. `is_all`: as for `Found`.
    """

    position: int | None
    length: int
    head: str
    is_all: bool


class Whereabouts:
    """Looks for messages in all partitions, at `most` entries of one stream or list at a time.
    Methods raise `StreamUnavailableError`.
    """

    def __init__(self, client: Client, most: int = MOST_LOOKED_AT) -> None:
        self._most = most
        self.total = len(client.partitions)
        self._client = client
        self._scripts = ScriptRunner(client, drains=False)

    async def now_ms(self) -> int:
        """Return Redis' time (Unix milliseconds)."""
        seconds, micros = await self._client.execute(first_seen(self._client), "TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    @property
    def partitions(self) -> list[int]:
        """The numbers of the partitions that can be asked."""
        return [number for number, _ in seen(self._client)]

    async def groups(self) -> list[str]:
        """Return the names of the groups."""
        known = await Groups(self._client).known()
        return sorted(name for name, group in known.items() if group.state == "made")

    async def owners(self, group: str, digests: Sequence[bytes]) -> list[Owner]:
        """Return which entries own the message IDs with these digests in a group."""
        asked = seen(self._client)
        calls = [Call(number, [keys.of_group(group).owners], digests) for number, keys in asked]
        replies = await self._scripts.run_each("find_owners", calls)
        return [
            Owner(number, _token_of(raw), digests[position - 1])
            for (number, _), rows in zip(asked, replies, strict=True)
            for position, raw in rows
        ]

    async def entry(self, partition: int, entry_id: str) -> Fields | None:
        """Return the fields of an entry of the stream; None where it was trimmed."""
        return await self._entry(partition, self._client.partitions[partition].stream, entry_id)

    async def again_entry(self, group: str, partition: int, entry_id: str) -> Fields | None:
        """Return the fields of an entry of the group's own stream."""
        return await self._entry(partition, self._keys(group, partition).again, entry_id)

    async def dead_letter(self, group: str, partition: int, entry_id: str) -> Fields | None:
        """Return the fields of a dead letter."""
        return await self._entry(partition, self._keys(group, partition).dead, entry_id)

    async def last_delivered(self, group: str, partition: int) -> str:
        """Return the last ID of the stream that the group was given; "" where Redis has lost it."""
        stream = self._client.partitions[partition].stream
        if not await self._client.execute(partition, "EXISTS", stream):
            return ""
        for row in await self._client.execute(partition, "XINFO", "GROUPS", stream):
            info = dict(zip(row[::2], row[1::2], strict=True))
            if info[b"name"] == group.encode():
                return str(info[b"last-delivered-id"].decode())
        return ""

    async def holder(
        self, group: str, partition: int, entry_id: str, *, again: bool
    ) -> Holder | None:
        """Return who holds an entry of the stream, or of the group's own stream (`again`)."""
        keys = self._keys(group, partition)
        key = keys.again if again else keys.stream
        try:
            rows = await self._client.execute(
                partition, "XPENDING", key, group, entry_id, entry_id, 1
            )
        except GroupLostError:
            return None
        for _, worker, idle_ms, deliveries in rows:
            return Holder(worker.decode("utf-8", "replace"), int(idle_ms), int(deliveries))
        return None

    async def due(
        self, group: str, partition: int, token: str, handlers: Iterable[str]
    ) -> dict[str, int]:
        """Return for which of these handlers the message waits for its next attempt, and until when
        (Unix milliseconds).
        """
        names = list(handlers)
        key = self._keys(group, partition).delayed
        asked = [(partition, ("ZSCORE", key, f"{token}/{name}")) for name in names]
        scores = map(checked, await self._client.ask_places(asked))
        return {
            name: int(float(score))
            for name, score in zip(names, scores, strict=True)
            if score is not None
        }

    async def in_again(self, group: str, partition: int, token: str) -> Found:
        """Return the entries of a message in the group's own stream."""
        key = self._keys(group, partition).again
        return await self._find(partition, key, _since(token), b"owner", token.encode())

    async def in_dead(self, group: str, partition: int, token: str) -> Found:
        """Return the dead letters of a message."""
        key = self._keys(group, partition).dead
        return await self._find(partition, key, _since(token), b"owner", token.encode())

    async def in_stream(self, partition: int, after: str, message_id: str) -> Found:
        """Return the entries of the stream with this message ID, of those that come after an ID."""
        key = self._client.partitions[partition].stream
        value = message_id.encode("utf-8", "surrogatepass")
        return await self._find(partition, key, f"({after}", b"id", value)

    async def parked(self, group: str, partition: int, key: bytes, token: str) -> Parked:
        """Return the place of a message among those that wait for its ordering key."""
        keys = self._keys(group, partition)
        at, position, length, head = 0, -1, 0, b""
        while 0 <= at < self._most and position < 0:
            call = Call(partition, [keys.busy, keys.parked], [key, token, at, _PAGE, _PAGE_BYTES])
            head, at, position, length = await self._scripts.run("find_parked", call)
        place = position if position >= 0 else None
        return Parked(place, length, head.decode("utf-8", "replace"), at < 0)

    async def held_back(
        self, group: str, partition: int, token: str
    ) -> tuple[list[tuple[str, str]], bool]:
        """Return which pauses hold a message back, each with the handler that it is for; and
        whether all that they hold back was looked at.
        """
        key = self._keys(group, partition).paused
        found: list[tuple[str, str]] = []
        is_all = True
        for field in await self._client.execute(partition, "HKEYS", key):
            name = field.removeprefix(b"pause ")
            at = -1 if name == field else 0
            while 0 <= at < self._most:
                call = Call(partition, [key], [name, token, at, _PAGE, _PAGE_BYTES])
                at, handlers = await self._scripts.run("find_held_back", call)
                found += [(_text(name), _text(handler)) for handler in handlers]
            is_all = is_all and at < 0
        return found, is_all

    async def newest(self, partition: int) -> str:
        """Return the last ID of the stream."""
        call = Call(partition, [self._client.partitions[partition].stream])
        return str((await self._scripts.run("newest", call)).decode())

    async def some_of(self, partition: int, first: str, count: int) -> list[Fields]:
        """Return the fields of some entries of the stream, without headers and bodies."""
        args = [first, "+", count, _PAGE_BYTES, *NOT_LISTED]
        call = Call(partition, [self._client.partitions[partition].stream], args)
        rows, _ = await self._scripts.run("survey", call)
        return [_fields_of(flat) for _, flat in rows]

    async def _entry(self, partition: int, key: str, entry_id: str) -> Fields | None:
        for _, flat in await self._client.execute(partition, "XRANGE", key, entry_id, entry_id):
            return _fields_of(flat)
        return None

    async def _find(
        self, partition: int, key: str, first: str, field: bytes, value: bytes
    ) -> Found:
        found: list[tuple[str, Fields]] = []
        looked_at, ended = 0, 0
        while looked_at < self._most and not ended:
            call = Call(partition, [key], [first, _PAGE, _PAGE_BYTES, field, value])
            count, last, ended, rows = await self._scripts.run("find_entries", call)
            found += [(entry_id.decode(), _fields_of(flat)) for entry_id, flat in rows]
            looked_at += count
            first = f"({last.decode()}"
        return Found(found, looked_at, ended == 1)

    def _keys(self, group: str, partition: int) -> GroupKeys:
        return self._client.partitions[partition].of_group(group)


def _token_of(raw: bytes) -> str:
    """Read a packed owner token (`owners.lua`)."""
    if len(raw) != 10:
        return raw.decode("utf-8", "replace")
    return f"{int.from_bytes(raw[:6], 'big')}-{int.from_bytes(raw[6:], 'big')}"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _since(token: str) -> str:
    """Return the ID from which on there can be an entry that takes the place of another."""
    return token.partition("-")[0]


def _fields_of(flat: Sequence[bytes]) -> Fields:
    return dict(zip(flat[::2], flat[1::2], strict=True))
