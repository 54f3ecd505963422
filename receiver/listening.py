"""Where the receiver listens: on the port of the settings, or on the sockets of its supervisor."""

from __future__ import annotations

import asyncio
import select
from typing import Any

from hookmill.runtime import supervised

_ASYNCIO_BACKLOG = 128
"""Connections that the kernel may hold before they are accepted, where there is no uvloop."""

_TURNS = 5
"""Turns of the event loop after which a connection that was accepted is known."""


class Listening:
    """`start` it, and `end` it."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []

    async def start(self, server: Any, host: str, port: int) -> int:
        """Listen, and give connections to aiohttp's server; return the port. Raise `OSError` if
        that is impossible.
        """
        create, supervisor = asyncio.get_running_loop().create_server, supervised.current()
        if supervisor is None:
            self._servers = [await create(server, host, port, backlog=backlog())]
        else:
            given = supervisor.sockets
            self._servers = [await create(server, sock=one, backlog=backlog()) for one in given]
        return int(self._servers[0].sockets[0].getsockname()[1])

    async def end(self) -> None:
        """Accept the connections that the kernel holds, for it would reset them with the socket.
        Then listen no more. A second call does nothing.
        """
        queue = select.poll()
        for server in self._servers:
            for one in server.sockets:
                queue.register(one.fileno(), select.POLLIN)
        for _ in range(backlog()):
            if not queue.poll(0):
                break
            await asyncio.sleep(0)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        for server in self._servers:
            server.close()
        self._servers = []


def backlog() -> int:
    """Return how many connections the kernel may hold that are not accepted yet."""
    return _ASYNCIO_BACKLOG if _is_asyncio() else 1024


def accepted_at_once() -> int:
    """Return how many connections may be accepted before the receiver is told of the first."""
    # uvloop accepts one connection and tells about it. asyncio accepts all that there are, and does
    # so again before it tells about the first.
    return 2 * _ASYNCIO_BACKLOG if _is_asyncio() else 0


def _is_asyncio() -> bool:
    return isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
