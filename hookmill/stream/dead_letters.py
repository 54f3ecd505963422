"""A group's dead letters: list them, read one, replay them, drop them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

from hookmill.message import HANDLER_FIELD, RESET_BY_REPLAY, Death
from hookmill.stream.client import Client, checked
from hookmill.stream.entries import NOT_LISTED, DeadLetter
from hookmill.stream.keys import GroupKeys
from hookmill.stream.script_runner import Call, ScriptRunner
from hookmill.stream.view import seen

_EXACTLY = ("SAMPLES", 0)

_PAGE_BYTES = 1024 * 1024
"""Bytes that Redis reads in one step: bodies may be large, and other commands wait meanwhile."""

LARGEST_PAGE = 150
"""Dead letters that one step reads at most, for the same reason: each takes Redis some 10 us."""


class _DeadID(NamedTuple):
    """A dead letter's ID in parts: the entry's ID, and the partition. They sort oldest first."""

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


class OldDeadLetter(NamedTuple):
    """What must be known of a dead letter to drop it: when it died by its worker's clock, when it
    was written by Redis' clock (Unix milliseconds), and how many bytes its fields have.
    """

    id: str
    died_ms: int
    written_ms: int
    handler: str
    bytes: int


class DeadLetters:
    """A group's dead letters, oldest first. An ID ends in `@N` where the dead letter lies in a
    partition other than the first of all. With `drains`, they can be dropped while Redis is full.
    """

    def __init__(self, client: Client, group: str, *, drains: bool = False) -> None:
        self.client = client
        self._partitions = [keys.of_group(group) for keys in client.partitions]
        self._scripts = ScriptRunner(client, drains=drains)

    async def count(self) -> int:
        """Return how many there are."""
        return sum(await self._ask("XLEN"))

    async def newest(self) -> str | None:
        """Return the ID of the newest, or None if there are none."""
        asked = self._seen
        calls = [Call(place, [keys.dead]) for place, _, keys in asked]
        replies = await self._scripts.run_each("newest", calls)
        newest = max(map(_dead_id, replies, (number for _, number, _ in asked)))
        return str(newest) if newest.ms else None

    async def memory(self) -> int:
        """Return how many bytes of Redis' memory they take."""
        return sum(int(size or 0) for size in await self._ask("MEMORY", "USAGE", after=_EXACTLY))

    async def _ask(self, *command: Any, after: tuple[Any, ...] = ()) -> list[Any]:
        """Ask about the dead letters of each partition, in one round trip."""
        asked = [(place, (*command, keys.dead, *after)) for place, _, keys in self._seen]
        return [checked(reply) for reply in await self.client.ask_places(asked)]

    async def oldest(self, count: int) -> tuple[int, list[OldDeadLetter]]:
        """Return Redis' time (Unix milliseconds), and up to `count` of the oldest. Fewer come where
        they are large.
        """
        asked = self._seen
        calls = [Call(place, [keys.dead], [count, _PAGE_BYTES]) for place, _, keys in asked]
        found: list[tuple[_DeadID, OldDeadLetter]] = []
        ends, times = [], []
        replies = await self._scripts.run_each("oldest_dead", calls)
        for (_, number, _), (now_ms, rows, has_ended) in zip(asked, replies, strict=True):
            found += [_old_one(number, *row) for row in rows]
            times.append(now_ms)
            if rows and not has_ended:
                ends.append(found[-1][0])  # this partition has more, see `survey`
        found = sorted(one for one in found if one[0] <= min(ends, default=one[0]))
        return min(times), [letter for _, letter in found[:count]]

    async def survey(
        self,
        first: str,
        last: str,
        count: int,
        *,
        newest_first: bool = False,
        whole: bool = False,
    ) -> list[DeadLetter]:
        """Return up to `count` dead letters from `first` to `last`, the oldest or the newest first.
        They come without headers and bodies, unless `whole`.

        A "(" before `first` or `last` leaves that one out; a `last` that is a time alone (Unix
        milliseconds) includes all of that time. Fewer come where they are large; an empty list
        means that there are no more.
        """
        rest = [count, _PAGE_BYTES, *(() if whole else NOT_LISTED)]
        asked = self._seen
        calls = [
            Call(place, [keys.dead], [_from(first, number), _up_to(last, number), *rest])
            for place, number, keys in asked
        ]
        rows, ends = [], []
        replies = await self._scripts.run_each("survey_newest" if newest_first else "survey", calls)
        for (_, number, _), (page, has_ended) in zip(asked, replies, strict=True):
            rows += [(_dead_id(entry_id, number), flat) for entry_id, flat in page]
            if page and not has_ended:
                # This partition has more. What others have behind its last one comes later.
                ends.append(rows[-1][0])
        rows.sort(reverse=newest_first)
        if ends and newest_first:
            rows = [row for row in rows if row[0] >= max(ends)]
        elif ends:
            rows = [row for row in rows if row[0] <= min(ends)]
        return [_dead_letter(str(dead_id), flat) for dead_id, flat in rows[:count]]

    async def get(self, dead_id: str) -> DeadLetter | None:
        """Return one dead letter, or None."""
        for number, (entry_id, *_) in self._by_partition([dead_id]):
            dead = self._partitions[number].dead
            for _, flat in await self.client.execute(number, "XRANGE", dead, entry_id, entry_id):
                return _dead_letter(dead_id, flat)
        return None

    async def replay(self, dead_ids: Sequence[str], to: str | None = None) -> int:
        """Have dead letters taken again; return how many were still there.

        With `to` they are for the handler of that name from now on.
        """
        left_out = RESET_BY_REPLAY if to is None else (*RESET_BY_REPLAY, HANDLER_FIELD)
        added = [] if to is None else [HANDLER_FIELD, to.encode()]
        names = [len(left_out), *left_out, len(added), *added]
        calls = []
        for number, ids in self._by_partition(dead_ids):
            keys = self._partitions[number]
            backlog = self.client.partitions[number].backlog
            used = [keys.dead, keys.again, keys.busy, keys.parked, backlog, keys.counts]
            calls.append(Call(number, [*used, keys.wake], [*names, *ids]))
        return sum(await self._scripts.run_each("replay", calls))

    async def drop(self, dead_ids: Sequence[str]) -> int:
        """Delete dead letters for good; return how many were still there.

        Their message IDs are forgotten: where the sender delivers one again, it runs.
        """
        calls = []
        for number, ids in self._by_partition(dead_ids):
            keys = self._partitions[number]
            calls.append(Call(number, [keys.dead, keys.owners], ids))
        return sum(await self._scripts.run_each("drop", calls))

    @property
    def _seen(self) -> list[tuple[int, int, GroupKeys]]:
        """The partitions that can be asked: the place of each in the client, and its number."""
        numbers = self.client.numbers
        return [(place, numbers[place], self._partitions[place]) for place, _ in seen(self.client)]

    def _by_partition(self, dead_ids: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """Sort IDs by partition, and give it its place in the client. Those of a partition that is
        not there are left out.
        """
        sorted_ids: defaultdict[int, list[str]] = defaultdict(list)
        for dead_id in map(_DeadID.of, dead_ids):
            sorted_ids[dead_id.partition].append(dead_id.entry_id)
        for number, ids in sorted_ids.items():
            if number in self.client.numbers:
                yield self.client.numbers.index(number), ids


def _dead_letter(dead_id: str, flat: Sequence[bytes]) -> DeadLetter:
    return DeadLetter(dead_id, dict(zip(flat[::2], flat[1::2], strict=True)))


def _dead_id(entry_id: bytes, partition: int) -> _DeadID:
    return _DeadID.of(f"{entry_id.decode()}@{partition}")


def _old_one(
    partition: int, entry_id: bytes, died: bytes, handler: bytes, size: int
) -> tuple[_DeadID, OldDeadLetter]:
    dead_id = _dead_id(entry_id, partition)
    died_ms = Death.from_fields({b"died": died}).died_ms
    name = handler.decode("utf-8", "replace")
    return dead_id, OldDeadLetter(str(dead_id), died_ms, dead_id.ms, name, size)


def _from(first: str, partition: int) -> str:
    """Return the entry ID with which a range begins in one partition."""
    dead_id = _DeadID.of(first.lstrip("("))
    # In a lower partition, an entry with the same ID comes before `first`.
    is_before = partition < dead_id.partition
    is_left_out = first.startswith("(") and partition == dead_id.partition
    return f"({dead_id.entry_id}" if is_left_out or is_before else dead_id.entry_id


def _up_to(last: str, partition: int) -> str:
    """Return the entry ID with which a range ends in one partition."""
    if "-" not in last:
        return last
    dead_id = _DeadID.of(last.lstrip("("))
    # In a higher partition, an entry with the same ID comes behind `last`.
    is_behind = partition > dead_id.partition
    is_left_out = last.startswith("(") and partition == dead_id.partition
    return f"({dead_id.entry_id}" if is_left_out or is_behind else dead_id.entry_id
