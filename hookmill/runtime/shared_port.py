"""The port that several receivers share: who listens on it, and how a connection finds one of them.

On Linux each process has a listening socket of its own, and the kernel spreads connections evenly.
The supervisor holds each of them too, so that a successor takes over what is queued there.
Elsewhere all have the same socket.
"""

from __future__ import annotations

import socket
import sys
import time
from contextlib import suppress
from typing import Any

HAS_OWN_SOCKETS = sys.platform == "linux"
"""Whether the kernel spreads connections over the sockets that listen on one port."""

TRIES = 15
PAUSE = 0.2
"""How often, and after how many seconds, a port is tried that is in use: those whose supervisor was
killed may still be leaving it.
"""


class SharedPort:
    """The port of the receivers. `number` is the one that the system chose where 0 was given.
    `OSError`: it cannot be used.
    """

    def __init__(self, host: str, port: int, *, own_sockets: bool = HAS_OWN_SOCKETS) -> None:
        self._has_own_sockets = own_sockets
        self._addresses = _addresses(host, port)
        self.number = port
        if port:
            # Other programs of the same user could share it, too. They must not do so by mistake.
            for one in self._bound_alone():
                one.close()
        # These do not listen. They hold the port while no process does, or are what all listen on.
        self._held = self._bound(reuse_port=own_sockets)
        self.number = int(self._held[0].getsockname()[1])

    def open(self) -> list[socket.socket]:
        """Return the sockets of one process, one for each address."""
        return self._bound(reuse_port=True) if self._has_own_sockets else self._held

    def give_up(self, sockets: list[socket.socket]) -> None:
        """Close the sockets of a process that has ended. The others get what comes from now on."""
        if sockets is not self._held:
            for one in sockets:
                one.close()

    def close(self) -> None:
        """Let go of the port. Processes that listen on it still do."""
        for one in self._held:
            one.close()

    def _bound_alone(self) -> list[socket.socket]:
        for _ in range(TRIES - 1):
            with suppress(OSError):
                return self._bound(reuse_port=False)
            time.sleep(PAUSE)
        return self._bound(reuse_port=False)

    def _bound(self, *, reuse_port: bool) -> list[socket.socket]:
        """Return sockets that are bound to the port, and do not listen yet."""
        bound: list[socket.socket] = []
        try:
            for family, address in self._addresses:
                one = socket.socket(family, socket.SOCK_STREAM)
                bound.append(one)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if reuse_port:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                port = self.number or int(bound[0].getsockname()[1])
                one.bind((address[0], port, *address[2:]))
        except OSError:
            for one in bound:
                one.close()
            raise
        return bound


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))
