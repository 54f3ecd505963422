"""Hands out ports for the servers and programs that a test starts.

The kernel gives a port of its own range to any connection that goes out. Between the choice of such
a port and the moment when a program listens on it, or while the program starts again, a connection
of another test may hold it. So these ports lie outside of that range, and a port belongs to one
process until it ends, whichever suite on this machine it is part of.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

KERNELS_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
USUAL_RANGE = "32768 60999"
LOWEST = 10_000
ENOUGH = 1000

LOCKS = Path(f"/tmp/hookmill-test-ports-{os.getuid()}")
"""The byte at a port's place in this file is locked by the process to which the port belongs. The
kernel ends the lock with the process, however that ends, and no child inherits it.
"""


class Ports:
    """Ports of a range, each at most once."""

    def __init__(self, among: range, locks: Path = LOCKS) -> None:
        start = secrets.randbelow(len(among))  # processes that start together seldom meet
        self._left: Iterator[int] = iter((*among[start:], *among[:start]))
        self._locks = os.open(locks, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self) -> int:
        """Return a port that nothing uses. It belongs to this process until that ends."""
        for port in self._left:
            if self._is_ours(port) and is_free(port):
                return port
        raise AssertionError("no port is left")

    def _is_ours(self, port: int) -> bool:
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        return True


def outside(first: int, last: int) -> range:
    """Return ports that are not among those from `first` to `last`, or, where these leave too few,
    the ports that usually are not.
    """
    found = max(range(LOWEST, first), range(last + 1, 65536), key=len)
    return found if len(found) >= ENOUGH else range(LOWEST, int(USUAL_RANGE.split(maxsplit=1)[0]))


def kernels_range() -> tuple[int, int]:
    """Return the first and the last port that the kernel gives to connections."""
    text = USUAL_RANGE
    with suppress(OSError):  # not Linux
        text = KERNELS_RANGE.read_text()
    first, last = map(int, text.split())
    return first, last


def is_free(port: int) -> bool:
    """Return whether a program could listen on it, also on all addresses."""
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


# Every second one: `hookmill dev` takes the port after the one that it is told as well.
_PORTS = Ports(outside(*kernels_range())[::2])


def free_port() -> int:
    """Return a port that nobody else is given until this process ends."""
    return _PORTS.take()
