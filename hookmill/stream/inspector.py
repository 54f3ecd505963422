"""Gathers the facts of the stream and its groups; changes nothing and judges nothing.

It uses only commands whose cost does not grow with the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

import msgspec

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.message import about_of
from hookmill.stream.client import Client
from hookmill.stream.dead_reasons import reasons_of
from hookmill.stream.entries import NOT_LISTED
from hookmill.stream.facts import ConsumerFacts, GroupFacts, Overview, earliest, sum_of
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.keys import GroupKeys, Keys
from hookmill.stream.pauses import Pauses
from hookmill.stream.script_runner import Call, ScriptRunner
from hookmill.stream.view import first_seen, leave_out, look_around, seen
from hookmill.stream.wakeup import is_wakeup_group

Found = TypeVar("Found")


class Inspector:
    """Gathers the facts. In a Redis Cluster it looks at all partitions that can be asked."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._scripts = ScriptRunner(client, drains=False)

    async def overview(self) -> Overview:
        """Look at the stream and at each of its groups."""
        await look_around(self._client)
        now = await self._time(first_seen(self._client))
        sizes = dict(await self._in_each(self._size_of))
        groups = await self.groups()
        # A partition that failed meanwhile is left out of everything.
        known = [size for number, size in sizes.items() if number not in self._client.unseen]
        infos = await self._client.info("memory")
        limits = [int(info.get("maxmemory", 0)) for info in infos]
        total = [size for _, size in known if size is not None]
        return Overview(
            now_ms=int(now * 1000),
            partitions=len(self._client.partitions),
            length=sum(length for length, _ in known),
            bytes=sum(total) if len(total) == len(known) else None,
            used_memory=sum(int(info["used_memory"]) for info in infos),
            maxmemory=sum(limits) if all(limits) else 0,
            groups=groups,
            unseen=self.unseen(),
        )

    def unseen(self) -> dict[int, str]:
        """Return the partitions that could not be asked, and why."""
        return {number: str(error) for number, error in sorted(self._client.unseen.items())}

    async def groups(self) -> tuple[GroupFacts, ...]:
        """Look at each group of the stream."""
        await look_around(self._client)
        groups: dict[str, list[GroupFacts]] = {}
        for _, each in await self._in_each(self._groups_in):
            for facts in each:
                groups.setdefault(facts.name, []).append(facts)
        return tuple([await self._with_workers(sum_of(parts)) for parts in groups.values()])

    async def group(self, name: str) -> GroupFacts:
        """Look at one group, also where Redis has lost it and only its keys are left."""

        async def part(number: int, keys: Keys) -> GroupFacts:
            rows = await self._groups_of(number, keys)
            row: dict[str, Any] = {"name": name.encode()}
            found = [each for each in rows if each["name"] == row["name"]]
            return await self._group(number, keys, found[0] if found else row)

        await look_around(self._client)
        parts = [facts for _, facts in await self._in_each(part)]
        return await self._with_workers(sum_of(parts))

    async def _in_each(
        self, ask: Callable[[int, Keys], Coroutine[Any, Any, Found]]
    ) -> list[tuple[int, Found]]:
        """Ask in each partition that can be asked. In a cluster that is done in all at once, and
        one that fails is left out from then on, unless it is the last.
        """
        if not self._client.is_cluster:
            return [(number, await ask(number, keys)) for number, keys in seen(self._client)]
        asked = seen(self._client)
        answers = await asyncio.gather(*(ask(*each) for each in asked), return_exceptions=True)
        found = []
        for (number, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, StreamUnavailableError):
                leave_out(self._client, number, answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found.append((number, answer))
        if not found:
            raise self._client.unseen[asked[0][0]]
        return found

    async def _size_of(self, number: int, keys: Keys) -> tuple[int, int | None]:
        """Return the entries and the bytes of a partition's stream."""
        length = int(await self._client.execute(number, "XLEN", keys.stream))
        return length, await self._bytes(number, keys.stream)

    async def _groups_in(self, number: int, keys: Keys) -> list[GroupFacts]:
        return [
            await self._group(number, keys, row)
            for row in await self._groups_of(number, keys)
            if not is_wakeup_group(row["name"])
        ]

    async def _groups_of(self, number: int, keys: Keys) -> list[dict[str, Any]]:
        """Return what XINFO GROUPS says of a partition. A stream that is not there has no group."""
        is_there = await self._client.execute(number, "EXISTS", keys.stream)
        return await self._infos(number, "XINFO", "GROUPS", keys.stream) if is_there else []

    async def _with_workers(self, group: GroupFacts) -> GroupFacts:
        """Add what the group's workers say of themselves: heartbeats and lease numbers."""
        place = first_seen(self._client)  # on one server that is where workers say it
        keys = self._client.partitions[place].of_group(group.name)
        numbers = _pairs(await self._client.execute(place, "HGETALL", keys.lease_numbers))
        consumers = tuple(
            msgspec.structs.replace(one, lease_number=int(number))
            if (number := numbers.get(one.name.encode()))
            else one
            for one in group.consumers
        )
        heartbeats = await Heartbeats(self._client, group.name, place).read()
        pauses = tuple(await Pauses(self._client, group.name).listed())
        return msgspec.structs.replace(
            group, consumers=consumers, heartbeats=heartbeats, pauses=pauses
        )

    async def _group(self, number: int, of_partition: Keys, row: dict[str, Any]) -> GroupFacts:
        """Look at a group's part in one partition. `row` is what XINFO GROUPS says of it, only its
        name where it is lost.
        """
        name = row["name"].decode("utf-8", "replace")
        keys = of_partition.of_group(name)
        held, oldest_held = await self._pending(number, keys.stream, name)
        again_held, _ = await self._pending(number, keys.again, name)
        last_delivered = row.get("last-delivered-id", b"0-0").decode()
        undelivered = await self._first(number, keys.stream, f"({last_delivered}")
        again = await self._first(number, keys.again, "-")
        execute = self._client.execute
        in_again = int(await execute(number, "XLEN", keys.again))
        owners = _pairs(await execute(number, "HGETALL", keys.owners))
        counts = _pairs(await execute(number, "HGETALL", keys.counts))
        came = [oldest_held, undelivered and _ms(undelivered[0]), again and _received_ms(*again)]
        delayed, due, next_due = await self._delayed(number, keys)
        aside = await self._set_aside(number, keys)
        untaken = await self._untaken_again_ms(number, keys) if in_again > again_held else None
        could_run = [undelivered and _ms(undelivered[0]), untaken, next_due if due else None]
        # Redis tells the lag from 7.0 on, unless an entry was deleted in between.
        waiting = row.get("lag") if undelivered else 0
        guessed = _guessed_waiting(counts, held + in_again + delayed + sum(aside.values()))
        return GroupFacts(
            name=name,
            waiting=waiting,
            guessed_waiting=guessed if waiting is None else 0,
            held=held + again_held,
            delayed=delayed,
            due=due,
            next_due_ms=next_due,
            could_run_ms=earliest(could_run),
            again=max(0, in_again - again_held),
            oldest_ms=earliest(came),
            remembered=sum(int(size) for field, size in owners.items() if field.endswith(b":size")),
            consumers=await self._consumers(number, keys, name),
            **aside,
            **_counted(counts),
            **await self._dead(number, keys),
        )

    async def _set_aside(self, number: int, keys: GroupKeys) -> dict[str, Any]:
        """Return how many messages are parked and paused, by the names of the facts."""
        execute = self._client.execute
        return {
            "parked": int(await execute(number, "GET", keys.parked) or 0),
            "paused": int(await execute(number, "HGET", keys.paused, "count") or 0),
        }

    async def _dead(self, number: int, keys: GroupKeys) -> dict[str, Any]:
        """Return what is known of the dead letters, by the names of the facts."""
        oldest = await self._first(number, keys.dead, "-")
        call = Call(number, [keys.dead, keys.dead_reasons])
        dead, by_reason = await self._scripts.run("count_dead", call)
        return {
            "dead": int(dead),
            "dead_reasons": reasons_of(dead, by_reason),
            "dead_bytes": await self._bytes(number, keys.dead),
            "oldest_dead_ms": oldest and _ms(oldest[0]),
        }

    async def _delayed(self, number: int, keys: GroupKeys) -> tuple[int, int, int | None]:
        """Return how many messages are delayed, how many of them are due by now, and when the first
        one is.
        """
        delayed = int(await self._client.execute(number, "ZCARD", keys.delayed))
        if not delayed:
            return 0, 0, None
        now = int(await self._time(number) * 1000)
        due = int(await self._client.execute(number, "ZCOUNT", keys.delayed, "-inf", now))
        first = await self._client.execute(number, "ZRANGE", keys.delayed, 0, 0, "WITHSCORES")
        return delayed, due, int(float(first[1])) if first else None

    async def _untaken_again_ms(self, number: int, keys: GroupKeys) -> int | None:
        """Return when the oldest entry was written that is to be taken again, and was not yet."""
        for row in await self._infos(number, "XINFO", "GROUPS", keys.again):
            found = await self._first(number, keys.again, f"({row['last-delivered-id'].decode()}")
            return _ms(found[0]) if found else None
        return None

    async def _pending(self, number: int, key: str, group: str) -> tuple[int, int | None]:
        """Return how many entries are held, and when the oldest of them was added."""
        try:
            held, oldest, *_ = await self._client.execute(number, "XPENDING", key, group)
        except GroupLostError:  # a worker will make it again
            return 0, None
        return held, _ms(oldest) if oldest else None

    async def _first(
        self, number: int, key: str, start: str
    ) -> tuple[bytes, dict[bytes, bytes]] | None:
        """Return the first entry from `start` on, without its headers and body."""
        args = [start, "+", 1, 1, *NOT_LISTED]
        rows, _ = await self._scripts.run("survey", Call(number, [key], args))
        return (rows[0][0], _pairs(rows[0][1])) if rows else None

    async def _consumers(
        self, number: int, keys: GroupKeys, group: str
    ) -> tuple[ConsumerFacts, ...]:
        """Return the group's consumers; each takes from both streams."""
        found: dict[str, ConsumerFacts] = {}
        for key in (keys.stream, keys.again):
            if not await self._client.execute(number, "EXISTS", key):
                continue
            try:
                rows = await self._infos(number, "XINFO", "CONSUMERS", key, group)
            except GroupLostError:
                continue
            for row in rows:
                name = row["name"].decode("utf-8", "replace")
                other = found.get(name)
                found[name] = ConsumerFacts(
                    name=name,
                    pending=row["pending"] + (other.pending if other else 0),
                    idle_ms=min(row["idle"], other.idle_ms if other else row["idle"]),
                )
        return tuple(found[name] for name in sorted(found))

    async def _infos(self, number: int, *command: str) -> list[dict[str, Any]]:
        """Return what XINFO says of groups or consumers."""
        rows = await self._client.execute(number, *command)
        return [{name.decode(): value for name, value in _pairs(row).items()} for row in rows]

    async def _bytes(self, number: int, key: str) -> int | None:
        try:
            return int(await self._client.execute(number, "MEMORY", "USAGE", key) or 0)
        except StreamUnavailableError:  # some providers forbid it
            return None

    async def _time(self, place: int) -> float:
        """Return Redis' own time, in Unix seconds."""
        seconds, microseconds = await self._client.execute(place, "TIME")
        return int(seconds) + int(microseconds) / 1_000_000


def _pairs(flat: Iterable[Any]) -> dict[Any, Any]:
    """Read a flat reply: names and values in turn."""
    words = iter(flat)
    return dict(zip(words, words, strict=True))


def _counted(counts: dict[bytes, bytes]) -> dict[str, Any]:
    """Return what a group's counts say, by the names of the facts."""
    return {
        "duplicates": int(counts.get(b"repeats", 0)),
        "late": int(counts.get(b"late", 0)),
        "backlog_bytes": _backlog_bytes(counts),
    }


def _backlog_bytes(counts: dict[bytes, bytes]) -> int | None:
    """Return a group's unfinished bytes from its counts (scripts/backlog.lua states them)."""
    if b"unfinished:bytes" not in counts:
        return None
    return max(0, int(counts[b"unfinished:bytes"]) - int(counts.get(b"finished:bytes", 0)))


def _guessed_waiting(counts: dict[bytes, bytes], others: int) -> int:
    """Return about how many messages a group has not read, though some; `others` are unfinished and
    it has read them.
    """
    unfinished = int(counts.get(b"unfinished:messages", 0))
    return max(1, unfinished - int(counts.get(b"finished:messages", 0)) - others)


def _ms(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def _received_ms(entry_id: bytes, fields: dict[bytes, bytes]) -> int:
    """Return when the message of a requeued entry was received, which was before the entry."""
    return about_of(fields).received_ms or _ms(entry_id)
