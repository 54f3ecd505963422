"""Keeps the stand-in's state in Redis, so that a restart loses nothing.

One process at a time: it holds a lease on the keys, renews it, and ends when another one took it.
Nothing is written without it: whoever was frozen meanwhile spoils nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import Any

import msgspec

from hookmill.emulator.models import LogEntry
from hookmill.emulator.state import MOST_LOG_ENTRIES, Change, State
from hookmill.errors import HookmillError, StreamUnavailableError
from hookmill.stream.client import Client, Command, checked
from hookmill.stream.script_runner import Call, ScriptRunner

LEASE = 3.0
"""Seconds until another process may take over from one that was killed."""

TIMEOUT = 5.0
"""Seconds for one round trip."""

_PLACE = "qstash"
"""Where all keys lie: the hash tag in their names."""

_TABLES = tuple(table.name for table in State().tables)


class InUseError(HookmillError):
    """Another stand-in works on the same keys, and one is all there can be."""

    code = "in_use"


class Store:
    """The keys of one stand-in, under `PREFIX:{qstash}:`."""

    def __init__(self, url: str, prefix: str) -> None:
        self._client = Client(url, prefix, timeout=TIMEOUT)
        self._upkeep = ScriptRunner(self._client, drains=True)
        self._scripts = ScriptRunner(self._client, drains=False)
        self._base = f"{prefix}:{{{_PLACE}}}"
        self._keys = [self._key(name) for name in ("owner", "log", *_TABLES)]
        self._token = secrets.token_hex(8)
        self._encode = msgspec.msgpack.Encoder().encode
        self._writing = asyncio.Lock()

    async def take(self) -> None:
        """Become the one stand-in; wait for the lease of one that died.

        Raises `InUseError` where another one lives, `StreamUnavailableError` without Redis.
        """
        deadline = asyncio.get_running_loop().time() + 2 * LEASE
        while not await self._lease("take"):
            if asyncio.get_running_loop().time() > deadline:
                raise InUseError(
                    f"another stand-in uses the keys {self._base}:* of this Redis: stop it, or "
                    "set HOOKMILL_PREFIX to another name"
                )
            await asyncio.sleep(0.2)

    async def hold(self) -> None:
        """Renew the lease until it is lost; then raise `InUseError`."""
        while True:
            await asyncio.sleep(LEASE / 4)
            # While Redis is away nobody else can take it, and nothing can be written.
            with suppress(StreamUnavailableError):
                if not await self._lease("hold"):
                    raise _taken_over()

    async def load(self, state: State) -> None:
        """Fill an empty state with what was written down."""
        tables = [("HGETALL", self._key(table.name)) for table in state.tables]
        *found, entries = await self._all(*tables, ("LRANGE", self._key("log"), 0, -1))
        for table, raw in zip(state.tables, found, strict=True):
            pairs = raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
            decode = msgspec.msgpack.Decoder(table.record).decode
            rows = {key.decode(): decode(value) for key, value in pairs}
            table.load(dict(sorted(rows.items(), key=_age)))
        decode_entry = msgspec.msgpack.Decoder(LogEntry).decode
        state.log.extend(decode_entry(entry) for entry in entries)

    async def save(self, state: State, *, drains: bool = False) -> None:
        """Write down what changed since the last time, all of it or nothing; where it `drains`,
        in a Redis that is full too.

        Raises `InUseError` where another one took over, `StreamUnavailableError` without Redis.
        """
        async with self._writing:
            changes, entries = state.journal[:], state.entries[:]
            if not changes and not entries:
                return
            scripts = self._upkeep if drains else self._scripts
            args = (self._token, _packed(self._commands(changes, entries)))
            if not await scripts.run("standin_save", Call(_PLACE, self._keys, args)):
                raise _taken_over()
            del state.journal[: len(changes)]
            del state.entries[: len(entries)]

    async def close(self, *, release: bool = True) -> None:
        """Give up the lease, and close the connection."""
        if release:
            with suppress(StreamUnavailableError):  # then it runs out
                await self._lease("release")
        await self._client.close()

    async def _lease(self, what: str) -> bool:
        keys = (self._key("lease"), self._key("owner"))
        call = Call(_PLACE, keys, (self._token, what, _ms(LEASE)))
        return bool(await self._upkeep.run("standin_lease", call))

    def _commands(self, changes: list[Change], entries: list[LogEntry]) -> list[Command]:
        latest = {(change.table, change.key): change.record for change in changes}
        commands: list[Command] = [
            ("HDEL", self._key(table), key)
            if record is None
            else ("HSET", self._key(table), key, self._encode(record))
            for (table, key), record in latest.items()
        ]
        if entries:
            commands += (("RPUSH", self._key("log"), self._encode(entry)) for entry in entries)
            commands.append(("LTRIM", self._key("log"), -MOST_LOG_ENTRIES, -1))
        return commands

    def _key(self, name: str) -> str:
        return f"{self._base}:{name}"

    async def _all(self, *commands: Command) -> list[Any]:
        return [checked(reply) for reply in await self._client.ask(_PLACE, *commands)]


def _taken_over() -> InUseError:
    return InUseError("another stand-in took over these keys, or they were deleted")


def _packed(commands: list[Command]) -> bytes:
    """Return commands in MessagePack, every argument as its text type: a script reads no other."""
    parts = [b"\xdd", len(commands).to_bytes(4)]
    for command in commands:
        parts.append(bytes([0x90 | len(command)]))
        for each in command:
            raw = each if isinstance(each, bytes) else str(each).encode()
            parts += (b"\xdb", len(raw).to_bytes(4), raw)
    return b"".join(parts)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _age(row: tuple[str, Any]) -> tuple[int, int]:
    """Order what a hash gives in any order: by the time it came, expires or died."""
    record = row[1]
    number = getattr(record, "number", 0)
    times = (getattr(record, name, 0) for name in ("died_ms", "created_ms", "expires_ms"))
    return number, next(filter(None, times), 0)
