"""Which wire versions every worker reads, as far as Redis tells it."""

from __future__ import annotations

from typing import Any

from hookmill.stream.client import Client, checked
from hookmill.stream.facts import SILENCE
from hookmill.stream.groups import Groups
from hookmill.stream.heartbeats import PLACE, Heartbeats

_NONE: frozenset[int] = frozenset()


class WireReaders:
    """The workers of all groups, as readers of messages. `lease` (seconds) decides for how long a
    worker counts that no longer writes a heartbeat.
    """

    def __init__(self, client: Client, lease: float) -> None:
        self._client = client
        self._silence_ms = max(SILENCE, lease) * 1000

    async def versions(self) -> frozenset[int]:
        """Return the versions that every worker of every group reads; none where a group has no
        worker: nobody knows then of which release the next one will be.
        """
        known = (await Groups(self._client).known()).values()
        read = [await self._of_group(group.name) for group in known if group.is_there]
        return frozenset.intersection(*read) if read else _NONE

    async def _of_group(self, group: str) -> frozenset[int]:
        found = await Heartbeats(self._client, group).read()
        if not found or await self._others(group, {one.name.encode() for one in found}):
            return _NONE
        return frozenset.intersection(*(frozenset(one.wire_versions) for one in found))

    async def _others(self, group: str, known: set[bytes]) -> set[bytes]:
        """Return the consumers without a heartbeat that may be workers.

        One without a lease number is of release 0.1. Redis 7.0 does not tell how long it was silent
        while it takes nothing, so it counts until it is removed. One with a lease number was killed
        or has a blocked event loop.
        """
        lease_numbers = self._client.partitions[PLACE].of_group(group).lease_numbers
        asked: list[tuple[int, tuple[str, ...]]] = [(PLACE, ("HGETALL", lease_numbers))]
        for number, keys in enumerate(self._client.partitions):
            asked.append((number, ("XINFO", "CONSUMERS", keys.stream, group)))
        numbers, *infos = map(checked, await self._client.ask_places(asked))
        numbered = _words(numbers)
        return {
            one[b"name"]
            for one in (_words(row) for info in infos for row in info)
            if one[b"name"] not in numbered or one[b"idle"] < self._silence_ms
        } - known


def _words(row: list[Any]) -> dict[bytes, Any]:
    """Read a flat reply: names and values in turn."""
    return dict(zip(row[::2], row[1::2], strict=True))
