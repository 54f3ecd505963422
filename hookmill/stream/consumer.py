"""A consumer group as one worker sees it: take, wait, settle, release, take over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hookmill.stream.attempts import NO_HISTORY, HistoryBounds
from hookmill.stream.client import Client, allowance_for
from hookmill.stream.codec import settling_calls, words_of
from hookmill.stream.entries import EntryRef, Settlement, Taken
from hookmill.stream.groups import Groups
from hookmill.stream.leases import BlockingLeases
from hookmill.stream.looks import Looks
from hookmill.stream.pauses import Pauses
from hookmill.stream.releases import Look, Releases
from hookmill.stream.script_runner import Call, ScriptRunner
from hookmill.stream.takes import TAKE_BYTES, Takes
from hookmill.stream.wakeup import WakeUp


class Consumer:
    """One consumer's view of a consumer group in all partitions.

    `consumer` is the worker's unique name; `dedup_window` is for how many seconds at least a
    message ID is remembered. `makes_group`: the first `open` may make the group. `history` bounds
    what is kept of attempts. Methods raise `StreamUnavailableError` if Redis does not answer, and
    `GroupLostError` if the group is gone and must be opened again.
    """

    def __init__(
        self,
        client: Client,
        group: str,
        consumer: str,
        *,
        dedup_window: int,
        makes_group: bool = True,
        history: HistoryBounds = NO_HISTORY,
    ) -> None:
        self.name = group
        self.consumer = consumer
        self.partitions = [keys.of_group(group) for keys in client.partitions]
        self._client = client
        self._groups = Groups(client)
        self._makes_group = makes_group
        self._history = history.shared_by(client.total)
        self._scripts = ScriptRunner(client, drains=True)
        self._wakeup = WakeUp(client, client.partitions, self.partitions)
        self._releases = Releases(client, group, consumer)
        self._takes = Takes(
            client, group, consumer, self._scripts, self._wakeup, dedup_window=dedup_window
        )
        self.pauses = self._takes.pauses.known
        """What this consumer knows of the group's pauses."""
        self._group_pauses = Pauses(client, group)

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
        """Take up to `count` entries, until they have `max_bytes`; the last one may pass that.

        If the result has no more, this worker may wait: it will be woken for all that is left.
        """
        return await self._takes.take(count, max_bytes)

    async def take_over(
        self, partition: int, count: int, lease: float, max_bytes: int
    ) -> tuple[Taken, bool]:
        """Take over up to `count` entries from holders that are silent; return them, and whether
        there may be more. They have `max_bytes` together at most, but a single one may have more.

        Who is silent, is known from looks (hookmill/stream/looks.py). `lease` is in seconds.
        """
        return await self._takes.take_over(partition, count, lease, max_bytes)

    async def recover(
        self, partition: int, count: int, lease: float, max_bytes: int, known: Iterable[EntryRef]
    ) -> tuple[Taken, bool]:
        """Do the same with entries of this consumer itself that it does not know of, because the
        reply that brought them was lost. Those that it knows are `known`.
        """
        return await self._takes.recover(partition, count, lease, max_bytes, known)

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
        calls = settling_calls(
            self.partitions, names, settlements, whole=whole, bounds=self._history
        )
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

    async def heed_pauses(self, version: int) -> None:
        """Read the pauses again, unless they are of this version."""
        await self._takes.pauses.heed_first(version)

    async def end_due_pauses(self, partitions: Iterable[int]) -> None:
        """Go a step on with one pause of each partition that has to end by itself."""
        await self._group_pauses.end_due(partitions)

    async def wait_for_sooner(self, seconds: float) -> bool:
        """Wait until a message is delayed that is due before all that the last look saw, or the
        pauses change; return whether there was such a thing. Wait at most `seconds`.
        """
        return await self._releases.wait_for_sooner(seconds)

    def in_use(self, seconds: float) -> set[int]:
        """Return the partitions in which this consumer may hold entries that the caller does not
        know of: it asks there now, or was given some within the last `seconds`. Any thread may call
        it.
        """
        return self._takes.in_use(seconds)

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
