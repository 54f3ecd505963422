"""A TCP proxy between our programs and a server, which does what proxies and networks do."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress


class Road:
    """A TCP proxy in front of a server. It can become a black hole (connections stay, nothing
    arrives), and it can lead new connections to another server while it keeps the old ones. It cuts
    connections on which nothing was sent for `most_idle` seconds.
    """

    def __init__(self, port: int, most_idle: float = math.inf) -> None:
        self._target = port
        self._most_idle = most_idle
        self.cut = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.opened = 0
        self._swallowed = asyncio.Event()

    async def open(self) -> str:
        self._server = await asyncio.start_server(self._travel, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return f"redis://127.0.0.1:{port}/0"

    def lead_to(self, port: int) -> None:
        """From here on new connections go to another server; those that are there stay."""
        self._target = port

    def swallow(self) -> None:
        """From here on nothing arrives over the connections there are; new ones are good."""
        self._swallowed.set()
        self._swallowed = asyncio.Event()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _travel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.opened += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        swallowed = self._swallowed
        try:
            # Only `close` cancels it, and asyncio has a callback that fails for a cancelled task.
            with suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(None) as idle:
                    await asyncio.gather(
                        self._carry(reader, back, swallowed, idle),
                        self._carry(there, writer, swallowed, idle),
                    )
        finally:
            self.cut += idle.expired()
            for each in back, writer:
                each.close()
                with suppress(ConnectionError):
                    await each.wait_closed()
            self._tasks.discard(task)

    async def _carry(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        swallowed: asyncio.Event,
        idle: asyncio.Timeout,
    ) -> None:
        while True:
            if self._most_idle < math.inf:
                idle.reschedule(asyncio.get_running_loop().time() + self._most_idle)
            data = await source.read(65_536)
            if not data:
                break
            if not swallowed.is_set():
                target.write(data)
        target.close()
