"""The client of Redis: only this module decides to which server a command goes.

No command is ever sent a second time on its own: a repeated append would be a second message.
Redis' errors leave this module as `StreamUnavailableError` and `GroupLostError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from copy import copy
from math import inf
from pathlib import Path
from typing import Any, Self

from hookmill.errors import HookmillError, PartitionsError, StreamUnavailableError
from hookmill.stream.cluster import ClusterMap, SlotAddress
from hookmill.stream.connections import Command, Connections, ServerCounts
from hookmill.stream.keys import Keys
from hookmill.stream.moving import MovingConnections
from hookmill.stream.reply_errors import WaitEndedError
from hookmill.stream.sentinel import MasterAddress
from hookmill.stream.topology import Place, ServerList, server_list_of, slot_of, tag_of

LEAST_PACE = 1024 * 1024
"""Bytes a second that the line to Redis has to carry at least."""


def allowance_for(size: int) -> float:
    """Return for how many seconds more than usual a command may last that sends or brings so many
    bytes, or has Redis copy them. For what is small that is none.
    """
    return size / LEAST_PACE if size >= LEAST_PACE else 0.0


class Client:
    """All that a program needs to talk to Redis about one stream, or about one lane of it. Its
    creator has to close it.

    `partitions` is into how many parts the stream is split. A lane's client has `only` some of
    them, whose `numbers` count among all; within the client they count from 0. `timeout` (seconds)
    bounds each command. `url_file` is a file that holds the URL, too: user and password are read
    from it again at each new connection. `connections` bounds those to a server, without blocking.
    Producer, Consumer, DeadLetters, Inspector and Upkeep are views on a client.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        *,
        partitions: int = 1,
        only: Iterable[int] | None = None,
        timeout: float = 5.0,
        url_file: Path | None = None,
        cluster: ClusterMap | None = None,
        connections: int | None = None,
    ) -> None:
        listed = server_list_of(url)
        if listed.kind == "cluster":
            cluster = cluster or ClusterMap(listed.urls, url_file)
        self.cluster = cluster
        self.total = partitions
        self.numbers = tuple(range(partitions) if only is None else only)
        tags = [tag_of(number, partitions) if cluster else None for number in self.numbers]
        self.partitions = [Keys(prefix, *words) for words in zip(self.numbers, tags, strict=True)]
        self.timeout = timeout
        self.url_file = url_file
        self._server_url = listed.server
        self._heads: dict[int, Connections] = {}
        self.servers = self._servers_of(listed)
        self._connections = connections
        for server in self.servers:
            server.opened.most = connections
        self._url, self._prefix = url, prefix
        self._count_key = f"{prefix}:partitions"
        self._is_agreed = False
        self.unseen: dict[int, StreamUnavailableError] = {}
        """The partitions that cannot be asked, if that was found out (hookmill/stream/view.py)."""
        self.looked_at = -inf
        """When that was."""

    def _servers_of(self, listed: ServerList) -> list[Connections]:
        url, timeout, url_file = self._server_url, self.timeout, self.url_file
        if self.cluster:
            return [self._serving(self.cluster, keys.stream) for keys in self.partitions]
        if listed.kind == "sentinel":
            source = MasterAddress(listed.urls, listed.name, url_file)
            return [MovingConnections(url, timeout, source, url_file=url_file)]
        return [Connections(url, timeout, url_file=url_file)]

    @property
    def is_cluster(self) -> bool:
        """Whether the servers are those of a Redis Cluster."""
        return self.cluster is not None

    def _serving(self, cluster: ClusterMap, key: str) -> Connections:
        """Return connections to the node of a cluster that has a key."""
        source = SlotAddress(cluster, slot_of(key))
        return MovingConnections(self._server_url, self.timeout, source, url_file=self.url_file)

    def server_of(self, place: Place) -> Connections:
        """Return the connections to the server that has the keys of a place."""
        if self.cluster is None:
            return self.servers[0]
        if isinstance(place, int):
            return self.servers[place]
        slot = slot_of(place)
        if slot not in self._heads:
            self._heads[slot] = self._serving(self.cluster, place)
            self._heads[slot].opened.most = self._connections
        return self._heads[slot]

    async def agreed_partitions(self) -> int | None:
        """Return the number of partitions that the stream was made with; None if there is none."""
        found = await self.execute(self._count_key, "GET", self._count_key)
        return None if found is None else int(found)

    def with_timeout(self, seconds: float) -> Client:
        """Return a client of the same partitions with connections and a timeout of its own."""
        return Client(
            self._url, self._prefix, partitions=self.total, only=self.numbers, timeout=seconds,
            url_file=self.url_file, cluster=self.cluster,
        )  # fmt: skip

    def lanes(self) -> list[Client]:
        """Return a client for each lane of this stream: the partitions that can fail together. On
        one server they are all one lane; in a cluster each one is a lane. The caller closes them.
        """
        parts = [(number,) for number in self.numbers] if self.is_cluster else [self.numbers]
        return [
            Client(
                self._url, self._prefix, partitions=self.total, only=part, timeout=self.timeout,
                url_file=self.url_file, cluster=self.cluster, connections=self._connections,
            )
            for part in parts
        ]  # fmt: skip

    async def ask(self, place: Place, *commands: Command) -> list[Any]:
        """Send commands about keys of one place, in one round trip on one connection.

        Return the replies in order. A command that Redis refused has an exception as its reply, and
        so has one whose reply did not come after those of others did. Raise
        `StreamUnavailableError` if no reply came.
        """
        return await self.server_of(place).ask(commands)

    async def ask_places(
        self, asked: Iterable[tuple[Place, Command]], *behind: Command, allowance: float = 0.0
    ) -> list[Any]:
        """Do the same with commands about keys of several places, in one round trip to each server.
        It may last `allowance` seconds longer, if the server answers at all. Where one of several
        servers does not answer, its commands have that error as their replies.

        The commands `behind` follow on the same connection, and their replies come last. With them
        all places have to lie on one server.
        """
        if len(self.servers) == 1:
            (server,) = self.servers
            return await server.ask([*(command for _, command in asked), *behind], allowance)
        by_server: dict[Connections, list[tuple[int, Command]]] = {}
        count = 0
        for place, command in asked:
            by_server.setdefault(self.server_of(place), []).append((count, command))
            count += 1
        if behind and len(by_server) > 1:
            raise ValueError("commands behind others need all of them on one server")
        answers = await asyncio.gather(
            *(
                server.ask([*(command for _, command in some), *behind], allowance)
                for server, some in by_server.items()
            ),
            return_exceptions=True,
        )
        replies: list[Any] = [None] * (count + len(behind))
        for some, answer in zip(by_server.values(), answers, strict=True):
            numbers = [*(number for number, _ in some), *range(count, len(replies))]
            if isinstance(answer, BaseException) and not isinstance(answer, HookmillError):
                raise answer
            each = answer if isinstance(answer, list) else [answer] * len(numbers)
            for number, reply in zip(numbers, each, strict=True):
                replies[number] = reply
        if all(isinstance(answer, HookmillError) for answer in answers) and answers:
            checked(answers[0])  # it raises
        return replies

    async def ask_servers(self, command: Command) -> list[Any]:
        """Send a command about the server itself to each of the servers, but for those that cannot
        be asked; return a reply each.
        """
        asked = [server.ask([command]) for server in self.nodes().values()]
        return [reply for (reply,) in await asyncio.gather(*asked)]

    def nodes(self) -> dict[str, Connections]:
        """Return the servers by their addresses, but for those that cannot be asked. A node with
        several partitions comes once, if it is known by now where it is.
        """
        numbered = ((n, each) for n, each in enumerate(self.servers) if n not in self.unseen)
        return {
            f"{each.address[0]}:{each.address[1]}" if each.address else f"server {n}": each
            for n, each in numbered
        }

    async def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """Yield the keys that match a pattern, on all servers, in steps that are short for them."""
        for server in self.nodes().values():
            cursor: int | bytes = 0
            while True:
                (reply,) = await server.ask([("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)])
                cursor, keys = checked(reply)
                yield keys
                if int(cursor) == 0:
                    break

    async def info(self, *section: str) -> list[dict[str, str]]:
        """Return what each server says of itself (INFO), or a section of it, by its names."""
        replies = await self.ask_servers(("INFO", *section))
        return [
            dict(line.split(":", 1) for line in checked(reply).decode().splitlines() if ":" in line)
            for reply in replies
        ]

    async def execute(self, place: Place, *command: Any) -> Any:
        """Send one command and return its reply; raise the error where Redis refused it."""
        (reply,) = await self.ask(place, command)
        return checked(reply)

    async def agree_on_partitions(self, *, only_look: bool = False, again: bool = False) -> None:
        """Raise `PartitionsError` if this stream was made with another number of partitions.

        The first program that appends or takes stores the number. `only_look` stores nothing.
        `again` asks Redis although the number was right before, because Redis may have lost it.
        """
        if self._is_agreed and not again:
            return
        found = await self._noted_partitions(only_look=only_look)
        ours = self.total
        if found is not None and int(found) != ours:
            raise PartitionsError(
                f"HOOKMILL_PARTITIONS is {ours}, but this stream was made with {int(found)}: set "
                "it to that, for receivers and workers alike"
            )
        self._is_agreed = found is not None

    async def _noted_partitions(self, *, only_look: bool) -> bytes | None:
        """Return the number of partitions as it is noted; note ours where there is none.

        In a cluster each lane has a copy of the note, so that later it needs its own server only.
        """
        copy_key, key = self.partitions[0].partitions, self._count_key
        if self.is_cluster and (found := await self.execute(0, "GET", copy_key)) is not None:
            return bytes(found)
        found = await self.execute(key, "GET", key)
        # Write only if it is missing: a full Redis refuses writes, and workers must still drain it.
        if found is None and not only_look:
            await self.execute(key, "SET", key, self.total, "NX")
            found = await self.execute(key, "GET", key)
        if self.is_cluster and found is not None and not only_look:
            await self.execute(0, "SET", copy_key, found, "NX")
        return found if found is None else bytes(found)

    def blocking(self, place: Place) -> BlockingConnection:
        """Open a connection for commands that wait at the server of a place."""
        return BlockingConnection(self, place)

    def counts(self) -> list[ServerCounts]:
        """Return what was counted at each server, also of blocking connections."""
        return [server.counts for server in (*self.servers, *self._heads.values())]

    async def close(self) -> None:
        """Close all connections."""
        for server in (*self.servers, *self._heads.values()):
            await server.close()

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()


class BlockingConnection:
    """A connection for blocking commands only, such as XREAD with BLOCK. One command at a time.

    It waits for the reply longer than the command blocks. It is dropped with the client's other
    connections to that server, and drops them where it gets no reply.
    """

    def __init__(self, client: Client, place: Place) -> None:
        self._client = client
        self._place = place
        self._server = client.server_of(place).blocking()
        self._id: int | None = None
        self.was_dropped = False
        """Whether the last command ended with its connection: a reply to it may be lost."""

    async def ask(self, command: Command, seconds: float, *, can_be_ended: bool = False) -> Any:
        """Send a command that waits up to `seconds`; return its reply, None if the wait was ended.

        Raise `StreamUnavailableError` if there is no reply after that time and the client's
        timeout. A command that `can_be_ended` can be ended by `end_wait`. Others can end it, too:
        an operator, a change of the server's role, and the client that drops its connections.
        """
        drops, self.was_dropped = self._server.drops, False
        try:
            async with asyncio.timeout(seconds + self._client.timeout):
                if can_be_ended:
                    (own_id,) = await self._server.ask([("CLIENT", "ID")])
                    self._id = checked(own_id)
                (reply,) = await self._server.ask([command])
        except TimeoutError:
            await self._server.drop()
            raise StreamUnavailableError("no reply to a command that waits") from None
        except StreamUnavailableError:
            if drops != self._server.drops:
                self.was_dropped = True
                return None  # the next command tells whether the server is well
            raise
        return None if isinstance(reply, WaitEndedError) else checked(reply)

    async def end_wait(self) -> None:
        """End the wait of a command that `can_be_ended`: it replies as if its time were over."""
        if self._server.has_moved:  # another server may have a client of this number, too
            await self._server.close_idle()
        elif self._id is not None:
            with suppress(StreamUnavailableError):
                await self._client.ask(self._place, ("CLIENT", "UNBLOCK", self._id))

    async def close(self) -> None:
        """Close the connection."""
        await self._server.close()


def checked(reply: Any) -> Any:
    """Return a reply; raise it if it is an error.

    A copy is raised. With the error itself, its traceback would lead to frames that have the reply:
    a cycle, which the garbage collector frees late, and with it the bodies that these frames have.
    """
    if isinstance(reply, Exception):
        raise copy(reply)
    return reply
