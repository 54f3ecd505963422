"""Connections that never repeat a command, the scripts, and Redis' errors made ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hiredis
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff

from hookmill.errors import GroupLostError, SettingsError, StreamUnavailableError

Command = tuple[Any, ...]


class Client(redis.asyncio.Redis):
    """A client that can also send commands as they are, over connections that it keeps for that.
    What is left out is a third of a small round trip's cost: lending connections, counting them,
    preparing to try again.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._kept: list[Any] = []
        self._free: list[Any] = []

    async def ask(self, *commands: Command) -> list[Any]:
        """Send commands in one round trip on one connection; an error comes back as its reply.

        Raises redis' errors of the connection. It is made anew next time, and nothing is repeated.
        """
        connection = self._free.pop() if self._free else self._keep_another()
        try:
            if connection.is_connected and await connection.can_read():  # closed, or out of step
                await connection.disconnect()
            await connection.send_packed_command([hiredis.pack_command(one) for one in commands])
            return [await _reply_of(connection) for _ in commands]
        finally:
            self._free.append(connection)

    async def aclose(
        self,
        close_connection_pool: bool | None = None,  # noqa: FBT001 - the parent's own way
    ) -> None:
        """Close all connections."""
        for connection in self._kept:
            await connection.disconnect()
        await super().aclose(close_connection_pool)

    def _keep_another(self) -> Any:
        pool: Any = self.connection_pool  # untyped
        connection = pool.make_connection()
        self._kept.append(connection)
        return connection


async def _reply_of(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except redis.ResponseError as error:
        return error


def connect(url: str, timeout: float | None) -> Client:
    """Open a client that never repeats a command by itself. `timeout` is in seconds, None: none.

    RESP2 replies have one shape in every version of the client, and are the cheaper to parse.
    """
    try:
        client: Client = Client.from_url(  # type: ignore[assignment] # typed as its parent
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout if timeout is not None else 5.0,
            retry=AsyncRetry(NoBackoff(), 0),
            protocol=2,
        )
    except ValueError:  # its text may show a part of the password
        raise SettingsError(["REDIS_URL: the Redis client cannot read it"]) from None
    pool = client.connection_pool
    pool.connection_class = _packing(pool.connection_class)
    return client


class _Packing(redis.asyncio.connection.AbstractConnection):
    """A connection whose commands hiredis writes, as it reads their replies: the client's own
    Python takes six times as long, which with an append of many messages is most of its cost.
    """

    def pack_command(self, *args: Any) -> list[bytes]:
        """Write a command as Redis wants it."""
        if isinstance(args[0], str) and " " in args[0]:  # the client's name for "SCRIPT", "LOAD"
            args = (*args[0].split(), *args[1:])
        return [hiredis.pack_command(args)]

    async def send_packed_command(
        self,
        command: Any,
        check_health: bool = True,  # noqa: FBT001, FBT002 - the client's own way to be called
    ) -> None:
        """Send at once. The client makes a task of it for the sake of its timeout, which runs when
        all has run that is ready by now: a worker's whole batch, for which Redis would stand idle.
        """
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


def _packing(kind: type[redis.asyncio.connection.AbstractConnection]) -> Any:
    """Return that kind of connection (TCP, TLS or Unix) with our packing."""
    return type(f"Packing{kind.__name__}", (_Packing, kind), {})


@contextmanager
def translated() -> Iterator[None]:
    """Turn Redis' errors into ours. A timeout is no proof that nothing was written."""
    try:
        yield
    except (redis.RedisError, OSError) as error:  # a TimeoutError is an OSError
        text = str(error) or type(error).__name__
        if "NOGROUP" in text or "UNBLOCKED" in text:
            raise GroupLostError(text) from None
        raise StreamUnavailableError(text) from None
