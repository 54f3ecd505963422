"""The stream as the receivers see it: append messages, and ask whether Redis would take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from hookmill.errors import BacklogFullError, NotDurableError, StreamUnavailableError
from hookmill.message import SAFE_VERSION, Message
from hookmill.stream.arrival import Row, row_of
from hookmill.stream.client import Client, checked
from hookmill.stream.durability import Durability
from hookmill.stream.entries import weight_of
from hookmill.stream.facts import NO_LIMIT, Backlog
from hookmill.stream.groups import shown
from hookmill.stream.script_runner import Call, ScriptRunner


class Producer:
    """Appends to the partitions of a stream.

    `durability` is what an append must reach: `memory`, `aof` or `replicas:N`. `limit` is the
    backlog at which appends are refused; each partition has its even share of it.
    """

    def __init__(
        self, client: Client, *, durability: str = "memory", limit: Backlog = NO_LIMIT
    ) -> None:
        self.client = client
        self.lanes: list[Producer] = [self]
        """The producers of each lane of the stream."""
        self.partitions = client.partitions
        self._level = durability
        self._whole_limit = limit
        self._durability = Durability(durability, client.timeout)
        self._is_durable = False
        """Whether the durability was there when it was last asked for."""
        self._limit = limit.share(client.total)
        self._places = {number: place for place, number in enumerate(client.numbers)}
        self._scripts = ScriptRunner(client, drains=False)

    def with_timeout(self, seconds: float) -> Producer:
        """Return a producer with connections of its own, whose commands may take so long.

        It waits for the durability no longer than this one. Whoever uses it closes its client.
        """
        other = Producer(
            self.client.with_timeout(seconds), durability=self._level, limit=self._whole_limit
        )
        other._durability = Durability(self._level, self.client.timeout)
        return other

    async def append(
        self, messages: Sequence[Message], wire_version: int = SAFE_VERSION
    ) -> list[str]:
        """Append messages as `append_rows` does; raise the first error of any of them."""
        rows = [row_of(message, wire_version) for message in messages]
        return [str(checked(result)) for result in await self.append_rows(rows)]

    async def append_rows(self, rows: Sequence[Row]) -> list[str | StreamUnavailableError]:
        """Append rows in one round trip, each partition's all or none.

        Return for each row its entry ID, "" where its token was used before, or the error with
        which its partition refused it: `BacklogFullError` where too much is unfinished. Raise an
        error that concerns all: `NotDurableError` where the durability asked for was not reached
        (then the messages may be there all the same), and where Redis did not answer.
        """
        if not rows:
            return []
        await self.client.agree_on_partitions()
        numbers = self._by_partition(rows)
        calls = [
            self._append_call(partition, [rows[number] for number in some])
            for partition, some in numbers.items()
        ]
        replies = await self._run_append(calls)
        if all(isinstance(reply, NotDurableError) for reply in replies):
            checked(replies[0])  # it raises
        results: list[str | StreamUnavailableError] = [""] * len(rows)
        for (partition, some), reply in zip(numbers.items(), replies, strict=True):
            if isinstance(reply, Exception):
                error = self._refusal_of(partition, reply)
                for number in some:
                    results[number] = error
            else:
                for number, entry_id in zip(some, map(bytes.decode, reply), strict=True):
                    results[number] = entry_id
        return results

    async def full(self, partitions: Iterable[int]) -> set[int]:
        """Return which of these partitions, counted among all, would refuse an append because too
        much is unfinished there.
        """
        asked = list(partitions)
        if not asked:
            return set()
        calls = [self._append_call(self._places[partition], []) for partition in asked]
        replies = await self._scripts.try_each("append", calls)
        errors = [
            isinstance(reply, Exception)
            and isinstance(self._refusal_of(self._places[partition], reply), BacklogFullError)
            for partition, reply in zip(asked, replies, strict=True)
        ]
        return {partition for partition, is_full in zip(asked, errors, strict=True) if is_full}

    async def probe(self) -> None:
        """Raise `StreamUnavailableError` unless Redis takes writes now, at the durability asked
        for.

        It asks for a write that changes nothing: no stream has the probe's key, and NOMKSTREAM
        forbids making it. A full, read-only or loading Redis refuses it as it would an append.
        """
        probe = self.partitions[0].probe
        await self.client.execute(0, "XADD", probe, "NOMKSTREAM", "*", "probe", "")
        await self.client.agree_on_partitions(only_look=True)
        await self._ask_for_durability()

    async def away(self) -> Mapping[int, StreamUnavailableError]:
        """Return the partitions that take no writes now, though others do, and why. Raise that if
        none does.
        """
        await self.probe()
        return {}

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()

    def _by_partition(self, rows: Sequence[Row]) -> Mapping[int, Sequence[int]]:
        """Return the numbers of the rows that belong to each partition of this lane."""
        total = self.client.total
        if total == 1:
            return {0: range(len(rows))}
        numbers: dict[int, list[int]] = {}
        for number, row in enumerate(rows):
            numbers.setdefault(self._places[row.partition(total)], []).append(number)
        return numbers

    def _append_call(self, partition: int, rows: list[Row]) -> Call:
        keys = self.partitions[partition]
        weights = [weight_of(row.fields) for row in rows]
        args: list[str | bytes | int] = []
        # Rows with the same field names follow one another, so that the names are sent once.
        for names, alike in groupby(rows, key=_names_of):
            some = list(alike)
            args += (len(names), *names, len(some))
            for row in some:
                fields = row.fields
                args += (fields.get(b"digest", b""), row.token, row.expires, row.remember_ms)
                args += fields.values()
        head = [sum(weights), *self._limit, *keys.group_parts, max(weights, default=0)]
        used = [keys.stream, keys.backlog, keys.tokens, keys.index, keys.wake]
        return Call(partition, used, [*head, *args])

    async def _run_append(self, calls: list[Call]) -> list[Any]:
        """Return a reply for each call, an error if it failed."""
        durability = self._durability
        if durability.command is None:
            return await self._scripts.try_each("append", calls)
        if not self._is_durable:
            # Ask before the append. A sender that gets no 200 sends again, and each time one more
            # copy would stay in the stream.
            await self._ask_for_durability()
        self._is_durable = False
        *replies, reached = await self._scripts.try_each("append", calls, durability.command)
        if all(isinstance(reply, Exception) for reply in replies):
            return replies
        try:
            if not durability.judge(reached):
                await self._ask_for_durability()
        except StreamUnavailableError as error:
            # What was refused keeps its own error: it is not there, and the sender learns why.
            fault = NotDurableError(str(error))
            return [reply if isinstance(reply, Exception) else fault for reply in replies]
        self._is_durable = True
        return replies

    async def _ask_for_durability(self) -> None:
        """Raise `NotDurableError` if the durability cannot be had as things are."""
        while (command := self._durability.command) is not None:
            replies = await self.client.ask_servers(command)
            if all(self._durability.judge(reply) for reply in replies):
                break
        self._is_durable = True

    def _refusal_of(self, partition: int, reply: Exception) -> StreamUnavailableError:
        """Return the error for the rows of a partition that refused them."""
        if isinstance(reply, NotDurableError):
            return reply
        client = self.client
        where = f"partition {client.numbers[partition]}: " if client.total > 1 else ""
        code, _, group = str(reply).partition(" ")
        if code == "BACKLOGFULL":
            there = f" in group {shown(group)}" if group else ""
            return BacklogFullError(f"{where}too many messages are unfinished{there}")
        return StreamUnavailableError(f"{where}{reply}")


def _names_of(row: Row) -> tuple[bytes, ...]:
    return tuple(row.fields)
