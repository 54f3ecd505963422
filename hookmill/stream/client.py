"""The connections to Redis: only this module decides over which one a command goes.

No command is ever sent a second time on its own: a repeated append would be a second message.
Redis' errors leave this module as `StreamUnavailableError` and `GroupLostError`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Self

import hiredis
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff

from hookmill.errors import GroupLostError, PartitionsError, SettingsError, StreamUnavailableError
from hookmill.stream.keys import Keys
from hookmill.stream.topology import Place, Topology

Command = tuple[Any, ...]
"""A command's name and arguments: texts, bytes and numbers."""

CONNECT_TIMEOUT = 5.0
"""Seconds to connect, where commands have no timeout of their own."""


class ScriptMissingError(StreamUnavailableError):
    """The server does not know the script, so it did nothing."""


class Client:
    """All that a program needs to talk to Redis about one stream. Its creator has to close it.

    `partitions` is into how many parts the stream is split, `timeout` (seconds) bounds each
    command. Producer, Consumer, DeadLetters, Inspector and Upkeep are views on a client.
    """

    def __init__(self, url: str, prefix: str, *, partitions: int = 1, timeout: float = 5.0) -> None:
        self.partitions = [Keys(prefix, number) for number in range(partitions)]
        self.timeout = timeout
        self.topology = Topology((url,))
        self._servers = [_Server(each, timeout) for each in self.topology.urls]
        self._url = url
        self._prefix = prefix
        self._count_key = f"{prefix}:partitions"
        self._is_agreed = False

    @classmethod
    async def as_found(cls, url: str, prefix: str) -> Self:
        """Open a stream with the number of partitions that it was made with."""
        async with cls(url, prefix) as looking:
            found = await looking.execute(looking._count_key, "GET", looking._count_key)
        return cls(url, prefix, partitions=int(found or 1))

    def with_timeout(self, seconds: float) -> Client:
        """Return a client of the same stream with connections and a timeout of its own."""
        partitions = len(self.partitions)
        return Client(self._url, self._prefix, partitions=partitions, timeout=seconds)

    async def ask(self, place: Place, *commands: Command) -> list[Any]:
        """Send commands about keys of one place, in one round trip on one connection.

        Return the replies in order. A command that Redis refused has an exception as its reply.
        Raise `StreamUnavailableError` if the connection failed.
        """
        return await self._servers[self.topology.server_of(place)].ask(commands)

    async def ask_places(
        self, asked: Iterable[tuple[Place, Command]], *behind: Command
    ) -> list[Any]:
        """Do the same with commands about keys of several places, in one round trip.

        The commands `behind` follow on the same connection, and their replies come last. Here
        the commands would be split by server, if there were several.
        """
        (server,) = self._servers
        return await server.ask([*(command for _, command in asked), *behind])

    async def ask_servers(self, command: Command) -> list[Any]:
        """Send a command about the server itself to each of the servers; return a reply each."""
        return [reply for server in self._servers for reply in await server.ask([command])]

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
        key, ours = self._count_key, len(self.partitions)
        found = await self.execute(key, "GET", key)
        # Write only if it is missing: a full Redis refuses writes, and workers must still drain it.
        if found is None and not only_look:
            await self.execute(key, "SET", key, ours, "NX")
            found = await self.execute(key, "GET", key)
        if found is not None and int(found) != ours:
            raise PartitionsError(
                f"HOOKMILL_PARTITIONS is {ours}, but this stream was made with {int(found)}: set "
                "it to that, for receivers and workers alike"
            )
        self._is_agreed = found is not None

    def blocking(self, place: Place) -> BlockingConnection:
        """Open a connection for commands that wait at the server of a place."""
        return BlockingConnection(self, place)

    async def close(self) -> None:
        """Close all connections."""
        for server in self._servers:
            await server.close()

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()


class BlockingConnection:
    """A connection for blocking commands only, such as XREAD with BLOCK. One command at a time.

    It waits for the reply longer than the command blocks.
    """

    def __init__(self, client: Client, place: Place) -> None:
        self._client = client
        self._place = place
        topology = client.topology
        self._server = _Server(topology.urls[topology.server_of(place)], None)
        self._id: int | None = None

    async def ask(self, command: Command, seconds: float, *, can_be_ended: bool = False) -> Any:
        """Send a command that waits up to `seconds`; return its reply.

        Raise `StreamUnavailableError` if there is no reply after that time and the client's
        timeout. A command that `can_be_ended` can be ended by `end_wait`.
        """
        try:
            async with asyncio.timeout(seconds + self._client.timeout):
                if can_be_ended:
                    (own_id,) = await self._server.ask([("CLIENT", "ID")])
                    self._id = checked(own_id)
                (reply,) = await self._server.ask([command])
        except TimeoutError as error:
            raise translated(error) from None
        return checked(reply)

    async def end_wait(self) -> None:
        """End the wait of a command that `can_be_ended`: it replies as if its time were over."""
        if self._id is not None:
            with suppress(StreamUnavailableError):
                await self._client.ask(self._place, ("CLIENT", "UNBLOCK", self._id))

    async def close(self) -> None:
        """Close the connection."""
        await self._server.close()


class _Server:
    """Connections to one server, kept open for commands that are sent as they are.

    The Redis client's own `execute_command` takes a third longer for a small round trip, because it
    manages a pool and prepares retries. `timeout` is in seconds; None means none.
    """

    def __init__(self, url: str, timeout: float | None) -> None:
        try:
            # RESP2 replies have one form in every version, and are the cheaper to parse.
            pool: Any = redis.asyncio.ConnectionPool.from_url(  # partly untyped
                url,
                socket_timeout=timeout,
                socket_connect_timeout=CONNECT_TIMEOUT if timeout is None else timeout,
                retry=AsyncRetry(NoBackoff(), 0),
            )
            pool.connection_kwargs["protocol"] = 2  # a URL with `?protocol=3` would win otherwise
            pool.make_connection()  # without opening it: this refuses options it does not know
        except (ValueError, TypeError):  # their text may show a part of the password
            raise SettingsError(
                ["REDIS_URL: the Redis client cannot read it, or does not know an option in it"]
            ) from None
        pool.connection_class = _written_at_once(pool.connection_class)
        self.pool = pool
        self._kept: list[Any] = []
        self._free: list[Any] = []

    async def ask(self, commands: Iterable[Command]) -> list[Any]:
        """Send commands in one round trip on one connection; an error is its command's reply."""
        connection = self._free.pop() if self._free else self._keep_another()
        try:
            # It was closed meanwhile, or has a reply that nobody waited for.
            if connection.is_connected and await connection.can_read():
                await connection.disconnect()
            # hiredis writes commands six times as fast as the Redis client's own Python.
            packed = [hiredis.pack_command(command) for command in commands]
            await connection.send_packed_command(packed)
            return [await _reply_of(connection) for _ in packed]
        except (redis.RedisError, OSError) as error:  # a TimeoutError is an OSError
            raise translated(error) from None
        finally:
            self._free.append(connection)

    async def close(self) -> None:
        """Close all connections."""
        for connection in self._kept:
            await connection.disconnect()

    def _keep_another(self) -> Any:
        connection = self.pool.make_connection()
        self._kept.append(connection)
        return connection


class _WrittenAtOnce(redis.asyncio.connection.AbstractConnection):
    """A connection that writes a command at once.

    The Redis client writes in a separate task, because it has a timeout. That task runs after
    all tasks that are ready by now, a worker's whole batch, and Redis would stand idle meanwhile.
    """

    async def send_packed_command(
        self,
        command: Any,
        check_health: bool = True,  # noqa: FBT001, FBT002 - the client's own way to be called
    ) -> None:
        """Write a packed command, or several; connect first if there is no connection."""
        if not self.is_connected or self._writer is None:
            await super().send_packed_command(command, check_health)
            return
        try:
            async with asyncio.timeout(self.socket_timeout):
                self._writer.writelines([command] if isinstance(command, bytes) else command)
                await self._writer.drain()
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise redis.TimeoutError("Timeout writing to socket") from None
        except OSError as error:
            await self.disconnect(nowait=True)
            raise redis.ConnectionError(f"Error while writing to socket. {error}") from error
        except BaseException:
            await self.disconnect(nowait=True)
            raise

    async def disconnect(
        self,
        nowait: bool = False,  # noqa: FBT001, FBT002 - the client's own way to be called
        *rest: Any,
        **named: Any,
    ) -> None:
        """Close the connection. With `nowait` a command was given up, so it is not sent on."""
        if nowait and self._writer is not None:
            _abort(self._writer)
        await super().disconnect(nowait, *rest, **named)


def _abort(writer: Any) -> None:
    """Close a connection without sending what waits to be sent.

    Otherwise an append that was given up would go on behind a slow line, and would be carried out
    although it counts as failed.
    """
    if sock := writer.get_extra_info("socket"):
        with suppress(OSError, ValueError):  # it is closed already, or no TCP socket
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _written_at_once(kind: type[redis.asyncio.connection.AbstractConnection]) -> Any:
    """Return that kind of connection (TCP, TLS or Unix) as one that writes at once."""
    return type(f"WrittenAtOnce{kind.__name__}", (_WrittenAtOnce, kind), {})


def checked(reply: Any) -> Any:
    """Return a reply; raise it if it is an error."""
    if isinstance(reply, Exception):
        raise reply
    return reply


async def _reply_of(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except redis.ResponseError as error:
        return translated(error)


def translated(error: Exception) -> StreamUnavailableError | GroupLostError:
    """Return an error of Redis as one of Hookmill's. After a timeout something may be written."""
    text = str(error) or type(error).__name__
    if isinstance(error, redis.exceptions.NoScriptError):
        return ScriptMissingError(text)
    if "NOGROUP" in text or "UNBLOCKED" in text:
        return GroupLostError(text)
    return StreamUnavailableError(text)
