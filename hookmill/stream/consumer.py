"""A consumer group as one worker sees it: take, wait, settle, release, take over."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.stream.client import Client, allowance_for, checked
from hookmill.stream.codec import (
    may_be_left,
    settling_calls,
    taken_of,
    takeover_keys,
    taking_keys,
    undeliverable_of,
    words_of,
)
from hookmill.stream.entries import EntryRef, Settlement, Taken
from hookmill.stream.groups import Groups
from hookmill.stream.leases import BlockingLeases
from hookmill.stream.looks import Looks
from hookmill.stream.releases import Look, Releases
from hookmill.stream.script_runner import Call, ScriptRunner
from hookmill.stream.wakeup import WakeUp

TAKE_BYTES = 16 * 1024 * 1024
"""The most bytes that a take brings, where its caller does not say it."""

UNKNOWN_BYTES = 64 * 1024 * 1024
"""How many bytes an entry is expected to have at most, where that is not known."""

# Long because: all of it is one consumer's view, and what takes shares its state.

LEAST_COUNT = 50
"""Entries to ask a partition for, at least, under load: a call costs as much as several entries."""


class Consumer:
    """One consumer's view of a consumer group in all partitions.

    `consumer` is the worker's unique name; `dedup_window` is for how many seconds at least a
    message ID is remembered. `makes_group`: the first `open` may make the group. Methods raise
    `StreamUnavailableError` if Redis does not answer, and `GroupLostError` if the group is gone and
    must be opened again.
    """

    def __init__(
        self,
        client: Client,
        group: str,
        consumer: str,
        *,
        dedup_window: int,
        makes_group: bool = True,
    ) -> None:
        self.name = group
        self.consumer = consumer
        self.partitions = [keys.of_group(group) for keys in client.partitions]
        self._client = client
        self._groups = Groups(client)
        self._makes_group = makes_group
        self._dedup_window = dedup_window
        self._scripts = ScriptRunner(client, drains=True)
        self._wakeup = WakeUp(client, client.partitions, self.partitions)
        self._releases = Releases(client, group, consumer)
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

    async def open(self) -> int:
        """Make the group if it is missing; return in how many streams it was made. There are two in
        each partition: the stream, and the group's own again stream.

        Raises `GroupRefusedError` if the group was dropped, or is unknown and this consumer may not
        make it. A consumer that has opened its group once makes it again after a loss.
        """
        if not self._makes_group:
            await self._groups.check(self.name)
        await self._client.agree_on_partitions(again=True)
        made = await self._groups.make(self.name)
        self._makes_group = True
        return made

    async def take(self, count: int, max_bytes: int = TAKE_BYTES) -> Taken:
        """Take up to `count` entries, from all partitions fairly, or after a wake-up from its
        partition, until they have `max_bytes`; the last one may pass that. Duplicates of an ID that
        another entry owns are acknowledged, and what must wait for others with its key is parked.

        If the result has no more, this worker may wait: it will be woken for all that is left.
        """
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
        finally:
            self._end_take()
        self._wakeup.took(taken, from_all=asked == len(self.partitions))
        return taken._replace(has_more=taken.has_more or self._wakeup.is_whole_take_due)

    async def wait(self, seconds: float) -> bool:
        """Wait until there may be something to take; return whether there may. A worker that gets
        True should take at once: no other is woken for the same entry.
        """
        return await self._wakeup.wait(seconds)

    async def wake_another(self) -> None:
        """Wake another worker in place of this one, which was woken and takes nothing more."""
        await self._wakeup.wake_another()

    async def stop_waiting(self) -> None:
        """End a `wait` that is under way."""
        await self._wakeup.end_wait()

    async def take_over(
        self, partition: int, count: int, lease: float, max_bytes: int
    ) -> tuple[Taken, bool]:
        """Take over up to `count` entries from holders that are silent; return them, and whether
        there may be more. They have `max_bytes` together at most, but a single one may have more.

        Who is silent, is known from looks (hookmill/stream/looks.py). `lease` is in seconds.
        """
        return await self._take_over(partition, [int(lease * 1000), count, max_bytes, "silent"])

    async def recover(
        self, partition: int, count: int, lease: float, max_bytes: int, known: Iterable[EntryRef]
    ) -> tuple[Taken, bool]:
        """Do the same with entries of this consumer itself that it does not know of, because the
        reply that brought them was lost. Those that it knows are `known`.
        """
        words = words_of(ref for ref in known if ref.partition == partition)
        args = [int(lease * 1000), count, max_bytes, "own", *words]
        return await self._take_over(partition, args)

    async def settle(self, settlements: Iterable[Settlement]) -> list[str]:
        """Write what became of entries; return the IDs of those that another worker took over."""
        late, gone = await self._settle([*settlements], whole=False)
        if gone:  # somebody deleted them, so Redis cannot copy their fields
            late += (await self._settle(gone, whole=True))[0]
        return late

    async def _settle(
        self, settlements: list[Settlement], *, whole: bool
    ) -> tuple[list[str], list[Settlement]]:
        """Settle entries, and send their fields if `whole`. Return the IDs of those that another
        worker took over, and what is not settled, because its fields are missing.
        """
        names = [self.name, self.consumer]
        calls = settling_calls(self.partitions, names, settlements, whole=whole)
        size = sum(one.written_bytes for one in settlements if one.follow_ups)
        replies = await self._scripts.run_each(
            "settle", [call for call, _ in calls], allowance=allowance_for(size)
        )
        late: list[str] = []
        gone: list[Settlement] = []
        for (_, others), (_, late_ids, positions) in zip(calls, replies, strict=True):
            late += [entry_id.decode() for entry_id in late_ids]
            gone += [others[position - 1] for position in positions]
        return late, gone

    async def confirm(self, refs: Sequence[EntryRef]) -> None:
        """Note that a takeover has brought these entries. All are of one partition."""
        number = refs[0].partition
        call = Call(number, [self.partitions[number].deliveries], words_of(refs))
        await self._scripts.run("confirm", call)

    async def run_alone(self, ref: EntryRef, token: str) -> int:
        """Count that a suspect is about to run alone; return the count, this run included. Another
        call with the same token is about the same run and does not count.
        """
        keys = self.partitions[ref.partition]
        args = [*words_of([ref]), token]
        call = Call(ref.partition, [keys.suspects, keys.deliveries], args)
        return int(await self._scripts.run("alone", call))

    async def look_at_delayed(self, *, instead_of: int | None = None) -> Look:
        """Look at what is delayed. Take the releaser's task over if its number is `instead_of`."""
        return await self._releases.look(instead_of=instead_of)

    async def release(
        self, count: int, partitions: Iterable[int] | None = None
    ) -> tuple[int, float | None]:
        """Move due delayed messages of these partitions (None: of all) to the again stream, up to
        `count` in each.

        Return the most that were moved in one partition, and the seconds until the next message is
        due there (None: none is delayed).
        """
        return await self._releases.release(count, partitions)

    async def wait_for_sooner(self, seconds: float) -> bool:
        """Wait until a message is delayed that is due before all that the last look saw; return
        whether there was one. Wait at most `seconds`.
        """
        return await self._releases.wait_for_sooner(seconds)

    def in_use(self, seconds: float) -> set[int]:
        """Return the partitions in which this consumer may hold entries that the caller does not
        know of: it asks there now, or was given some within the last `seconds`. Any thread may call
        it.
        """
        # In this order: a reply is noted before it is no longer waited for.
        asking, began = self._asking, self._take_began
        gave = self._gave.copy()  # the copy is one atomic step
        since = min(began, time.monotonic() - seconds)
        return {*asking, *(number for number, at in gave.items() if at >= since)}

    def leases(self, timeout: float = 2.0) -> BlockingLeases:
        """Return what renews this consumer's leases; use it from one other thread. `timeout` is in
        seconds, for one command.
        """
        return BlockingLeases(self._client, self.name, self.consumer, timeout)

    def looks(self) -> Looks:
        """Return how this consumer takes part in the group's looks."""
        return Looks(self._client, self.name, self.consumer)

    async def close(self) -> None:
        """Close the connections of blocking commands; the client's own stay open."""
        await self._wakeup.close()
        await self._releases.close()

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
        names = [self.name, self.consumer, self._dedup_window]
        call = Call(partition, takeover_keys(self.partitions[partition]), [*names, *args])
        allowance = self._allowance({partition: count}, max_bytes)
        replies = await self._run_taking("takeover", {partition: call}, allowance)
        taken = taken_of(replies)._replace(undeliverable=undeliverable_of(replies))
        return taken, replies[partition][3] == 1

    def _split(self, count: int) -> Iterator[dict[int, int]]:
        """Split `count` over the partitions. Yield the number to ask of each, round by round.

        Usually one round asks all partitions for an even share. If there are more partitions than
        `count`, or under load, a round asks only some of them. Under load that is because one call
        should bring many entries. The next call begins with another partition.
        """
        several = len(self.partitions)
        at_once = max(1, count // LEAST_COUNT) if self._is_loaded else count
        order = [(self._next_partition + step) % several for step in range(several)]
        for start in range(0, several, at_once) if count else ():
            asked = order[start : start + at_once]
            self._next_partition += len(asked) if len(asked) < several else 1
            each, more = divmod(count, len(asked))
            yield {number: each + (place < more) for place, number in enumerate(asked)}

    async def _take_from(self, shares: dict[int, int], max_bytes: int) -> tuple[Taken, list[int]]:
        """Take from partitions in one round trip, up to `max_bytes` of each. Return also those that
        have to be asked alone, because one of their entries may be larger than that.
        """
        args = [self.name, self.consumer, self._dedup_window]
        rest, keys = [max(1, max_bytes), int(len(shares) > 1)], self.partitions
        calls = {
            number: Call(
                number,
                [
                    *taking_keys(keys[number]),
                    self._client.partitions[number].backlog,
                    keys[number].wake,
                ],
                [*args, share, *rest],
            )
            for number, share in shares.items()
        }
        allowance = self._allowance(shares, max_bytes)
        replies = await self._run_taking("take", calls, allowance)
        for number, reply in replies.items():
            self._largest[number] = reply[3]
        taken = taken_of(replies)._replace(
            weight=sum(reply[4] for reply in replies.values()),
            has_more=may_be_left(replies) or len(replies) < len(calls),
        )
        return taken, [number for number, reply in replies.items() if reply[5]]

    async def _take_alone(
        self, numbers: list[int], taken: Taken, count: int, max_bytes: int
    ) -> Taken:
        """Ask partitions one after another, for what is left of `count` and `max_bytes`. The next
        call begins with another one. Return what they gave, and `taken` before it.
        """
        several = len(self.partitions)
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
        """Run one of the scripts that take; return the replies by partition.

        If one partition fails, the entries of the others are returned, because this consumer holds
        them already. The next call raises the error.
        """
        self._raise_fault()
        given: dict[int, Any] = {}
        self._asking = tuple(calls)
        try:
            replies = await self._scripts.try_each(name, list(calls.values()), allowance=allowance)
            now = time.monotonic()
            for number, reply in zip(calls, replies, strict=True):
                if isinstance(reply, Exception):
                    self._fault = reply
                    continue
                given[number] = reply
                if reply[0]:
                    self._gave[number] = now
        except Exception:
            self._wakeup.may_have_lost_one()
            raise
        finally:
            self._asking = ()
        if not any(entries for entries, *_ in given.values()):
            self._raise_fault()
        return given

    def _raise_fault(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            self._wakeup.may_have_lost_one()
            checked(fault)  # it raises
