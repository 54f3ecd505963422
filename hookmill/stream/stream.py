"""The stream as the receivers see it: append, and is it there. And its upkeep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from hookmill.arrival import Row, row_of
from hookmill.entries import Keys
from hookmill.errors import BacklogFullError, StreamUnavailableError
from hookmill.message import Message
from hookmill.stream.connection import (
    connect,
    draining_scripts,
    is_unknown_script,
    script,
    together,
    translated,
)
from hookmill.stream.durability import Durability


class Backlog(NamedTuple):
    """How many messages, and bytes of them, are unfinished; as a limit, 0 means any number."""

    messages: int
    bytes: int


NO_LIMIT = Backlog(0, 0)


class Stream:
    """One partition's stream, as the receivers see it: append, and is it there.

    `timeout` is in seconds and bounds each command; no command is ever repeated by the client,
    for a repeated append would be a second message. `durability` is what an append must reach,
    `limit` the backlog at which it refuses.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        *,
        timeout: float = 5.0,
        durability: str = "memory",
        limit: Backlog = NO_LIMIT,
    ) -> None:
        self.keys = Keys(prefix)
        self.url = url
        self.timeout = timeout
        self.redis = connect(url, timeout)
        self._durability = Durability(durability, timeout)
        self._is_assured = False
        self._limit = limit
        self._append = script(self.redis, "append")
        self._upkeep: dict[str, Any] = {}
        keys = self.keys.of_group("\0")
        before, again = keys.again.split("\0")
        self._group_key_parts = [before, again, keys.delayed.split("\0")[1]]
        self._backlog = f"{self.keys.base}:backlog"
        self._tokens = f"{self.keys.base}:tokens"

    async def append(self, messages: Sequence[Message]) -> list[str]:
        """Append all of the messages or none, in one round trip; return their entry IDs ("" for
        one whose token was used before).
        """
        return await self.append_rows([row_of(message) for message in messages])

    async def append_rows(self, rows: Sequence[Row]) -> list[str]:
        """Append rows, as `append` does with messages.

        Raises `BacklogFullError` where too much is unfinished, `NotDurableError` where the
        durability asked for was not reached: then the messages may be there all the same.
        """
        if not rows:
            return []
        size = 0
        args: list[str | bytes | int] = []
        for fields, token, expires, remember_ms, _ in rows:
            args += (fields.get(b"digest", b""), token, expires, remember_ms, 2 * len(fields))
            for pair in fields.items():
                args += pair
            size += sum(map(len, fields.values()))
        try:
            with translated():
                reply = await self._run_append([size, *self._limit, *self._group_key_parts, *args])
        except StreamUnavailableError as error:
            if str(error).startswith("BACKLOGFULL"):
                raise BacklogFullError("too many messages are unfinished") from None
            raise
        return [entry_id.decode() for entry_id in reply]

    async def probe(self) -> None:
        """Raise `StreamUnavailableError` unless Redis takes writes now, at the durability asked
        for.

        Asks for a write that changes nothing: no stream has the probe's key, and NOMKSTREAM
        forbids making it. A full, read-only or loading Redis refuses it as it would an append.
        """
        with translated():
            await self.redis.xadd(self.keys.probe, {"probe": ""}, nomkstream=True)
        await self._assure()

    async def measure_backlog(self) -> Backlog:
        """Count anew how much is unfinished, and correct what the appends go by.

        The messages are exact where the server tells a group's lag (Redis 7.0, Valkey), else
        estimated by time; the bytes are always an estimate.
        """
        with translated():
            keys = [self.keys.stream, self._backlog]
            reply = await self._run_upkeep("measure", keys, self._group_key_parts)
        return Backlog(*reply)

    async def trim(self, retention: float) -> int:
        """Drop what all groups have finished and is older than `retention` seconds."""
        marks = self.keys.of_group("\0").low_water.split("\0")
        with translated():
            args = [int(retention * 1000), *marks]
            return int(await self._run_upkeep("trim", [self.keys.stream], args))

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()

    async def _run_upkeep(self, script: str, keys: list[str], args: Sequence[Any]) -> Any:
        if not self._upkeep:
            self._upkeep = await draining_scripts(self.redis, ["trim", "measure"])
        return await self._upkeep[script](keys=keys, args=args)

    async def _run_append(self, args: list[Any]) -> list[bytes]:
        keys = [self.keys.stream, self._backlog, self._tokens]
        durability = self._durability
        if durability.command is None:
            return cast("list[bytes]", await self._append(keys=keys, args=args))
        if not self._is_assured:
            # Asked before: or each repeat of its sender would leave one more copy in the stream.
            await self._assure()
        self._is_assured = False
        append = ("EVALSHA", self._append.sha, len(keys), *keys, *args)
        reply, reached = await together(self.redis, append, durability.command)
        if is_unknown_script(reply):
            await self.redis.script_load(self._append.script)
            reply, reached = await together(self.redis, append, durability.command)
        if isinstance(reply, Exception):
            raise reply
        if not durability.judge(reached):
            await self._assure()
        self._is_assured = True
        return cast("list[bytes]", reply)

    async def _assure(self) -> None:
        """Raise `NotDurableError` where the durability cannot be had as things are."""
        while (command := self._durability.command) is not None:
            with translated():
                (reply,) = await together(self.redis, command)
            if self._durability.judge(reply):
                break
        self._is_assured = True
