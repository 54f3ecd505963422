"""The console's connection to Redis: one client for all pages, opened when it is first needed."""

from __future__ import annotations

import asyncio

from hookmill.config.settings import Settings
from hookmill.stream.client import Client
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.inspector import Inspector


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
            return self._client

    async def _open(self) -> None:
        """Open the client. Until a receiver or worker has made the stream, it counts as one
        partition, and is looked for again.
        """
        if self._client is None:
            self._client = self._with(1)
        found = await self._client.agreed_partitions()
        if found is not None:
            self._is_agreed = True
            if found != len(self._client.partitions):
                await self._client.close()
                self._client = self._with(found)

    def _with(self, partitions: int) -> Client:
        settings = self.settings
        return Client(
            settings.need_redis_url(),
            settings.prefix,
            partitions=partitions,
            url_file=settings.redis_url_file,
        )

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
