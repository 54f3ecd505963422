"""Which wire versions every worker reads, as far as Redis tells it."""

from __future__ import annotations

from hookmill.stream.client import Client
from hookmill.stream.groups import Groups
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.older_workers import OlderWorkers

_NONE: frozenset[int] = frozenset()


class WireReaders:
    """The workers of all groups, as readers of messages. `lease` (seconds) decides for how long a
    worker counts that no longer writes a heartbeat.
    """

    def __init__(self, client: Client, lease: float) -> None:
        self._client = client
        self._lease = lease

    async def versions(self) -> frozenset[int]:
        """Return the versions that every worker of every group reads; none where a group has no
        worker: nobody knows then of which release the next one will be.
        """
        known = (await Groups(self._client).known()).values()
        read = [await self._of_group(group.name) for group in known if group.is_there]
        return frozenset.intersection(*read) if read else _NONE

    async def _of_group(self, group: str) -> frozenset[int]:
        found = await Heartbeats(self._client, group).read()
        older = OlderWorkers(self._client, group, self._lease)
        if not found or await older.unknown(found):
            return _NONE
        return frozenset.intersection(*(frozenset(one.wire_versions) for one in found))
