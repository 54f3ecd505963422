"""Reads a group's history: what became of each attempt at a message, by its owner token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hookmill.stream.attempts import Attempt, attempt_in, attempts_in, chunk_of
from hookmill.stream.client import Client
from hookmill.stream.script_runner import Call, ScriptRunner
from hookmill.stream.view import seen

_PAGE_BYTES = 1024 * 1024
"""Bytes that Redis looks at in one step, because other commands wait meanwhile."""

_NEWER_BYTES = 64 * 1024
"""The same where many lists are read in one go."""

_PRECISION_MS = 5
"""Milliseconds by which two records of one attempt may differ."""


class HistoryList(NamedTuple):
    """A list of a history: that of a chunk, or of an owner token, in a partition."""

    partition: int
    name: str


class History:
    """The histories of all groups. Methods raise `StreamUnavailableError`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._scripts = ScriptRunner(client, drains=False)

    async def attempts(self, group: str, partition: int, token: str) -> list[Attempt]:
        """Return what the history has of the message with this owner token, the oldest first."""
        key = self._client.partitions[partition].of_group(group).history
        singles = await self._items(partition, key, token, "")
        found = [one for item in singles if (one := attempt_in(item)) is not None]
        for batch in await self._items(partition, key, str(chunk_of(token)), f"{token} "):
            found += attempts_in(batch, token)
        return sorted(_without_repeats(found), key=_time_of)

    async def newer(
        self, group: str, positions: Mapping[HistoryList, int]
    ) -> dict[HistoryList, list[bytes]]:
        """Return what stands in these lists behind so many items, in one round trip. Of a long list
        the first part comes.
        """
        calls = [
            Call(
                one.partition,
                [self._client.partitions[one.partition].of_group(group).history],
                [one.name, at, "", _NEWER_BYTES],
            )
            for one, at in positions.items()
        ]
        replies = await self._scripts.run_each("read_history", calls)
        return {one: items for one, (_, items) in zip(positions, replies, strict=True) if items}

    async def is_kept(self, group: str) -> bool:
        """Return whether the group has a history."""
        asked = [
            (number, ("EXISTS", keys.of_group(group).history))
            for number, keys in seen(self._client)
        ]
        return any(reply == 1 for reply in await self._client.ask_places(asked))

    async def _items(self, partition: int, key: str, name: str, text: str) -> list[bytes]:
        """Return the items of one list that have this text."""
        found: list[bytes] = []
        at = 0
        while at >= 0:
            call = Call(partition, [key], [name, at, text, _PAGE_BYTES])
            at, items = await self._scripts.run("read_history", call)
            found += items
        return found


def _time_of(one: Attempt) -> int:
    """Return when it began, by its worker's clock, or was noted."""
    return one.began_ms or one.written_ms


def _without_repeats(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Leave out what was written twice, because the reply to the first write was lost: the second
    one came too late.
    """
    found: list[Attempt] = []
    for one in sorted(attempts, key=_lateness):
        if not (_lateness(one) and any(_is_repeat(one, other) for other in found)):
            found.append(one)
    return found


def _is_repeat(one: Attempt, other: Attempt) -> bool:
    """Return whether both tell of one attempt. Each write tells anew by the clock when it began."""
    return _what(one) == _what(other) and abs(one.began_ms - other.began_ms) <= _PRECISION_MS


def _lateness(one: Attempt) -> int:
    return 2 * one.is_late + one.may_be_late


def _what(one: Attempt) -> tuple[object, ...]:
    return one.kind, one.worker, one.handler, one.attempt
