"""Saves the emulator's state in Redis, so that a restart loses nothing.

Only one process uses the keys at a time. It holds a lease, renews it, and ends when another process
has taken it. Saving checks the owner, so a process that was frozen cannot overwrite anything.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import Any

import msgspec

from hookmill.emulator.models import LogEntry
from hookmill.emulator.state import MAX_LOG_ENTRIES, RecordChange, State
from hookmill.errors import HookmillError, StreamUnavailableError
from hookmill.stream.client import Client, checked
from hookmill.stream.connections import Command
from hookmill.stream.script_runner import Call, ScriptRunner

LEASE = 3.0
"""Seconds until another process may take over from a killed one."""

TIMEOUT = 5.0
"""Seconds for one round trip to Redis."""

_HASH_TAG = "qstash"
"""The hash tag in the names of all keys, so that they are on one node of a cluster."""

_TABLES = tuple(table.name for table in State().tables)


class InUseError(HookmillError):
    """Another emulator uses the same keys. Only one can."""

    code = "in_use"


class Store:
    """The keys of one emulator, under `PREFIX:{qstash}:`."""

    def __init__(self, url: str, prefix: str) -> None:
        self._client = Client(url, prefix, timeout=TIMEOUT)
        self._upkeep = ScriptRunner(self._client, drains=True)
        self._scripts = ScriptRunner(self._client, drains=False)
        self._base = f"{prefix}:{{{_HASH_TAG}}}"
        self._keys = [self._key(name) for name in ("owner", "log", *_TABLES)]
        self._token = secrets.token_hex(8)
        self._encode = msgspec.msgpack.Encoder().encode
        self._saving = asyncio.Lock()

    async def take(self) -> None:
        """Take the lease. Wait until the lease of a killed process expires.

        Raises `InUseError` if another emulator runs, `StreamUnavailableError` without Redis.
        """
        deadline = asyncio.get_running_loop().time() + 2 * LEASE
        while not await self._lease("take"):
            if asyncio.get_running_loop().time() > deadline:
                raise InUseError(
                    f"another emulator uses the keys {self._base}:* of this Redis: stop it, or "
                    "set HOOKMILL_PREFIX to another name"
                )
            await asyncio.sleep(0.2)

    async def hold(self) -> None:
        """Renew the lease until it is lost; raise `InUseError` then."""
        while True:
            await asyncio.sleep(LEASE / 4)
            # While Redis is away, no other process can take the lease and none can save.
            with suppress(StreamUnavailableError):
                if not await self._lease("hold"):
                    raise _taken_over()

    async def load(self, state: State) -> None:
        """Fill an empty state with what was saved."""
        tables = [("HGETALL", self._key(table.name)) for table in state.tables]
        *found, entries = await self._all(*tables, ("LRANGE", self._key("log"), 0, -1))
        for table, raw in zip(state.tables, found, strict=True):
            pairs = raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
            decode = msgspec.msgpack.Decoder(table.record).decode
            rows = {key.decode(): decode(value) for key, value in pairs}
            table.load(dict(sorted(rows.items(), key=_order)))
        decode_entry = msgspec.msgpack.Decoder(LogEntry).decode
        state.log.extend(decode_entry(entry) for entry in entries)

    async def save(self, state: State, *, drains: bool = False) -> None:
        """Save all changes since the last call, in one step.

        With `drains`, it also works in a Redis that is out of memory. Raises `InUseError` if
        another emulator took over, `StreamUnavailableError` without Redis.
        """
        async with self._saving:
            changes, entries = state.journal[:], state.new_entries[:]
            if not changes and not entries:
                return
            scripts = self._upkeep if drains else self._scripts
            args = (self._token, _packed(self._commands(changes, entries)))
            if not await scripts.run("emulator_save", Call(_HASH_TAG, self._keys, args)):
                raise _taken_over()
            del state.journal[: len(changes)]
            del state.new_entries[: len(entries)]

    async def close(self, *, release: bool = True) -> None:
        """Release the lease and close the connection."""
        if release:
            with suppress(StreamUnavailableError):  # without Redis, the lease expires by itself
                await self._lease("release")
        await self._client.close()

    async def _lease(self, what: str) -> bool:
        keys = (self._key("lease"), self._key("owner"))
        call = Call(_HASH_TAG, keys, (self._token, what, _ms(LEASE)))
        return bool(await self._upkeep.run("emulator_lease", call))

    def _commands(self, changes: list[RecordChange], entries: list[LogEntry]) -> list[Command]:
        latest = {(change.table, change.key): change.record for change in changes}
        commands: list[Command] = [
            ("HDEL", self._key(table), key)
            if record is None
            else ("HSET", self._key(table), key, self._encode(record))
            for (table, key), record in latest.items()
        ]
        if entries:
            commands += (("RPUSH", self._key("log"), self._encode(entry)) for entry in entries)
            commands.append(("LTRIM", self._key("log"), -MAX_LOG_ENTRIES, -1))
        return commands

    def _key(self, name: str) -> str:
        return f"{self._base}:{name}"

    async def _all(self, *commands: Command) -> list[Any]:
        return [checked(reply) for reply in await self._client.ask(_HASH_TAG, *commands)]


def _taken_over() -> InUseError:
    return InUseError("another emulator took over these keys, or they were deleted")


def _packed(commands: list[Command]) -> bytes:
    """Return commands in MessagePack, every argument as text, because the script reads no other."""
    parts = [b"\xdd", len(commands).to_bytes(4)]
    for command in commands:
        parts.append(bytes([0x90 | len(command)]))
        for each in command:
            raw = each if isinstance(each, bytes) else str(each).encode()
            parts += (b"\xdb", len(raw).to_bytes(4), raw)
    return b"".join(parts)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _order(row: tuple[str, Any]) -> tuple[int, int]:
    """Order the records of a hash, which has no order: by number, or by time."""
    record = row[1]
    number = getattr(record, "number", 0)
    times = (getattr(record, name, 0) for name in ("failed_ms", "created_ms", "expires_ms"))
    return number, next(filter(None, times), 0)
