"""The heartbeats of one group's workers: written, removed, read.

A heartbeat says that a worker's event loop runs, and what the worker is. A missing one says nothing
of the messages that the worker holds, so nothing may be taken over or removed because of it.
"""

from __future__ import annotations

import msgspec

from hookmill.stream.client import Client, checked
from hookmill.stream.facts import Heartbeat
from hookmill.stream.script_runner import Call, ScriptRunner

_write = msgspec.json.Encoder().encode
_read = msgspec.json.Decoder(Heartbeat).decode

PLACE = 0
"""The partition in which a group's heartbeats lie. In a cluster each lane has them."""


class Heartbeats:
    """The heartbeats of a group. Methods raise `StreamUnavailableError`."""

    def __init__(self, client: Client, group: str, place: int = PLACE) -> None:
        self._client = client
        self._place = place
        keys = client.partitions[place].of_group(group)
        self._keys = [keys.heartbeats, keys.heartbeat_times]
        # Two runners, because a full Redis must take a heartbeat, and a replica must show one.
        self._writing = ScriptRunner(client, drains=True)
        self._reading = ScriptRunner(client, drains=False)

    async def write(self, heartbeat: Heartbeat) -> None:
        """Write a worker's heartbeat in place of its last one. It counts for one lease."""
        args = [heartbeat.name, max(1, int(heartbeat.lease * 1000)), _write(heartbeat)]
        await self._writing.run("heartbeat", Call(self._place, self._keys, args))

    async def remove(self, name: str) -> None:
        """Remove a worker's heartbeat."""
        commands = [("HDEL", key, name) for key in self._keys]
        for reply in await self._client.ask(self._place, *commands):
            checked(reply)

    async def read(self) -> tuple[Heartbeat, ...]:
        """Return the heartbeats that have not expired, by the names of their workers."""
        rows = await self._reading.run("heartbeats", Call(self._place, self._keys))
        return tuple(_heartbeat_of(*row) for row in sorted(rows))


def _heartbeat_of(name: bytes, age_ms: int, text: bytes) -> Heartbeat:
    """Read a heartbeat. The text may be of a release that writes it differently: even then the
    worker lives.
    """
    shown = name.decode("utf-8", "replace")
    try:
        found = _read(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        found = Heartbeat(name=shown)
    return msgspec.structs.replace(found, name=shown, age_ms=age_ms)
