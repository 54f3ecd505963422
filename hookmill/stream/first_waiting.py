"""Tells which entry waits longest for a group, without taking it: a worker that takes nothing finds
out with it whether there is anything to take.
"""

from __future__ import annotations

from itertools import chain

from hookmill.stream.client import Client
from hookmill.stream.script_runner import Call, ScriptRunner

FirstIDs = tuple[tuple[str, str], ...]
"""For each partition, of the stream and of the again stream: the ID of the entry that waits
longest; "" if none waits.
"""


class FirstWaiting:
    """The entries that wait longest for a group. It raises `StreamUnavailableError`."""

    def __init__(self, client: Client, group: str) -> None:
        self._scripts = ScriptRunner(client, drains=False)
        partitions = [keys.of_group(group) for keys in client.partitions]
        names = [[keys.stream, keys.again] for keys in partitions]
        if not client.is_cluster:  # one call costs a third of as many as there are partitions
            names = [list(chain.from_iterable(names))]
        self._calls = [Call(place, keys, [group]) for place, keys in enumerate(names)]

    async def look(self) -> FirstIDs:
        """Ask all partitions, in one round trip to each server."""
        replies = await self._scripts.run_each("first_waiting", self._calls)
        names = [name.decode() for reply in replies for name in reply]
        return tuple(zip(names[::2], names[1::2], strict=True))
