"""A group's delayed messages, which wait for their retry: find those with a message ID."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from hookmill.message import Fields
from hookmill.stream.client import Client
from hookmill.stream.script_runner import Call, ScriptRunner
from hookmill.stream.view import seen

_NAMES = 1000
"""Names of delayed messages that are read in one step."""

_AT_ONCE, _PAGE_BYTES = 100, 4 * 1024 * 1024
"""Delayed messages that Redis looks at in one step, and the bytes of those after which it ends:
bodies may be large, and other commands wait meanwhile.
"""


class DelayedMessage(NamedTuple):
    """A message that waits: when it is due (Unix milliseconds, by Redis' clock), and its fields."""

    due_ms: int
    fields: Fields


class DelayedMessages:
    """The delayed messages of a group. Methods raise `StreamUnavailableError`."""

    def __init__(self, client: Client, group: str) -> None:
        self._client = client
        self._partitions = [keys.of_group(group) for keys in client.partitions]
        self._scripts = ScriptRunner(client, drains=False)

    async def find(self, message_id: str) -> list[DelayedMessage]:
        """Return those with this message ID: one for each handler that it waits for.

        It looks at all that are delayed. One that becomes due meanwhile may be missed.
        """
        found: list[DelayedMessage] = []
        for number, _ in seen(self._client):
            keys = self._partitions[number]
            async for names in self._names(number, keys.delayed):
                while names:
                    args = [message_id, _PAGE_BYTES, *names[:_AT_ONCE]]
                    call = Call(number, [keys.delayed, keys.delayed_entries], args)
                    looked_at, rows = await self._scripts.run("find_delayed", call)
                    found += [_delayed(*row) for row in rows]
                    del names[: max(1, looked_at)]
        return found

    async def _names(self, number: int, key: str) -> AsyncIterator[list[bytes]]:
        """Yield the names of all delayed messages, page by page."""
        start = 0
        while names := await self._client.execute(number, "ZRANGE", key, start, start + _NAMES - 1):
            start += len(names)
            yield list(names)


def _delayed(due: bytes, flat: list[bytes]) -> DelayedMessage:
    return DelayedMessage(int(float(due)), dict(zip(flat[::2], flat[1::2], strict=True)))
