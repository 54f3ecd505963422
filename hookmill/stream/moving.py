"""Connections to a server whose address is asked for: that of some keys in Redis Cluster, or a
master that sentinels watch.

Where a command that was sent did not run, because its keys lie elsewhere by now, it is sent there.
That is the only case in which a command is sent a second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import redis

from hookmill.errors import StreamUnavailableError
from hookmill.stream.connections import CONNECT_TIMEOUT, Command, Connections
from hookmill.stream.reply_errors import DiscardedError, KeysElsewhereError

MOST_MOVES = 3
"""How often a command may follow its keys."""

KEYLESS = frozenset({"MULTI", "PING", "SCRIPT", "WAIT", "WAITAOF", "CONFIG", "CLIENT", "TIME"})
"""Commands without keys. To send one of them again does no harm."""


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


class AddressSource(Protocol):
    """Knows where one server is, and asks where that is in doubt."""

    @property
    def known(self) -> Address | None:
        """Where the server was when it was last asked for. Any thread may read it."""

    async def find(self) -> Address:
        """Return where it is now. Raises `StreamUnavailableError` if nobody knows."""

    def doubt(self) -> None:
        """Note that the server may be elsewhere: `find` asks again."""

    def moved(self, address: Address) -> None:
        """Note where the server is, as another server has told."""


class MovingConnections(Connections):
    """Connections to the server that `source` tells of. The URL has the rest."""

    def __init__(
        self,
        url: str,
        timeout: float | None,
        source: AddressSource,
        *,
        url_file: Path | None = None,
        beside: Connections | None = None,
    ) -> None:
        super().__init__(url, timeout, url_file=url_file, beside=beside)
        self.source = source
        self.silent: StreamUnavailableError | None = None
        """Why it is of no use to ask, as long as an operator's look says so."""

    @property
    def address(self) -> tuple[str, int] | None:
        """Where the server was found."""
        return self.source.known

    @property
    def has_moved(self) -> bool:
        """Whether the server is elsewhere than where these connections lead."""
        options = self.pool.connection_kwargs
        leads_to = options.get("host"), options.get("port")
        return bool(self.opened.all) and self.address != leads_to

    def blocking(self) -> Connections:
        """Return connections to the same server for commands that block."""
        return MovingConnections(self.url, None, self.source, url_file=self.url_file, beside=self)

    async def ask(self, commands: Iterable[Command], allowance: float = 0.0) -> list[Any]:
        """Do what `Connections.ask` does, and follow keys that lie on another server by now."""
        if self.silent is not None:
            raise copy(self.silent)
        sent = [*commands]
        replies = await super().ask(sent, allowance)
        for _ in range(MOST_MOVES):
            start = _first_not_run(sent, replies)
            if start is None:
                break
            try:
                replies[start:] = await super().ask(sent[start:], allowance)
            except StreamUnavailableError as error:
                if start == 0:
                    raise
                # Those before have run, and their replies count.
                replies[start:] = [error.with_traceback(None)] * (len(sent) - start)
        return replies

    async def drop(self, seen: int | None = None) -> None:
        """Do what `Connections.drop` does, and doubt the address."""
        if seen is None or seen == self.drops:
            self.source.doubt()
        await super().drop(seen)

    async def _connect(self, connection: Any) -> None:
        connection.host, connection.port = found = await self._find()
        self.pool.connection_kwargs.update(found._asdict())
        try:
            await super()._connect(connection)
        except (redis.RedisError, OSError, StreamUnavailableError):
            self.source.doubt()
            raise

    async def _find(self) -> Address:
        """Ask where the server is. Many may ask at once, and where nobody answers, each one's turn
        would come late.
        """
        limit = CONNECT_TIMEOUT if self._timeout is None else self._timeout
        try:
            async with asyncio.timeout(limit):
                return await self.source.find()
        except TimeoutError:
            raise StreamUnavailableError(
                f"nobody has told within {limit:g} s where the server is"
            ) from None

    def _note(self, error: redis.ResponseError) -> None:
        """Note where the keys are, if the error says it."""
        if isinstance(error, redis.exceptions.MovedError):
            host = error.host or self.pool.connection_kwargs["host"]
            self.source.moved(Address(host, error.port))


def _first_not_run(commands: Sequence[Command], replies: Sequence[Any]) -> int | None:
    """Return the number of the first command that has to be sent again with all behind it; None
    where there is none, or where one behind it did run.
    """
    moved = (n for n, reply in enumerate(replies) if isinstance(reply, KeysElsewhereError))
    start = next(moved, None)
    if start is None:
        return None
    names = [command[0] for command in commands]
    begun = [n for n in range(start) if names[n] == "MULTI" and "EXEC" not in names[n:start]]
    start = begun[0] if begun else start
    behind = zip(names[start:], replies[start:], strict=True)
    return start if all(_did_not_run(name, reply) for name, reply in behind) else None


def _did_not_run(name: str, reply: Any) -> bool:
    return (
        name in KEYLESS
        or reply == b"QUEUED"
        or isinstance(reply, KeysElsewhereError | DiscardedError)
    )
