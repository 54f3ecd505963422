"""Gathers the facts of the servers: of the one server, or of each node of a Redis Cluster that has
partitions. It judges nothing, and changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.facts import ServerFacts
from hookmill.stream.reply_errors import RightMissingError
from hookmill.stream.rights import needed_commands
from hookmill.stream.view import leave_out, look_around, seen

_OF_EACH = ("appendfsync", "min-replicas-to-write")
_OF_NODE = ("cluster-require-full-coverage", "cluster-node-timeout")
"""The settings that a server and a node of a cluster are asked for, by name: one at a time, because
a server before 7.0 takes no more.
"""


class ServerInspector:
    """Gathers the facts. `clock` is this machine's, in Unix seconds."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._clock = clock

    async def servers(self) -> tuple[ServerFacts, ...]:
        """Look at each server and its configuration."""
        await look_around(self._client)
        partitions: dict[object, list[int]] = {}
        for number, _ in seen(self._client):
            partitions.setdefault(_place_of(self._client, number), []).append(number)
        found = []
        for numbers in partitions.values():
            try:
                found.append(await self._server(numbers))
            except StreamUnavailableError as error:
                if not self._client.is_cluster or isinstance(error, RightMissingError):
                    raise
                for number in numbers:
                    leave_out(self._client, number, error)
        return tuple(found)

    def idle(self) -> list[str]:
        """Return the addresses of the masters of a cluster that have none of the partitions."""
        if self._client.cluster is None:
            return []
        used = {self._client.server_of(n).address for n in range(len(self._client.partitions))}
        masters = self._client.cluster.masters() - used
        return [f"{host}:{port}" for host, port in sorted(masters)]

    async def _server(self, numbers: list[int]) -> ServerFacts:
        """Look at the server that has these partitions."""
        first, client = numbers[0], self._client
        hidden: list[str] = []
        info = _pairs_in(await client.execute(first, "INFO"))
        clock_ahead = await self._clock_ahead(first)
        commands = await self._commands(first, hidden)
        wanted = (*_OF_EACH, *_OF_NODE) if client.is_cluster else _OF_EACH
        settings = await self._settings(first, wanted, hidden)
        is_valkey = "valkey_version" in info
        address = client.server_of(first).address if client.is_cluster else None
        return ServerFacts(
            flavour="Valkey" if is_valkey else "Redis",
            # Valkey's redis_version is the last that it is compatible with, not its own.
            version=info["valkey_version" if is_valkey else "redis_version"],
            aof=info.get("aof_enabled", "0") != "0",
            aof_failed=info.get("aof_last_write_status", "ok") != "ok",
            snapshot_failed=info.get("rdb_last_bgsave_status", "ok") != "ok",
            appendfsync=settings.get("appendfsync"),
            policy=info.get("maxmemory_policy", "noeviction"),
            is_replica=info.get("role") == "slave",
            replicas=int(info.get("connected_slaves", 0)),
            is_cluster=info.get("cluster_enabled", "0") != "0",
            missing=None if commands is None else tuple(sorted(needed_commands() - commands)),
            has_waitaof=None if commands is None else "WAITAOF" in commands,
            refusal=await self._refusal(first, hidden),
            clock_ahead=clock_ahead,
            hidden=tuple(hidden),
            address=f"{address[0]}:{address[1]}" if address else "",
            partitions=tuple(client.numbers[number] for number in numbers),
            settings=settings,
            **_sizes_of(info),
        )

    async def _settings(
        self, place: int, names: tuple[str, ...], hidden: list[str]
    ) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in names:
            try:
                words = await self._client.execute(place, "CONFIG", "GET", name)
            except StreamUnavailableError as error:
                hidden.append(f"CONFIG ({error})")
                break
            texts = [word.decode() for word in words]
            found |= dict(zip(texts[::2], texts[1::2], strict=True))
        return found

    async def _commands(self, place: int, hidden: list[str]) -> frozenset[str] | None:
        """Return which of the commands that we may use are there."""
        asked = sorted(needed_commands() | {"WAITAOF"})
        try:
            rows = await self._client.execute(place, "COMMAND", "INFO", *asked)
        except StreamUnavailableError as error:
            hidden.append(f"COMMAND ({error})")
            return None
        return frozenset(row[0].decode().upper() for row in rows if row)

    async def _refusal(self, place: int, hidden: list[str]) -> str:
        """Return the error with which the server refuses a write, "" if it takes it."""
        try:
            # No stream has this key, and NOMKSTREAM forbids to make it.
            probe = self._client.partitions[place].probe
            await self._client.execute(place, "XADD", probe, "NOMKSTREAM", "*", "probe", "")
        except RightMissingError as error:  # whoever only looks has no right to write
            hidden.append(f"whether it takes writes ({error})")
        except StreamUnavailableError as error:
            return str(error)
        return ""

    async def _clock_ahead(self, place: int) -> float:
        """Return by how many seconds this machine's clock is ahead of Redis' (below 0: behind).

        What the delay of the question could explain does not count.
        """
        before = self._clock()
        seconds, microseconds = await self._client.execute(place, "TIME")
        redis_time = int(seconds) + int(microseconds) / 1_000_000
        after = self._clock()
        return max(0.0, before - redis_time) or min(0.0, after - redis_time)


def _place_of(client: Client, number: int) -> object:
    """Return where the server of a partition is; on one server it is the same for all."""
    return client.server_of(number).address if client.is_cluster else None


def _pairs_in(info: Any) -> dict[str, str]:
    return dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)


def _sizes_of(info: dict[str, str]) -> dict[str, int]:
    """Return what a server has and may have, by the names of the facts."""
    return {
        "used_memory": int(info.get("used_memory", 0)),
        "maxmemory": int(info.get("maxmemory", 0)),
        "maxclients": int(info.get("maxclients", 0)),
        "clients": int(info.get("connected_clients", 0)),
    }
