"""Which server holds which keys. No I/O.

All keys of a partition have its number as their hash tag, so they lie together on one server.
Today there is one server. With several, or with Redis Cluster, only this module and `client`
change.
"""

from __future__ import annotations

from typing import NamedTuple

Place = int | str
"""Where a key lies: a partition's number, or for a key outside of the partitions its hash tag."""


def wake_up_partition(partition: int) -> int:  # noqa: ARG001 - one server holds every key
    """Return the partition among whose keys lies what wakes up workers for a partition.

    Those of all partitions on one server lie together, so that a waiting worker is blocked on few
    keys: an append costs the server time for each blocked worker and each of its keys. In a cluster
    a script may use the keys of one partition only, so there each would have its own.
    """
    return 0


class Topology(NamedTuple):
    """The servers by their URLs, and which of them holds a key."""

    urls: tuple[str, ...]

    def server_of(self, place: Place) -> int:  # noqa: ARG002 - one server holds every key
        """Return the number of the server that holds the keys of a place, 0 for the first."""
        return 0
