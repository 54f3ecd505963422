"""Renews a consumer's leases from a thread of its own, over connections of its own.

With each renewal it raises the consumer's lease number. A number that rises says that the consumer
still holds what it holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from hookmill.stream.client import Client
from hookmill.stream.connections import translated
from hookmill.stream.credentials import read_again
from hookmill.stream.entries import EntryRef
from hookmill.stream.heartbeats import PLACE
from hookmill.stream.script_runner import script_text

_TIMEOUT = 2
"""Seconds for one command. Short, because a worker that stops waits for the renewal under way."""


class BlockingLeases:
    """Renews leases from a thread, which a busy event loop cannot stop."""

    def __init__(self, client: Client, group: str, consumer: str) -> None:
        self._topology = client.topology
        self._partitions = [keys.of_group(group) for keys in client.partitions]
        self._names = [group, consumer]
        self._number = 0
        self._servers = [
            redis.Redis.from_url(
                url,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                retry=Retry(NoBackoff(), 0),
            )
            for url in self._topology.urls
        ]
        for server in self._servers:
            read_again(server.connection_pool, client.url_file)

    def renew(self, refs: Iterable[EntryRef]) -> list[EntryRef]:
        """Renew these entries' leases and raise the lease number, also where there are no entries;
        return those that are no longer this consumer's.
        """
        by_server: defaultdict[int, defaultdict[int, list[EntryRef]]]
        by_server = defaultdict(lambda: defaultdict(list))
        numbered = self._topology.server_of(PLACE)
        by_server[numbered] = defaultdict(list)
        self._number += 1
        for ref in refs:
            by_server[self._topology.server_of(ref.partition)][ref.partition].append(ref)
        lost: list[EntryRef] = []
        for server, by_partition in by_server.items():
            try:
                lost += self._renew_at(server, by_partition, raises=server == numbered)
            except (redis.RedisError, OSError) as error:
                # The connection may lead to a server that was demoted: the next one is a new one.
                self._servers[server].connection_pool.disconnect()
                raise translated(error) from None
        return lost

    def _renew_at(
        self, server: int, by_partition: dict[int, list[EntryRef]], *, raises: bool
    ) -> list[EntryRef]:
        text = script_text("renew")
        with self._servers[server].pipeline(transaction=False) as pipe:
            for number, refs in by_partition.items():
                keys = self._partitions[number]
                args = [word for ref in refs for word in (ref.key_number, ref.id)]
                pipe.eval(text, 2, keys.stream, keys.again, *self._names, *args)
            if raises:  # after the renewals, because it says that they were made
                key, consumer = self._partitions[PLACE].lease_numbers, self._names[1]
                pipe.eval(script_text("lease_number"), 1, key, consumer, str(self._number))
            replies = pipe.execute()[: len(by_partition)]
        return [
            refs[place - 1]
            for refs, lost in zip(by_partition.values(), replies, strict=True)
            for place in lost
        ]

    def close(self) -> None:
        """Close the connections."""
        for server in self._servers:
            server.close()
