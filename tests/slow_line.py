"""A line to Redis that lets only so many bytes a second through: a real TCP proxy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

_PIECE = 16 * 1024


class SlowLine:
    """`url` is that of Redis, through the line. `bytes_per_second` may be changed at any time. It
    holds for each connection, on the way to Redis; with `both_ways` on the way back as well.
    """

    def __init__(self, url: str, bytes_per_second: int, *, both_ways: bool = False) -> None:
        self._to = urlsplit(url)
        self.bytes_per_second = bytes_per_second
        self._both_ways = both_ways
        self._serving: set[asyncio.Task[None]] = set()
        self.url = ""

    async def _serve(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        server = socket.socket()
        server.setblocking(False)
        try:
            await loop.sock_connect(server, (self._to.hostname, self._to.port))
            ways = [
                asyncio.ensure_future(self._pass_on(client, server, is_slow=True)),
                asyncio.ensure_future(self._pass_on(server, client, is_slow=self._both_ways)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            client.close()
            server.close()

    async def _pass_on(self, source: socket.socket, to: socket.socket, *, is_slow: bool) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            free_at = loop.time()
            while piece := await loop.sock_recv(source, _PIECE):
                if is_slow:
                    # Its own time, so that a late wake-up does not make the line slower.
                    free_at = max(free_at, loop.time() - 0.05) + len(piece) / self.bytes_per_second
                    await asyncio.sleep(free_at - loop.time())
                await loop.sock_sendall(to, piece)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            task = asyncio.create_task(self._serve(client))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[SlowLine]:
        """Serve until the end of the block."""
        listener = socket.socket()
        # Without this the kernel would take in megabytes at once, and the line would look quick.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        self.url = f"redis://127.0.0.1:{listener.getsockname()[1]}{self._to.path}"
        accepting = asyncio.create_task(self._accept(listener))
        try:
            yield self
        finally:
            tasks = [accepting, *self._serving]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            listener.close()
