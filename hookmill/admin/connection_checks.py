"""Judges how many connections the Redis server takes, and what workers leave for receivers. No I/O.

Idle workers are connected all the time. Where they have all connections, each delivery is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from hookmill.admin.findings import Finding
from hookmill.admin.units import count
from hookmill.stream.facts import Overview, ServerFacts
from hookmill.stream.open_connections import CONNECTIONS_OF_WORKER

FOR_OTHERS = 100
"""Connections that receivers, operators and what watches the server should have."""

NEARLY_ALL = 0.9
"""The share of all connections that should not be in use."""

_DO = "raise maxclients (CONFIG SET maxclients, and the limit of open files of the server)"


def judge_connections(server: ServerFacts, overview: Overview) -> Iterator[Finding]:
    """Judge the bound on connections by the fleet of the heartbeats, and by what is in use."""
    limit = server.maxclients
    if not limit:
        return
    workers = {one.name for group in overview.groups for one in group.heartbeats}
    lanes = len(server.partitions) if server.is_cluster else 1  # of a worker on this server
    needed = len(workers) * CONNECTIONS_OF_WORKER * lanes
    why = "with no connection left, receivers answer 503 to every delivery"
    if limit - needed < FOR_OTHERS:
        running = count(len(workers), "worker needs", "workers need")
        yield Finding(
            level="error" if needed >= limit else "warning",
            what=f"{running} up to {needed:,} connections; Redis takes {limit:,} (maxclients)",
            why=f"{max(0, limit - needed):,} are left for receivers and operators: {why}",
            do=f"{_DO}, or run fewer workers with more HOOKMILL_CONCURRENCY each",
        )
    elif server.clients >= limit * NEARLY_ALL:
        yield Finding(
            level="warning",
            what=f"{server.clients:,} of {limit:,} connections (maxclients) are in use",
            why=why,
            do=f"{_DO}, or see with CLIENT LIST who has them",
        )
