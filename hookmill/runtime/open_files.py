"""How many open files this process may have, and how many of them may be connections of senders.

Each connection is an open file. A receiver that has none left can neither accept a connection nor
reach Redis, so some are kept for everything else.
"""

from __future__ import annotations

import resource
from contextlib import suppress

KEPT = 192
"""Open files that are kept for Redis, the spool, certificates, logs, and what the event loop
accepts at once.
"""

MOST = 10_000
"""Connections if no setting says another number."""

FEW = 1_000
"""Fewer connections than this are too few for a receiver that anybody can reach."""


def limit(*, hard: bool = False) -> int:
    """Return the limit of open files, or how far this process may raise it (`hard`)."""
    soft_and_hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = soft_and_hard[1 if hard else 0]
    return 2**31 if found == resource.RLIM_INFINITY else found


def raise_limit(connections: int | None) -> None:
    """Raise the limit as far as so many connections need (None: `MOST`), or as far as allowed."""
    wanted = min((connections or MOST) + KEPT, limit(hard=True))
    # macOS also refuses what is above a limit of the kernel that it tells nowhere here, so less is
    # tried too. With none of them, the connections are as many as the old limit allows.
    while limit() < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
            )
        wanted //= 2


def allowed_connections(connections: int | None, files: int) -> int:
    """Return how many connections may be open at a limit of so many open files, of those that the
    settings ask for (None: `MOST`).
    """
    # If the limit is very low, a quarter of it is better than nothing.
    return max(1, min(connections or MOST, max(files - KEPT, files // 4)))
