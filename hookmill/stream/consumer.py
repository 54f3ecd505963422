"""A consumer group as one worker sees it: take, wait, settle, lease, and its upkeep."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import connect, translated
from hookmill.stream.codec import settling_calls, taken_of, taking_keys
from hookmill.stream.entries import EntryRef, Settlement, Taken
from hookmill.stream.leases import BlockingLeases
from hookmill.stream.producer import Producer
from hookmill.stream.script_runner import Call, Scripts

LEAST_SHARE = 50
"""Entries to ask a partition for where all have plenty: a call costs as much as several of them."""


class Consumer:
    """One consumer's view of a consumer group in all partitions: take, wait, settle, upkeep.

    `dedup_window` is for how many seconds at least a message ID is remembered.
    """

    def __init__(self, stream: Producer, name: str, consumer: str, *, dedup_window: int) -> None:
        self.name = name
        self.consumer = consumer
        self.partitions = [keys.of_group(name) for keys in stream.partitions]
        self._stream = stream
        self._dedup_window = dedup_window
        self._scripts = Scripts(stream.redis, drains=True)
        # A blocking read needs a connection of its own, with a patience longer than the block.
        self._waiting = connect(stream.url, timeout=None)
        self._listening = connect(stream.url, timeout=None)
        self._told: dict[Any, Any] = {}
        self._waiting_id: int | None = None
        self._bell = f"{name}:bell"
        self._next = 0
        self._is_plenty = False
        self._fault: Exception | None = None

    async def open(self) -> int:
        """Make the group where it is missing; return how many of its halves were made."""
        await self._stream.agree(anew=True)
        args = [self.name, self._bell]
        return sum(
            await self._on_each(
                "open",
                {
                    number: Call([keys.stream, keys.again, keys.low_water], args)
                    for number, keys in enumerate(self.partitions)
                },
            )
        )

    async def take(self, count: int) -> Taken:
        """Take up to `count` entries, from all partitions fairly; repeats of an ID that another
        entry owns are acknowledged, and what must wait for others with its key is parked.

        An empty reply means that there is nothing to take anywhere.
        """
        args = [self.name, self.consumer, self._dedup_window, self._bell]
        for shares in self._shares(count):
            calls = {
                number: Call(taking_keys(self.partitions[number]), [*args, share])
                for number, share in shares.items()
            }
            taken = taken_of(await self._take("take", calls))
            self._is_plenty = taken.read == count >= LEAST_SHARE
            if not taken.is_empty:
                return taken
        return Taken([], [])

    async def wait(self, seconds: float) -> bool:
        """Wait until there may be something to take; return whether there may.

        Each entry that comes ends the waiting of one worker. It takes nothing: who has heard the
        bell should take at once.
        """
        streams: dict[Any, Any] = {}
        for keys in self.partitions:
            streams |= {keys.again: ">", keys.stream: ">"}
        with translated():
            async with asyncio.timeout(seconds + self._stream.timeout):
                self._waiting_id = await self._waiting.client_id()
                rung: Any = await self._waiting.xreadgroup(
                    self._bell,
                    "bell",
                    streams,
                    count=1,
                    block=max(1, int(seconds * 1000)),  # 0 would be for ever
                    noack=True,
                )
            # It rings in each stream at once, and we have one worker's hands: the rest is for
            # others. Who is woken in vain goes back to sleep.
            later = [
                ("XGROUP", "SETID", key, self._bell, _before(row[0][0])) for key, row in rung[1:]
            ]
            if later:
                await self._stream.redis.ask(*later)
        return bool(rung)

    async def stop_waiting(self) -> None:
        """End a `wait` in progress."""
        if self._waiting_id is not None:
            with suppress(StreamUnavailableError), translated():
                await self._stream.redis.client_unblock(self._waiting_id)

    async def take_over(
        self, count: int, lease: float, pause: float, in_touch: int = 0
    ) -> tuple[Taken, float]:
        """Go on with the group's sweep: take over up to `count` entries whose consumer was silent
        for `lease` seconds. All workers share one sweep, and its place is kept in Redis; when it is
        through, the next is due after `pause` seconds. `in_touch` is when we last were, by
        `redis_time` (0: not known): nothing is taken over where that is half a lease ago.

        Returns them, and the seconds until the sweep is to be gone on with.
        """
        args = [self.name, self.consumer, self._dedup_window]
        args += [int(lease * 1000), int(pause * 1000), in_touch]
        waits: list[int] = []
        for shares in self._shares(count):
            calls = {
                number: Call(
                    [*taking_keys(self.partitions[number]), self.partitions[number].sweep],
                    [*args, share],
                )
                for number, share in shares.items()
            }
            replies = await self._take("takeover", calls)
            waits += [reply[3] for reply in replies.values()]
            taken = taken_of(replies)
            if not taken.is_empty:
                return taken, 0.0
        return Taken([], []), min(waits) / 1000

    async def settle(self, settlements: Iterable[Settlement]) -> list[str]:
        """Write down what became of entries; return the IDs of those that were no longer ours."""
        calls = settling_calls(self.partitions, [self.name, self.consumer], settlements)
        return [
            entry_id.decode()
            for reply in await self._on_each("settle", calls)
            for entry_id in reply[1]
        ]

    async def run_alone(self, ref: EntryRef) -> int:
        """Note that a suspect is about to run alone; return for which time it does."""
        call = Call([self.partitions[ref.partition].suspects], [ref.key_number, ref.id])
        (times,) = await self._on_each("alone", {ref.partition: call})
        return int(times)

    async def release(self, count: int) -> tuple[int, float | None]:
        """Let delayed messages that are due be taken, up to `count` in each partition; return the
        most that were in one, and the seconds until the next one is due (None: none waits).
        What is delayed from now on and due before that ends `wait_for_sooner`.
        """
        replies = await self._on_each(
            "release",
            {
                number: Call([keys.again, keys.delayed, keys.delayed_entries, keys.sooner], [count])
                for number, keys in enumerate(self.partitions)
            },
        )
        keys_of_sooner = [keys.sooner for keys in self.partitions]
        self._told = dict(zip(keys_of_sooner, [told for _, _, told in replies], strict=True))
        waits = [wait_ms for _, wait_ms, _ in replies if wait_ms >= 0]
        return max(moved for moved, _, _ in replies), min(waits) / 1000 if waits else None

    async def wait_for_sooner(self, seconds: float) -> None:
        """Wait until something has been delayed that is due before all that the last `release` knew
        of, whoever delayed it; at most so many seconds.
        """
        with translated():
            async with asyncio.timeout(seconds + self._stream.timeout):
                await self._listening.xread(self._told, block=max(1, round(seconds * 1000)))

    async def claim_upkeep(self, seconds: float) -> float:
        """Claim the group's upkeep for so long; return 0.0, or for how many seconds it is another
        worker's.
        """
        call = Call([self.partitions[0].upkeep], [max(1, int(seconds * 1000))])
        (wait_ms,) = await self._on_each("claim", {0: call})
        return float(wait_ms) / 1000

    async def retire(self, idle: float, consumer: str = "") -> int:
        """Remove consumers that hold nothing and were idle for that many seconds."""
        args = [self.name, int(idle * 1000), consumer]
        return sum(
            await self._on_each(
                "retire",
                {
                    number: Call([keys.stream, keys.again], args)
                    for number, keys in enumerate(self.partitions)
                },
            )
        )

    async def redis_uptime(self) -> float:
        """Return for how many seconds Redis itself has been up."""
        with translated():
            return float((await self._stream.redis.info("server"))["uptime_in_seconds"])

    async def redis_time(self) -> int:
        """Return Redis' own time, in Unix milliseconds."""
        with translated():
            seconds, microseconds = await self._stream.redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def leases(self) -> BlockingLeases:
        """Open a view of this consumer's leases for a thread of its own."""
        return BlockingLeases(self._stream.url, self.partitions, self.name, self.consumer)

    async def close(self) -> None:
        """Close the waiting connections; the stream's own stay."""
        await self._waiting.aclose()
        await self._listening.aclose()

    def _shares(self, count: int) -> Iterator[dict[int, int]]:
        """Say of which partitions to ask how many, so that together they give at most `count`: all
        of them at once, or some after others where there are more than that, or where those asked
        last had all that they were asked for. Who comes first changes from time to time.
        """
        several = len(self.partitions)
        at_once = max(1, count // LEAST_SHARE) if self._is_plenty else count
        order = [(self._next + step) % several for step in range(several)]
        for start in range(0, several, at_once) if count else ():
            asked = order[start : start + at_once]
            self._next += len(asked) if len(asked) < several else 1
            each, more = divmod(count, len(asked))
            yield {number: each + (place < more) for place, number in enumerate(asked)}

    async def _take(self, name: str, calls: dict[int, Call]) -> dict[int, Any]:
        """Run one of the scripts that take; return each partition's reply.

        Where one fails, what the others gave is in our hands all the same: its error is raised by
        the next call.
        """
        with translated():
            if self._fault is not None:
                fault, self._fault = self._fault, None
                raise fault
            replies = await self._scripts.try_each(name, list(calls.values()))
            given: dict[int, Any] = {}
            for number, reply in zip(calls, replies, strict=True):
                if isinstance(reply, Exception):
                    self._fault = reply
                else:
                    given[number] = reply
            if self._fault is not None and not any(reply[0] for reply in given.values()):
                fault, self._fault = self._fault, None
                raise fault
            return given

    async def _on_each(self, name: str, calls: dict[int, Call]) -> list[Any]:
        with translated():
            return await self._scripts.run_each(name, list(calls.values()))


def _before(entry_id: bytes) -> str:
    """Return the ID that comes just before another."""
    ms, sequence = map(int, entry_id.split(b"-"))
    return f"{ms}-{sequence - 1}" if sequence else f"{ms - 1}-{2**64 - 1}"
