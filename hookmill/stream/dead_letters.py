"""A group's dead letters: read them, send them back, delete them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Self

from hookmill.message import RESET_BY_REPLAY
from hookmill.stream.client import translated
from hookmill.stream.entries import DeadLetter
from hookmill.stream.keys import GroupKeys
from hookmill.stream.producer import Producer
from hookmill.stream.script_runner import Call, Scripts

_NOT_LISTED = ("headers", "body")

_PAGE_BYTES = 4 * 1024 * 1024
"""What one step may move in Redis: bodies may be large, and everybody else waits meanwhile."""


class _DeadID(NamedTuple):
    """A dead letter's ID in parts: the entry's, and its partition. They sort as the letters do."""

    ms: int
    sequence: int
    partition: int

    @classmethod
    def of(cls, text: str) -> Self:
        entry_id, _, partition = text.partition("@")
        ms, _, sequence = entry_id.partition("-")
        return cls(int(ms), int(sequence), int(partition or 0))

    @property
    def entry_id(self) -> str:
        return f"{self.ms}-{self.sequence}"

    def __str__(self) -> str:
        return f"{self.entry_id}@{self.partition}" if self.partition else self.entry_id


class DeadLetters:
    """A group's dead letters, oldest first. An ID ends in `@N` where it lies in a partition other
    than the first.
    """

    def __init__(self, stream: Producer, group: str) -> None:
        self._partitions = [keys.of_group(group) for keys in stream.partitions]
        self._redis = stream.redis
        self._scripts = Scripts(self._redis, drains=False)

    async def count(self) -> int:
        """Return how many there are."""
        with translated():
            return sum([int(await self._redis.xlen(keys.dead)) for keys in self._partitions])

    async def newest(self) -> str | None:
        """Return the ID of the newest, or None: there are none."""
        found: list[_DeadID] = []
        for number, keys in enumerate(self._partitions):
            with translated():
                rows: Any = await self._redis.xrevrange(keys.dead, count=1)
            found += [_dead_id(row[0], number) for row in rows]
        return str(max(found)) if found else None

    async def survey(self, first: str, last: str, count: int) -> list[DeadLetter]:
        """Return up to `count` dead letters from `first` to `last`, without headers and bodies.

        A "(" before an ID leaves it out; a `last` that is a time alone (Unix milliseconds) means
        all of that. Fewer come where they are large; none: no more are there.
        """
        rest = [count, _PAGE_BYTES, *_NOT_LISTED]
        calls = [
            Call([keys.dead], [_from(first, number), _up_to(last, number), *rest])
            for number, keys in enumerate(self._partitions)
        ]
        with translated():
            replies = await self._scripts.run_each("survey", calls)
        rows, ends = [], []
        for number, (page, has_ended) in enumerate(replies):
            rows += [(_dead_id(entry_id, number), flat) for entry_id, flat in page]
            if page and not has_ended:
                # There is more: what other partitions have behind that must wait for it.
                ends.append(rows[-1][0])
        rows = sorted(row for row in rows if row[0] <= min(ends, default=row[0]))
        return [
            DeadLetter(str(dead_id), dict(zip(flat[::2], flat[1::2], strict=True)))
            for dead_id, flat in rows[:count]
        ]

    async def get(self, dead_id: str) -> DeadLetter | None:
        """Return one dead letter, or None."""
        for keys, (entry_id, *_) in self._by_partition([dead_id]):
            with translated():
                rows: Any = await self._redis.xrange(keys.dead, entry_id, entry_id)
            if rows:
                return DeadLetter(dead_id, rows[0][1])
        return None

    async def replay(self, dead_ids: Sequence[str]) -> int:
        """Send dead letters back to be taken again; return how many were still there."""
        names = [len(RESET_BY_REPLAY), *RESET_BY_REPLAY]
        return await self._on_each(
            "replay",
            dead_ids,
            lambda keys, ids: Call([keys.dead, keys.again, keys.busy, keys.parked], [*names, *ids]),
        )

    async def drop(self, dead_ids: Sequence[str]) -> int:
        """Delete dead letters for good; return how many were still there.

        Their message IDs are released: a sender that delivers one again is heard.
        """
        return await self._on_each(
            "drop", dead_ids, lambda keys, ids: Call([keys.dead, keys.owners], ids)
        )

    async def _on_each(
        self, name: str, dead_ids: Sequence[str], call: Callable[[GroupKeys, list[str]], Call]
    ) -> int:
        calls = [call(keys, ids) for keys, ids in self._by_partition(dead_ids)]
        with translated():
            return sum(await self._scripts.run_each(name, calls)) if calls else 0

    def _by_partition(self, dead_ids: Sequence[str]) -> Iterator[tuple[GroupKeys, list[str]]]:
        """Sort IDs by partition; those of partitions that are not there are of no letter."""
        sorted_ids: defaultdict[int, list[str]] = defaultdict(list)
        for dead_id in map(_DeadID.of, dead_ids):
            sorted_ids[dead_id.partition].append(dead_id.entry_id)
        for number, ids in sorted_ids.items():
            if number < len(self._partitions):
                yield self._partitions[number], ids


def _dead_id(entry_id: bytes, partition: int) -> _DeadID:
    return _DeadID.of(f"{entry_id.decode()}@{partition}")


def _from(first: str, partition: int) -> str:
    """Say where a partition's part of a range begins."""
    dead_id = _DeadID.of(first.lstrip("("))
    is_behind = partition < dead_id.partition
    # Of the same time and number, those in lower partitions come before it.
    is_open = first.startswith("(") and partition == dead_id.partition
    return f"({dead_id.entry_id}" if is_open or is_behind else dead_id.entry_id


def _up_to(last: str, partition: int) -> str:
    """Say where it ends."""
    if "-" not in last:
        return last
    dead_id = _DeadID.of(last)
    return f"({dead_id.entry_id}" if partition > dead_id.partition else dead_id.entry_id
