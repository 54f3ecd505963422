"""Looks at the server, the stream and its groups, with cheap commands only, and changes nothing.

What it finds are the plain facts of `inspection.py`; it judges nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from importlib import resources
from typing import Any

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.message import about_of
from hookmill.stream.client import translated
from hookmill.stream.facts import ConsumerFacts, GroupFacts, Overview, ServerFacts, together_of
from hookmill.stream.keys import GroupKeys, Keys
from hookmill.stream.producer import Producer
from hookmill.stream.script_runner import Scripts, script_text

_FROM_PYTHON = {"CLIENT", "EVALSHA", "SCRIPT", "TIME", "XREADGROUP", "XREVRANGE"}
"""Commands that we call outside of scripts, less those that the scripts call as well."""


class Inspector:
    """Gathers the facts. `clock` is this machine's, in Unix seconds."""

    def __init__(self, stream: Producer, clock: Callable[[], float] = time.time) -> None:
        self._stream = stream
        self._redis = stream.redis
        self._scripts = Scripts(self._redis, drains=False)
        self._clock = clock

    async def server(self) -> ServerFacts:
        """Look at the server and its configuration."""
        hidden: list[str] = []
        with translated():
            info: Any = await self._redis.info()
            before = self._clock()
            seconds, microseconds = await self._redis.time()
            after = self._clock()
        commands = await self._commands(hidden)
        is_valkey = "valkey_version" in info
        return ServerFacts(
            flavour="Valkey" if is_valkey else "Redis",
            # Valkey's redis_version is the last that it is compatible with, not its own.
            version=str(info["valkey_version" if is_valkey else "redis_version"]),
            aof=bool(info.get("aof_enabled")),
            aof_failed=info.get("aof_last_write_status", "ok") != "ok",
            snapshot_failed=info.get("rdb_last_bgsave_status", "ok") != "ok",
            appendfsync=await self._appendfsync(hidden),
            policy=str(info.get("maxmemory_policy", "noeviction")),
            is_replica=info.get("role") == "slave",
            replicas=int(info.get("connected_slaves", 0)),
            is_cluster=bool(info.get("cluster_enabled")),
            missing=None if commands is None else tuple(sorted(needed_commands() - commands)),
            has_waitaof=None if commands is None else "WAITAOF" in commands,
            refusal=await self._refusal(),
            clock_ahead=_outside(seconds + microseconds / 1_000_000, before, after),
            hidden=tuple(hidden),
        )

    async def overview(self) -> Overview:
        """Look at the stream and at each of its groups."""
        with translated():
            seconds, microseconds = await self._redis.time()
            memory: Any = await self._redis.info("memory")
        length, sizes = 0, []
        groups: dict[str, list[GroupFacts]] = {}
        for keys in self._stream.partitions:
            with translated():
                # A stream that nobody has written to yet is no error here.
                is_there = await self._redis.exists(keys.stream)
                rows: Any = await self._redis.xinfo_groups(keys.stream) if is_there else []
                length += int(await self._redis.xlen(keys.stream))
            sizes.append(await self._bytes(keys.stream))
            for row in rows:
                # A group's bell, which wakes its waiting workers, is no group of its own.
                if not _is_bell(row["name"]):
                    facts = await self._group(keys, row)
                    groups.setdefault(facts.name, []).append(facts)
        known = [size for size in sizes if size is not None]
        return Overview(
            now_ms=seconds * 1000 + microseconds // 1000,
            partitions=len(self._stream.partitions),
            length=length,
            bytes=sum(known) if len(known) == len(sizes) else None,
            used_memory=int(memory["used_memory"]),
            maxmemory=int(memory.get("maxmemory", 0)),
            groups=tuple(together_of(parts) for parts in groups.values()),
        )

    async def _group(self, of_partition: Keys, row: dict[str, Any]) -> GroupFacts:
        """Look at a group's part in one partition."""
        name = row["name"].decode("utf-8", "replace")
        keys = of_partition.of_group(name)
        held, oldest_held = await self._pending(keys.stream, name)
        again_held, _ = await self._pending(keys.again, name)
        undelivered = await self._first(keys.stream, f"({row['last-delivered-id'].decode()}")
        again = await self._first(keys.again, "-")
        with translated():
            in_again = int(await self._redis.xlen(keys.again))
            delayed = int(await self._redis.zcard(keys.delayed))
            parked: Any = await self._redis.get(keys.parked)
            dead = int(await self._redis.xlen(keys.dead))
            owners: Any = await self._redis.hgetall(keys.owners)
            counts: Any = await self._redis.hgetall(keys.counts)
        came = [oldest_held, undelivered and _ms(undelivered[0]), again and _received_ms(*again)]
        return GroupFacts(
            name=name,
            # Redis counts from 7.0 on, and not where an entry was deleted in between.
            waiting=row.get("lag") if undelivered else 0,
            held=held + again_held,
            delayed=delayed,
            again=max(0, in_again - again_held),
            parked=int(parked or 0),
            dead=dead,
            oldest_ms=min((ms for ms in came if ms is not None), default=None),
            remembered=sum(int(size) for field, size in owners.items() if field.endswith(b":size")),
            duplicates=int(counts.get(b"repeats", 0)),
            late=int(counts.get(b"late", 0)),
            consumers=await self._consumers(keys, name),
        )

    async def _pending(self, key: str, group: str) -> tuple[int, int | None]:
        """Return how many entries are held, and when the oldest of them came."""
        try:
            with translated():
                summary: Any = await self._redis.xpending(key, group)
        except GroupLostError:  # a worker will make it anew
            return 0, None
        return summary["pending"], _ms(summary["min"]) if summary["min"] else None

    async def _first(self, key: str, start: str) -> tuple[bytes, dict[bytes, bytes]] | None:
        """Return the first entry from there on, without the bytes that may be many."""
        with translated():
            args = [start, "+", 1, 1, "headers", "body"]
            rows, _ = await self._scripts.run("survey", [key], args)
        return (
            (rows[0][0], dict(zip(rows[0][1][::2], rows[0][1][1::2], strict=True)))
            if rows
            else None
        )

    async def _consumers(self, keys: GroupKeys, group: str) -> tuple[ConsumerFacts, ...]:
        """Return the group's consumers; each takes from both streams."""
        found: dict[str, ConsumerFacts] = {}
        for key in (keys.stream, keys.again):
            with translated():
                there = await self._redis.exists(key)
            try:
                with translated():
                    rows: Any = await self._redis.xinfo_consumers(key, group) if there else []
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

    async def _bytes(self, key: str) -> int | None:
        try:
            with translated():
                return int(await self._redis.memory_usage(key) or 0)
        except StreamUnavailableError:  # some providers forbid it
            return None

    async def _appendfsync(self, hidden: list[str]) -> str | None:
        try:
            with translated():
                found: Any = await self._redis.config_get("appendfsync")
        except StreamUnavailableError as error:
            hidden.append(f"CONFIG ({error})")
            return None
        return str(found["appendfsync"]) if "appendfsync" in found else None

    async def _commands(self, hidden: list[str]) -> frozenset[str] | None:
        """Return which of the commands that we may use are there."""
        asked = sorted(needed_commands() | {"WAITAOF"})
        client: Any = self._redis  # execute_command is untyped
        try:
            with translated():
                rows = await client.execute_command("COMMAND INFO", *asked)
        except StreamUnavailableError as error:
            hidden.append(f"COMMAND ({error})")
            return None
        return frozenset(row[0].decode().upper() for row in rows if row)

    async def _refusal(self) -> str:
        """Return what the server says to a write, "" if it takes it."""
        try:
            await self._stream.probe()
        except StreamUnavailableError as error:
            return str(error)
        return ""


def needed_commands() -> frozenset[str]:
    """Return the commands without which nothing works: what the scripts call, and we ourselves."""
    folder = resources.files("hookmill.stream") / "scripts"
    called = {
        command.upper()
        for path in folder.iterdir()
        if path.name.endswith(".lua")
        for command in re.findall(r"redis\.p?call\('(\w+)'", script_text(path.name[:-4]))
    }
    return frozenset(called | _FROM_PYTHON)


def _ms(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def _received_ms(entry_id: bytes, fields: dict[bytes, bytes]) -> int:
    """Return when a message came that is to be taken again: its entry is younger than itself."""
    return about_of(fields).received_ms or _ms(entry_id)


def _outside(moment: float, before: float, after: float) -> float:
    """Return by how much two readings of a clock, around another's, are both ahead of it (< 0:
    behind). In between, the difference may be the way there and back.
    """
    return max(0.0, before - moment) or min(0.0, after - moment)


def _is_bell(name: bytes) -> bool:
    return name.endswith(b":bell")
