"""Takes entries of a group: new ones, those of silent holders, and those that a lost reply brought.

It asks all partitions fairly, and brings no more bytes than its caller has room for.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.stream.client import Client, allowance_for, checked
from hookmill.stream.codec import (
    may_be_left,
    taken_of,
    takeover_keys,
    taking_keys,
    undeliverable_of,
    words_of,
)
from hookmill.stream.direct_reads import DirectReads
from hookmill.stream.entries import EntryRef, Taken
from hookmill.stream.pauses import PauseReader
from hookmill.stream.script_runner import Call, ScriptRunner
from hookmill.stream.wakeup import WakeUp

TAKE_BYTES = 16 * 1024 * 1024
"""The most bytes that a take brings, where its caller does not say it."""

UNKNOWN_BYTES = 64 * 1024 * 1024
"""How many bytes an entry is expected to have at most, where that is not known."""

LEAST_COUNT = 50
"""Entries to ask a partition for, at least, under load: a call costs as much as several entries."""


class Takes:
    """What one consumer takes. `dedup_window` is for how many seconds at least a message ID is
    remembered. Methods raise as those of `Consumer` do.
    """

    def __init__(
        self,
        client: Client,
        group: str,
        consumer: str,
        scripts: ScriptRunner,
        wakeup: WakeUp,
        *,
        dedup_window: int,
    ) -> None:
        self._names = [group, consumer, dedup_window]
        self._partitions = [keys.of_group(group) for keys in client.partitions]
        self._direct = DirectReads(client, scripts, self._names, self._partitions)
        self.pauses = PauseReader(scripts, self._partitions)
        self._versions: dict[int, int] = self._direct.pauses
        """The versions of the pauses that this take was told, by partition."""
        self._backlogs = [keys.backlog for keys in client.partitions]
        self._scripts = scripts
        self._wakeup = wakeup
        self._next_partition = 0
        self._asked_alone = -1
        """The partition that was asked alone last."""
        self._largest: dict[int, int] = {}
        """The bytes of each partition's largest entry, when it was last asked; -1: unknown."""
        self._is_loaded = False
        """Whether the last take brought as many entries as it asked for."""
        self._fault: Exception | None = None
        """A partition's error that is still to be raised."""
        self._asking: tuple[int, ...] = ()
        """The partitions that are asked for entries now."""
        self._gave: dict[int, float] = {}
        """When a partition last gave entries, by `time.monotonic`."""
        self._take_began = math.inf
        """When the take under way began, by `time.monotonic`."""

    async def take(self, count: int, max_bytes: int = TAKE_BYTES) -> Taken:
        """Take up to `count` entries, from all partitions fairly, or after a wake-up from its
        partition, until they have `max_bytes`; the last one may pass that. Duplicates of an ID that
        another entry owns are acknowledged, and what must wait for others with its key is parked.

        If the result has no more, this worker may wait: it will be woken for all that is left.
        """
        if self._wakeup.is_look_due and not await self._wakeup.look():
            return Taken([], [], has_more=False)
        taken, asked = Taken([], []), 0
        self._take_began = time.monotonic()
        try:
            for shares in self._rounds(count):
                asked += len(shares)
                taken, alone = await self._take_from(shares, max_bytes // len(shares))
                if alone:
                    taken = await self._take_alone(alone, taken, count, max_bytes)
                self._is_loaded = taken.read == count >= LEAST_COUNT
                if not taken.is_empty:
                    break
            if not self._versions.items() <= self.pauses.known.versions.items():
                await self._heed_pauses()  # a part of the take: it can take longer than a lease
        finally:
            self._end_take()
        self._wakeup.took(taken, from_all=asked == len(self._partitions))
        return taken._replace(has_more=taken.has_more or self._wakeup.is_whole_take_due)

    async def take_over(
        self, partition: int, count: int, lease: float, max_bytes: int
    ) -> tuple[Taken, bool]:
        """Take over from silent holders, as `Consumer` says."""
        return await self._take_over(partition, [int(lease * 1000), count, max_bytes, "silent"])

    async def recover(
        self, partition: int, count: int, lease: float, max_bytes: int, known: Iterable[EntryRef]
    ) -> tuple[Taken, bool]:
        """Take what this consumer has and does not know of, as `Consumer` says."""
        words = words_of(ref for ref in known if ref.partition == partition)
        args = [int(lease * 1000), count, max_bytes, "own", *words]
        return await self._take_over(partition, args)

    def in_use(self, seconds: float) -> set[int]:
        """Return the partitions in which more may be held, as `Consumer` says."""
        # In this order: a reply is noted before it is no longer waited for.
        asking, began = self._asking, self._take_began
        gave = self._gave.copy()  # the copy is one atomic step
        since = min(began, time.monotonic() - seconds)
        return {*asking, *(number for number, at in gave.items() if at >= since)}

    def _rounds(self, count: int) -> Iterable[dict[int, int]]:
        """Yield which partitions a take asks for how many entries, round by round."""
        partition = self._wakeup.woken_for()
        if partition is None:
            return self._split(count)
        if not self._wakeup.is_whole_take_due:
            return [{partition: count}]
        self._next_partition = partition  # no other worker is woken for it, so it comes first
        return self._split(count)

    async def _take_over(self, partition: int, args: list[Any]) -> tuple[Taken, bool]:
        _, count, max_bytes, *_ = args
        keys = takeover_keys(self._partitions[partition])
        call = Call(partition, keys, [*self._names, *args])
        allowance = self._allowance({partition: count}, max_bytes)
        replies = await self._run_taking("takeover", {partition: call}, allowance)
        taken = taken_of(replies)._replace(undeliverable=undeliverable_of(replies))
        self._versions[partition] = replies[partition][5]
        await self._heed_pauses()
        return taken, replies[partition][3] == 1

    async def _heed_pauses(self) -> None:
        """Read the pauses again where they have changed. Where that fails, the take has failed:
        what it brought does not begin, and is recovered.
        """
        try:
            await self.pauses.heed(self._versions)
            self._versions.clear()  # what this knows of a partition may be old by the next take
        except Exception:
            self._wakeup.may_have_lost_one()
            raise

    def _split(self, count: int) -> Iterator[dict[int, int]]:
        """Split `count` over the partitions. Yield the number to ask of each, round by round.

        Usually one round asks all partitions for an even share. If there are more partitions than
        `count`, or under load, a round asks only some of them. Under load that is because one call
        should bring many entries. The next call begins with another partition.
        """
        several = len(self._partitions)
        at_once = max(1, count // LEAST_COUNT) if self._is_loaded else count
        order = [(self._next_partition + step) % several for step in range(several)]
        for start in range(0, several, at_once) if count else ():
            asked = order[start : start + at_once]
            self._next_partition += len(asked) if len(asked) < several else 1
            each, more = divmod(count, len(asked))
            yield {number: each + (place < more) for place, number in enumerate(asked)}

    async def _take_from(self, shares: dict[int, int], max_bytes: int) -> tuple[Taken, list[int]]:
        """Take from partitions, up to `max_bytes` of each: directly, or with a script where that is
        not possible. Return also those that have to be asked alone, because one of their entries
        may be larger than that.
        """
        taken: Taken | None = None
        if sizes := self._direct.sizes(shares, self._largest, max_bytes):
            read = await self._take_directly(sizes, max_bytes)
            shares = {number: share for number, share in shares.items() if number not in read}
            taken = functools.reduce(Taken.and_then, read.values()) if read else None
            if not shares and taken is not None:
                return taken, []
        try:
            more, alone = await self._take_by_script(shares, max_bytes)
        except (StreamUnavailableError, GroupLostError) as error:
            if taken is None or taken.is_empty:
                raise
            self._fault = error
            return taken._replace(has_more=True), []
        return more if taken is None else taken.and_then(more), alone

    async def _take_directly(self, sizes: dict[int, int], max_bytes: int) -> dict[int, Taken]:
        """Take new entries as `DirectReads` does. Return what the partitions gave that were read,
        and nothing of those that failed: the next call raises their error.
        """
        brought = await self._brought(
            sizes,
            lambda: self._direct.read(sizes, self._largest, self._allowance(sizes, max_bytes)),
            lambda taken: taken.entries if taken else (),
        )
        failed = {number: Taken([], []) for number in sizes.keys() - brought.keys()}
        return {number: taken for number, taken in brought.items() if taken is not None} | failed

    async def _take_by_script(
        self, shares: dict[int, int], max_bytes: int
    ) -> tuple[Taken, list[int]]:
        """Take in one round trip, with a script for each partition."""
        rest = [max(1, max_bytes), int(len(shares) > 1)]
        calls = {
            number: Call(number, self._keys_of_take(number), [*self._names, share, *rest])
            for number, share in shares.items()
        }
        allowance = self._allowance(shares, max_bytes)
        replies = await self._run_taking("take", calls, allowance)
        for number, reply in replies.items():
            self._largest[number], self._versions[number] = reply[3], reply[6]
            self._direct.note_take(number, reply)
        taken = taken_of(replies)._replace(
            weight=sum(reply[4] for reply in replies.values()),
            has_more=may_be_left(replies) or len(replies) < len(calls),
        )
        return taken, [number for number, reply in replies.items() if reply[5]]

    def _keys_of_take(self, number: int) -> list[str]:
        keys = self._partitions[number]
        return [*taking_keys(keys), self._backlogs[number], keys.wake]

    async def _take_alone(
        self, numbers: list[int], taken: Taken, count: int, max_bytes: int
    ) -> Taken:
        """Ask partitions one after another, for what is left of `count` and `max_bytes`. The next
        call begins with another one. Return what they gave, and `taken` before it.
        """
        several = len(self._partitions)
        numbers.sort(key=lambda number: (number - self._asked_alone - 1) % several)
        for number in numbers:
            left = max_bytes - taken.weight
            if left <= 0 or taken.read >= count:
                break
            self._asked_alone = number
            try:
                more, _ = await self._take_from({number: count - taken.read}, left)
            except (StreamUnavailableError, GroupLostError) as error:
                if taken.is_empty:
                    raise
                self._fault = error
                break
            taken = taken.and_then(more)
        return taken

    def _end_take(self) -> None:
        """Note that the caller has only now what the first partitions gave: to ask the others alone
        can take long.
        """
        began, now = self._take_began, time.monotonic()
        for number, gave_at in self._gave.items():
            if gave_at >= began:
                self._gave[number] = now
        self._take_began = math.inf

    def _allowance(self, shares: dict[int, int], max_bytes: int) -> float:
        """Return for how many seconds beyond the client's timeout a take may last."""
        size = 0
        for number, share in shares.items():
            largest = self._largest.get(number, -1)
            if largest < 0:
                largest = UNKNOWN_BYTES
            size += min(share * largest, max_bytes + largest)
        return allowance_for(size)

    async def _run_taking(
        self, name: str, calls: dict[int, Call], allowance: float = 0.0
    ) -> dict[int, Any]:
        """Run one of the scripts that take; return the replies by partition."""
        return await self._brought(
            calls,
            lambda: self._scripts.try_each(name, list(calls.values()), allowance=allowance),
            lambda reply: reply[0],
        )

    async def _brought(
        self,
        numbers: Iterable[int],
        ask: Callable[[], Awaitable[Sequence[Any]]],
        entries_of: Callable[[Any], Sequence[Any]],
    ) -> dict[int, Any]:
        """Ask these partitions; return the replies by partition. `entries_of` a reply are what it
        gives to run.

        If one partition fails, the entries of the others are returned, because this consumer holds
        them already. The next call raises the error.
        """
        self._raise_fault()
        given: dict[int, Any] = {}
        self._asking = tuple(numbers)
        try:
            replies = await ask()
            now = time.monotonic()
            for number, reply in zip(numbers, replies, strict=True):
                if isinstance(reply, Exception):
                    self._fault = reply
                    continue
                given[number] = reply
                if entries_of(reply):
                    self._gave[number] = now
        except Exception:
            self._wakeup.may_have_lost_one()
            raise
        finally:
            self._asking = ()
        if not any(entries_of(reply) for reply in given.values()):
            self._raise_fault()
        return given

    def _raise_fault(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            self._wakeup.may_have_lost_one()
            checked(fault)  # it raises
