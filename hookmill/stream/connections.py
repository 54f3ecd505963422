"""The connections to one server: kept open, and dropped when they are no longer good.

A server that was demoted keeps its connections open, and so may a proxy. So a reply that only the
wrong server gives drops all idle connections, and the next command connects again. A command
that gets no reply in time does the same. No command is ever sent a second time.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import hiredis
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff

from hookmill.errors import GroupLostError, SettingsError, StreamUnavailableError
from hookmill.stream.credentials import read_again
from hookmill.stream.open_connections import OpenConnections
from hookmill.stream.reply_errors import (
    AccessRefusedError,
    address_of,
    is_of_bad_server,
    is_of_wrong_server,
    translated,
)
from hookmill.stream.tls import TLS, explained

Command = tuple[Any, ...]
"""A command's name and arguments: texts, bytes and numbers."""

CONNECT_TIMEOUT = 5.0
"""Seconds to connect, where commands have no timeout of their own."""

REFUSED_PAUSE = 2.0
"""Seconds until a server that refused us is asked again."""

_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
"""How the kernel probes a silent connection, in seconds and tries: one whose other end is gone
fails after 11 seconds, also while a command blocks.
"""


class ServerCounts:
    """How often a server was asked, how often it was connected, and how often either failed."""

    __slots__ = ("connects", "failures", "round_trips")

    def __init__(self) -> None:
        self.round_trips = self.connects = self.failures = 0


class Connections:
    """Connections to one server, kept open for commands that are sent as they are.

    The Redis client's own `execute_command` takes a third longer for a small round trip, because it
    manages a pool and prepares retries. `timeout` is in seconds; None means that the commands
    block for as long as they say. User and password come from `url_file`, if there is one, and are
    read again at each new connection. Those `beside` others are dropped together with them.
    """

    def __init__(
        self,
        url: str,
        timeout: float | None,
        *,
        url_file: Path | None = None,
        beside: Connections | None = None,
    ) -> None:
        self.url = url
        self.url_file = url_file
        self.pool = _pool_of(url, timeout)
        read_again(self.pool, url_file)
        self._tls = TLS(self.pool)
        self.drops = 0
        """How often the connections were dropped."""
        self.counts: ServerCounts = ServerCounts() if beside is None else beside.counts
        self.together: list[Connections] = [] if beside is None else beside.together
        """All connections that are dropped together."""
        self.together.append(self)
        self._timeout = timeout
        self._blocks = timeout is None
        self._refusal = ""
        self._refused_until = 0.0
        self.opened = OpenConnections()

    @property
    def address(self) -> tuple[str, int] | None:
        """Where the server was found; None where only the URL says it. Any thread may read it."""
        return None

    @property
    def has_moved(self) -> bool:
        """Whether the server is elsewhere than where these connections lead."""
        return False

    def blocking(self) -> Connections:
        """Return connections to the same server for commands that block."""
        return Connections(self.url, None, url_file=self.url_file, beside=self)

    async def ask(self, commands: Iterable[Command], allowance: float = 0.0) -> list[Any]:
        """Send commands in one round trip on one connection; return a reply each. With an
        `allowance` each of them may last so many seconds longer.

        An error is its command's reply, and each command is judged by itself: where the connection
        fails after some replies, the commands without a reply have that error as theirs. Raise it
        where there is no reply at all.
        """
        is_long = allowance > 0
        # What may last long waits for what does. Others fail in line as soon as if they were sent.
        patience = None if is_long else self._timeout
        connection = await self.opened.get(self._make, is_long=is_long, patience=patience)
        drops = self.drops
        try:
            # It was closed meanwhile, or has a reply that nobody waited for.
            if connection.is_connected and await connection.can_read():
                await connection.disconnect()
            # Apart from the commands, because it says nothing about the other connections.
            if not connection.is_connected:
                await self._connect(connection)
            # hiredis writes commands six times as fast as the Redis client's own Python.
            packed = [hiredis.pack_command(command) for command in commands]
            self.counts.round_trips += 1
            return await self._replies_of(connection, packed, allowance)
        except (redis.RedisError, OSError) as error:  # a TimeoutError is an OSError
            self.counts.failures += 1
            raise self._translated(error.with_traceback(None)) from None
        finally:
            if drops != self.drops:
                await connection.disconnect(nowait=True)
            self.opened.put_back(connection, is_long=is_long)

    async def drop(self, seen: int | None = None) -> None:
        """Close what is idle, and what blocks, here and beside. What is in use is closed when it
        has its replies. Do nothing if there were more drops than the caller has `seen`.
        """
        if seen is None or seen == self.drops:
            for each in self.together:
                await each.close_idle()

    async def close_idle(self) -> None:
        """Do the same for these connections alone."""
        self.drops += 1
        for connection in list(self.opened.all if self._blocks else self.opened.free):
            # This waits for nothing, so nobody takes one of them into use meanwhile.
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close all connections."""
        if self in self.together:
            self.together.remove(self)
        for connection in self.opened.all:
            await connection.disconnect()

    async def _replies_of(
        self, connection: Any, packed: list[bytes], allowance: float
    ) -> list[Any]:
        """Send packed commands and read their replies; drop the connections if these say so."""
        drops, usual = self.drops, connection.socket_timeout
        replies: list[Any] = []
        try:
            if allowance and usual is not None:
                await self._send_large(connection, packed, usual + allowance)
            else:
                await connection.send_packed_command(packed)
            for _ in packed:
                try:
                    replies.append(await connection.read_response())
                except redis.ResponseError as error:
                    if is_of_wrong_server(error):
                        await self.drop(drops)
                        self._note(error)
                    # The client's frame has the error, and its traceback has this one: a cycle.
                    replies.append(translated(error.with_traceback(None), self.pool))
        except asyncio.CancelledError:
            if not self._blocks:  # somebody waited for this reply for as long as they could
                await self.drop(drops)
            raise
        except (redis.RedisError, OSError) as error:
            if is_of_bad_server(error):
                await self.drop(drops)
            if not replies:
                raise
            replies += [self._translated(error.with_traceback(None))] * (len(packed) - len(replies))
        finally:
            connection.socket_timeout = usual
        return replies

    def _note(self, error: redis.ResponseError) -> None:
        """Note what an error says about where the right server is. Here there is only one."""

    async def _send_large(self, connection: Any, packed: list[bytes], longer: float) -> None:
        """Send commands that may be large, or have large replies, so they have a longer timeout. A
        small one goes first: a server that does not answer is found within the usual time.
        """
        usual, connection.socket_timeout = connection.socket_timeout, longer
        await connection.send_packed_command([hiredis.pack_command(("PING",)), *packed])
        connection.socket_timeout = usual
        try:
            await connection.read_response()
        except redis.ResponseError as error:  # a user without the right to PING
            error.with_traceback(None)
        connection.socket_timeout = longer

    async def _connect(self, connection: Any) -> None:
        """Connect. A server that has just refused us is not asked again at once."""
        if time.monotonic() < self._refused_until:
            raise AccessRefusedError(self._refusal)
        if fault := self._tls.renew():
            raise self._refused(f"cannot be used with TLS: {fault}")
        self.counts.connects += 1
        try:
            await connection.connect()
        except redis.ResponseError as error:  # such as a database that there is not
            raise self._refused(f"refuses the connection: {error}") from None
        except redis.ConnectionError as error:
            # A server that wants another certificate may have closed before its alert was read.
            if self._tls and isinstance(error.__context__, ConnectionError):
                options = self.pool.connection_kwargs
                if alert := await self._tls.alert(options["host"], options.get("port", 6379)):
                    raise self._refused(explained(alert)) from None
            raise

    def _translated(self, error: Exception) -> StreamUnavailableError | GroupLostError:
        """Return an error of a connection as one of ours, and note that the server refused us."""
        if isinstance(error, redis.AuthenticationError):
            return self._refused(f"refuses the login: {error}")
        cause = error.__context__
        is_hangup = isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError)
        if isinstance(cause, ssl.SSLError) and not is_hangup:
            return self._refused(explained(cause))
        if isinstance(error, redis.exceptions.InvalidResponse):
            return self._refused(f"does not speak the protocol of Redis: {error}")
        return translated(error, self.pool)

    def _refused(self, why: str) -> AccessRefusedError:
        self._refusal = f"{address_of(self.pool)} {why}"
        self._refused_until = time.monotonic() + REFUSED_PAUSE
        return AccessRefusedError(self._refusal)

    def _make(self) -> Any:
        connection = self.pool.make_connection()
        self._tls.share(connection)
        return connection


def _pool_of(url: str, timeout: float | None) -> Any:
    """Return a pool that makes connections which write at once. Raises `SettingsError`."""
    try:
        # RESP2 replies have one form in every version, and are the cheaper to parse.
        pool: Any = redis.asyncio.ConnectionPool.from_url(  # partly untyped
            url,
            socket_timeout=timeout,
            socket_connect_timeout=CONNECT_TIMEOUT if timeout is None else timeout,
            retry=AsyncRetry(NoBackoff(), 0),
        )
        pool.connection_kwargs["protocol"] = 2  # a URL with `?protocol=3` would win otherwise
        if issubclass(pool.connection_class, redis.asyncio.Connection):  # a Unix socket has none
            pool.connection_kwargs["socket_keepalive"] = True
            pool.connection_kwargs["socket_keepalive_options"] = keepalive_options()
        pool.make_connection()  # without opening it: this refuses options it does not know
    except Exception:  # noqa: BLE001 - the client raises many kinds, and a text may show the password
        raise SettingsError(
            ["REDIS_URL: the Redis client cannot read it, or does not know an option in it"]
        ) from None
    pool.connection_class = _written_at_once(pool.connection_class)
    return pool


def keepalive_options() -> dict[int, int]:
    """Return how the kernel probes a silent connection, as far as this system lets it be set."""
    return {
        int(getattr(socket, name)): value
        for name, value in _KEEPALIVE.items()
        if hasattr(socket, name)
    }


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
