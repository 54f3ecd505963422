"""The stream as the receivers see it: append, and is it there. And its upkeep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple, Self

from hookmill.errors import BacklogFullError, PartitionsError, StreamUnavailableError
from hookmill.message import Message
from hookmill.stream.arrival import Row, row_of
from hookmill.stream.client import connect, translated
from hookmill.stream.durability import Durability
from hookmill.stream.keys import Keys
from hookmill.stream.script_runner import Call, Scripts


class Backlog(NamedTuple):
    """How many messages, and bytes of them, are unfinished; as a limit, 0 means any number."""

    messages: int
    bytes: int

    def share(self, partitions: int) -> Backlog:
        """Return one partition's part of a limit."""
        return Backlog(*(math.ceil(number / partitions) for number in self))


NO_LIMIT = Backlog(0, 0)


class Producer:
    """The stream's partitions, as the receivers see them: append, and are they there.

    `timeout` is in seconds and bounds each command; no command is ever repeated by the client,
    for a repeated append would be a second message. `durability` is what an append must reach,
    `limit` the backlog at which it refuses; each partition has its even share of that.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        *,
        partitions: int = 1,
        timeout: float = 5.0,
        durability: str = "memory",
        limit: Backlog = NO_LIMIT,
    ) -> None:
        self.partitions = [Keys(prefix, number) for number in range(partitions)]
        self.url = url
        self.timeout = timeout
        self.redis = connect(url, timeout)
        self._count_key = f"{prefix}:partitions"
        self._is_agreed = False
        self._durability = Durability(durability, timeout)
        self._is_assured = False
        self._limit = limit.share(partitions)
        self._scripts = Scripts(self.redis, drains=False)
        self._upkeep = Scripts(self.redis, drains=True)

    @classmethod
    async def as_found(cls, url: str, prefix: str) -> Self:
        """Open a stream with as many partitions as it was made with."""
        looking = connect(url, 5.0)
        try:
            with translated():
                found: Any = await looking.get(f"{prefix}:partitions")
        finally:
            await looking.aclose()
        return cls(url, prefix, partitions=int(found or 1))

    async def agree(self, *, only_look: bool = False, anew: bool = False) -> None:
        """Raise `PartitionsError` unless everybody who shares this stream splits it alike.

        The first who does more than look settles the number; `anew` asks for it although it was
        settled before, since Redis may have lost it.
        """
        if self._is_agreed and not anew:
            return
        ours = len(self.partitions)
        with translated():
            found: Any = await self.redis.get(self._count_key)
            # Only where it is missing: a full Redis refuses the write, and has to be drained.
            if found is None and not only_look:
                await self.redis.set(self._count_key, ours, nx=True)
                found = await self.redis.get(self._count_key)
        if found is not None and int(found) != ours:
            raise PartitionsError(
                f"HOOKMILL_PARTITIONS is {ours}, but this stream was made with {int(found)}: set "
                "it to that, for receivers and workers alike"
            )
        self._is_agreed = found is not None

    async def append(self, messages: Sequence[Message]) -> list[str]:
        """Append messages as `append_rows` does; raise the first error of any of them."""
        results = await self.append_rows([row_of(message) for message in messages])
        for result in results:
            if isinstance(result, StreamUnavailableError):
                raise result
        return [str(result) for result in results]

    async def append_rows(self, rows: Sequence[Row]) -> list[str | StreamUnavailableError]:
        """Append rows in one round trip, each partition's all or none.

        Returns for each its entry ID, "" where its token was used before, or why its partition
        refused it; raises that where every partition did: `BacklogFullError` where too much is
        unfinished, `NotDurableError` where the durability asked for was not reached (then the
        messages may be there all the same).
        """
        if not rows:
            return []
        await self.agree()
        numbers = self._by_partition(rows)
        calls = [
            self._append_call(self.partitions[partition], [rows[number] for number in some])
            for partition, some in numbers.items()
        ]
        with translated():
            replies = await self._run_append(calls)
        if all(isinstance(reply, Exception) for reply in replies):
            raise _refused(replies[0])
        results: list[str | StreamUnavailableError] = [""] * len(rows)
        for some, reply in zip(numbers.values(), replies, strict=True):
            if isinstance(reply, Exception):
                for number in some:
                    results[number] = _refused(reply)
            else:
                for number, entry_id in zip(some, reply, strict=True):
                    results[number] = entry_id.decode()
        return results

    async def probe(self) -> None:
        """Raise `StreamUnavailableError` unless Redis takes writes now, at the durability asked
        for.

        Asks for a write that changes nothing: no stream has the probe's key, and NOMKSTREAM
        forbids making it. A full, read-only or loading Redis refuses it as it would an append.
        """
        with translated():
            await self.redis.xadd(self.partitions[0].probe, {"probe": ""}, nomkstream=True)
        await self.agree(only_look=True)
        await self._assure()

    async def measure_backlog(self) -> Backlog:
        """Count anew how much is unfinished, and correct what the appends go by.

        The messages are exact where the server tells a group's lag (Redis 7.0, Valkey), else
        estimated by time; the bytes are always an estimate.
        """
        calls = [Call([keys.stream, keys.backlog], keys.group_parts) for keys in self.partitions]
        with translated():
            replies = await self._upkeep.run_each("measure", calls)
        return Backlog(*map(sum, zip(*replies, strict=True)))

    async def trim(self, retention: float) -> int:
        """Drop what all groups have finished and is older than `retention` seconds."""
        ms = int(retention * 1000)
        calls = [Call([keys.stream], [ms, *keys.low_water_parts]) for keys in self.partitions]
        with translated():
            return sum(await self._upkeep.run_each("trim", calls))

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()

    def _by_partition(self, rows: Sequence[Row]) -> Mapping[int, Sequence[int]]:
        """Return the numbers of the rows that belong to each partition."""
        if len(self.partitions) == 1:
            return {0: range(len(rows))}
        numbers: dict[int, list[int]] = {}
        for number, row in enumerate(rows):
            numbers.setdefault(row.partition(len(self.partitions)), []).append(number)
        return numbers

    def _append_call(self, keys: Keys, rows: list[Row]) -> Call:
        size = 0
        args: list[str | bytes | int] = []
        for names, alike in groupby(rows, key=_names_of):
            some = list(alike)
            args += (len(names), *names, len(some))
            for row in some:
                fields = row.fields
                args += (fields.get(b"digest", b""), row.token, row.expires, row.remember_ms)
                args += fields.values()
                size += sum(map(len, fields.values()))
        head = [size, *self._limit, *keys.group_parts]
        return Call([keys.stream, keys.backlog, keys.tokens], [*head, *args])

    async def _run_append(self, calls: list[Call]) -> list[Any]:
        """Return a reply for each call, an error where it failed."""
        durability = self._durability
        if durability.command is None:
            return await self._scripts.try_each("append", calls)
        if not self._is_assured:
            # Asked before: or each repeat of its sender would leave one more copy in the stream.
            await self._assure()
        self._is_assured = False
        *replies, reached = await self._scripts.try_each("append", calls, durability.command)
        if all(isinstance(reply, Exception) for reply in replies):
            return replies
        if not durability.judge(reached):
            await self._assure()
        self._is_assured = True
        return replies

    async def _assure(self) -> None:
        """Raise `NotDurableError` where the durability cannot be had as things are."""
        while (command := self._durability.command) is not None:
            with translated():
                (reply,) = await self.redis.ask(command)
            if self._durability.judge(reply):
                break
        self._is_assured = True


def _names_of(row: Row) -> tuple[bytes, ...]:
    return tuple(row.fields)


def _refused(reply: Exception) -> StreamUnavailableError:
    if str(reply).startswith("BACKLOGFULL"):
        return BacklogFullError("too many messages are unfinished")
    return StreamUnavailableError(str(reply))
