"""The console's connection to Redis: one client for all pages, opened when it is first needed."""

from __future__ import annotations

import asyncio

from hookmill.config.settings import Settings
from hookmill.stream.client import Client
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.inspector import Inspector
from hookmill.stream.view import look_around, open_view

LOOK_AGAIN = 5.0
"""Seconds after which it is found out again which nodes of a cluster can be asked."""


class Backend:
    """Gives the views on the stream. Methods raise `StreamUnavailableError`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._client: Client | None = None
        self._is_agreed = False
        self._opening = asyncio.Lock()

    async def client(self) -> Client:
        """Return the client, with as many partitions as the stream was made with."""
        async with self._opening:
            if self._client is None or not self._is_agreed:
                await self._open()
            assert self._client is not None  # noqa: S101 - it was opened
            await look_around(self._client, LOOK_AGAIN)
            return self._client

    async def _open(self) -> None:
        """Open the client. Until a receiver or worker has made the stream, it counts as one
        partition, and is looked for again.
        """
        settings = self.settings
        url, prefix = settings.need_redis_url(), settings.prefix
        url_file = settings.redis_url_file
        if self._client is None:
            self._client = await open_view(url, prefix, settings.partitions, url_file)
        client = self._client
        # In a cluster, the node that knows the number may be away; then the view has found it.
        found = client.total if client.unseen else await client.agreed_partitions()
        if found is not None:
            self._is_agreed = True
            if found != client.total:
                await client.close()
                self._client = await open_view(url, prefix, found, url_file)

    def unseen(self) -> list[str]:
        """Return which partitions of a cluster could not be asked, and why."""
        return [] if self._client is None else [*map(str, self._client.unseen.values())]

    async def inspector(self) -> Inspector:
        """Return what looks at the stream and its groups."""
        return Inspector(await self.client())

    async def dead_letters(self, group: str) -> DeadLetters:
        """Return a group's dead letters."""
        return DeadLetters(await self.client(), group)

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.close()
