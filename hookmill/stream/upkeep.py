"""Keeps Redis small: trims the stream, counts the backlog, removes consumers that are gone.

The workers' janitor calls these; one worker at a time is enough for a group.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from hookmill.stream.client import Client, checked
from hookmill.stream.facts import Backlog
from hookmill.stream.heartbeats import PLACE
from hookmill.stream.script_runner import Call, ScriptRunner

RECOUNT_BYTES = 4 * 1024 * 1024
"""Bytes that one step of a recount reads: other commands wait for so long."""

RECOUNT_STEPS, RECOUNT_SECONDS = 32, 20.0
"""Steps of a recount in one go, and after how many seconds it ends where Redis is slow."""


class Upkeep:
    """The upkeep of the whole stream, and of one consumer group."""

    def __init__(self, client: Client, group: str) -> None:
        self._client = client
        self._group = group
        self._partitions = client.partitions
        self._group_keys = [keys.of_group(group) for keys in client.partitions]
        self._scripts = ScriptRunner(client, drains=True)

    async def claim(self, seconds: float) -> float:
        """Claim the group's upkeep for so many seconds. Return 0.0, or for how many seconds it is
        another worker's.
        """
        call = Call(0, [self._group_keys[0].upkeep], [max(1, int(seconds * 1000))])
        return float(await self._scripts.run("claim", call)) / 1000

    async def trim(self, retention: float) -> int:
        """Drop what all groups have finished and is older than `retention` seconds; return how
        many entries that were.
        """
        ms = int(retention * 1000)
        return await self._sum_of(
            "trim",
            [
                Call(number, [keys.stream, keys.backlog, keys.index], [ms, *keys.group_parts])
                for number, keys in enumerate(self._partitions)
            ],
        )

    async def measure_backlog(self) -> Backlog:
        """Count how much is unfinished, and correct the counts by which appends are refused.

        Where what was reckoned is not what is there, entries are counted again, up to some amount;
        the next call goes on. Until all of it was counted, the bytes are an estimate.
        """
        backlog, again = await self._measure()
        steps, until = RECOUNT_STEPS, time.monotonic() + RECOUNT_SECONDS
        while again and steps > 0 and time.monotonic() < until:
            steps -= len(again)
            again = await self._recount(again)
            if not again:
                backlog, _ = await self._measure()
        return backlog

    async def _measure(self) -> tuple[Backlog, list[int]]:
        """Return the backlog, and the partitions in which bytes have to be counted again."""
        calls = [
            Call(number, [keys.stream, keys.backlog], keys.group_parts)
            for number, keys in enumerate(self._partitions)
        ]
        replies = await self._scripts.run_each("measure", calls)
        messages, size, again = zip(*replies, strict=True)
        return Backlog(sum(messages), sum(size)), [
            n for n, is_wrong in enumerate(again) if is_wrong
        ]

    async def _recount(self, partitions: Sequence[int]) -> list[int]:
        """Count a step further in these partitions; return those where there is more to count."""
        calls = []
        for number in partitions:
            keys = self._partitions[number]
            args = [RECOUNT_BYTES, *keys.group_parts]
            calls.append(Call(number, [keys.stream, keys.backlog], args))
        replies = await self._scripts.run_each("recount", calls)
        return [number for number, more in zip(partitions, replies, strict=True) if more]

    async def retire(self, idle: float, consumer: str = "") -> int:
        """Remove the group's consumers that hold nothing and were idle for `idle` seconds, or only
        the one that is named; return how many were removed.
        """
        args = [self._group, int(idle * 1000), consumer]
        replies = await self._scripts.run_each(
            "retire",
            [
                Call(number, [keys.stream, keys.again], args)
                for number, keys in enumerate(self._group_keys)
            ],
        )
        left = {name for _, names in replies for name in names}
        await self._forget_lease_numbers(left, consumer)
        return sum(removed for removed, _ in replies)

    async def _forget_lease_numbers(self, left: set[bytes], consumer: str) -> None:
        """Remove the lease numbers of consumers that are not `left`, or only that of the one that
        is named. A worker that has not taken anything yet is no consumer, but has a heartbeat.
        """
        asked = [
            (number, ("HKEYS", keys.lease_numbers)) for number, keys in enumerate(self._group_keys)
        ]
        beats = PLACE, ("HKEYS", self._group_keys[PLACE].heartbeats)
        alive, *numbered = map(set, map(checked, await self._client.ask_places([beats, *asked])))
        for number, names in enumerate(numbered):
            gone = names & {consumer.encode()} if consumer else names - alive
            if gone := gone - left:
                key = self._group_keys[number].lease_numbers
                await self._client.execute(number, "HDEL", key, *gone)

    async def _sum_of(self, name: str, calls: Sequence[Call]) -> int:
        return sum(await self._scripts.run_each(name, calls))
