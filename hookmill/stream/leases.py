"""Renews a consumer's leases from a thread of its own, over connections of its own.

With each renewal it raises the consumer's lease number. A number that rises says that the consumer
still holds what it holds: others may take that over only after the number has stood still for a
lease (`scripts/silence.lua`).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.connections import Connections
from hookmill.stream.credentials import read_again
from hookmill.stream.entries import EntryRef
from hookmill.stream.heartbeats import PLACE
from hookmill.stream.moving import MovingConnections
from hookmill.stream.reply_errors import translated
from hookmill.stream.script_runner import script_text
from hookmill.stream.stacks import KEPT_FOR

FIND_STEP = 0.02
"""Seconds between two looks whether it is known where a server is."""


class BlockingLeases:
    """Renews leases from a thread, which a busy event loop cannot stop. `timeout` is in seconds,
    for one command.
    """

    def __init__(self, client: Client, group: str, consumer: str, timeout: float = 2.0) -> None:
        self._partitions = [keys.of_group(group) for keys in client.partitions]
        self._stacks = self._partitions[PLACE].stacks
        self._names = [group, consumer]
        self.request = b""
        """The name of the request for this worker's stacks that was seen last; b"" if there is
        none (`StackRequests`).
        """
        self._addresses: dict[Connections, tuple[str, int]] = {}
        self._timeout = timeout
        self._number = 0
        self._has_number = False
        """Whether this consumer has a lease number in every partition."""
        self._client = client
        self._servers = {server: self._connections_to(server, timeout) for server in client.servers}

    def renew(self, refs: Iterable[EntryRef], partitions: Iterable[int] = ()) -> list[EntryRef]:
        """Renew these entries' leases; return those that are no longer this consumer's.

        Raise the lease number where these entries are, in `partitions`, and where all numbers can
        be seen together, which is so also where this consumer holds nothing. The first renewal
        raises it everywhere: without a number it would count for how long an entry is idle, which
        a step of Redis' clock changes.
        """
        self._number += 1
        if not self._has_number:
            partitions = range(len(self._partitions))
        by_partition: defaultdict[int, list[EntryRef]] = defaultdict(list)
        for number in (PLACE, *partitions):
            by_partition[number] = []
        for ref in refs:
            by_partition[ref.partition].append(ref)
        by_server: defaultdict[Connections, dict[int, list[EntryRef]]] = defaultdict(dict)
        for number, some in by_partition.items():
            by_server[self._client.server_of(number)][number] = some
        lost: list[EntryRef] = []
        for server, there in by_server.items():
            try:
                lost += self._renew_at(server, there)
            except (redis.RedisError, OSError) as error:
                # The connection may lead to a server that was demoted: the next one is a new one.
                self._servers[server].connection_pool.disconnect()
                raise translated(error, self._servers[server].connection_pool) from None
        self._has_number = True
        return lost

    def _connections_to(self, server: Connections, timeout: float) -> redis.Redis:
        made = redis.Redis.from_url(
            server.url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
        read_again(made.connection_pool, self._client.url_file)
        return made

    def _follow(self, server: Connections) -> None:
        """Connect to where the server is now, as the event loop has found out. A worker that has
        just started finds it out soon.
        """
        if not isinstance(server, MovingConnections):
            return  # its URL says it; that of a cluster or of sentinels leads to other servers
        ends = time.monotonic() + self._timeout
        last = self._addresses.get(server)
        while (found := server.address or last) is None:
            if time.monotonic() >= ends:
                raise StreamUnavailableError("it is not known yet where the server is")
            time.sleep(FIND_STEP)
        if found != last:
            pool = self._servers[server].connection_pool
            self._addresses[server] = found
            pool.disconnect()
            pool.reset()
            pool.connection_kwargs.update(host=found[0], port=found[1])

    def _renew_at(
        self, server: Connections, by_partition: dict[int, list[EntryRef]]
    ) -> list[EntryRef]:
        text = script_text("renew")
        self._follow(server)
        pipe: Any  # its execute_command has no types
        with self._servers[server].pipeline(transaction=False) as pipe:
            for number, refs in by_partition.items():
                keys = self._partitions[number]
                args = [word for ref in refs for word in (ref.key_number, ref.id)]
                names = [*self._names, str(self._number)]
                used = [keys.stream, keys.again, keys.lease_numbers]
                used += [keys.stacks] if number == PLACE else []
                pipe.execute_command("EVAL", text, len(used), *used, *names, *args)
            replies = pipe.execute()
        lost: list[EntryRef] = []
        for (number, refs), reply in zip(by_partition.items(), replies, strict=True):
            if number == PLACE:
                self.request = b""
                if reply and isinstance(reply[-1], bytes):
                    self.request = reply.pop()
            lost += [refs[place - 1] for place in reply]
        return lost

    def look_for_request(self) -> None:
        """See whether this worker's stacks are asked for, without a renewal."""
        self.request = self._at_place("HGET", self._stacks, f"ask {self._names[1]}") or b""

    def say_stacks(self, text: str) -> None:
        """Answer the request that was seen last."""
        request, self.request = self.request, b""
        words = [self._stacks, self._names[1], request, text, int(KEPT_FOR * 1000)]
        self._at_place("EVAL", script_text("stacks_say"), 1, *words)

    def _at_place(self, *words: Any) -> Any:
        found = self._client.server_of(PLACE)
        self._follow(found)
        server: Any = self._servers[found]  # untyped, as above
        try:
            return server.execute_command(*words)
        except (redis.RedisError, OSError) as error:
            server.connection_pool.disconnect()
            raise translated(error, server.connection_pool) from None

    def close(self) -> None:
        """Close the connections."""
        for server in self._servers.values():
            server.close()
