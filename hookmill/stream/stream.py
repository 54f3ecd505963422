"""The stream as the receivers see it: append, and is it there. And its upkeep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hookmill.entries import Keys
from hookmill.message import Message
from hookmill.stream.connection import connect, draining_scripts, script, translated


class Stream:
    """One partition's stream, as the receivers see it: append, and is it there.

    `timeout` is in seconds and bounds each command; no command is ever repeated by the client,
    for a repeated append would be a second message.
    """

    def __init__(self, url: str, prefix: str, *, timeout: float = 5.0) -> None:
        self.keys = Keys(prefix)
        self.url = url
        self.timeout = timeout
        self.redis = connect(url, timeout)
        self._append = script(self.redis, "append")
        self._upkeep: dict[str, Any] = {}

    async def append(self, messages: Sequence[Message]) -> list[str]:
        """Append all of the messages or none, in one round trip; return their entry IDs."""
        if not messages:
            return []
        rows = [message.to_fields() for message in messages]
        args: list[bytes | int] = [2 * len(rows[0])]
        for row in rows:
            for pair in row.items():
                args.extend(pair)
        with translated():
            reply = await self._append(keys=[self.keys.stream], args=args)
        return [entry_id.decode() for entry_id in reply]

    async def probe(self) -> None:
        """Raise `StreamUnavailableError` unless Redis takes writes now.

        Asks for a write that changes nothing: no stream has the probe's key, and NOMKSTREAM
        forbids making it. A full, read-only or loading Redis refuses it as it would an append.
        """
        with translated():
            await self.redis.xadd(self.keys.probe, {"probe": ""}, nomkstream=True)

    async def trim(self, retention: float) -> int:
        """Drop what all groups have finished and is older than `retention` seconds."""
        marks = self.keys.of_group("\0").low_water.split("\0")
        with translated():
            if not self._upkeep:
                self._upkeep = await draining_scripts(self.redis, ["trim"])
            args = [int(retention * 1000), *marks]
            return int(await self._upkeep["trim"](keys=[self.keys.stream], args=args))

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()
