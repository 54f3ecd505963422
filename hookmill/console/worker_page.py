"""The workers: what each holds and for how long, its release, and its free hands."""

from __future__ import annotations

from hookmill.console.console import Console
from hookmill.console.pages import Request, Shown


async def workers(console: Console, _: Request) -> Shown:
    """Show the workers of all groups."""
    seen = await console.watch.overview()
    lease = console.settings.lease
    groups = []
    for group in seen.groups:
        pending = {one.name: one.pending for one in group.consumers}
        blocked = {one.name for one in group.blocked(lease)}
        groups.append(
            {
                "name": group.name,
                "alive": [(one, pending.get(one.name, one.held)) for one in group.heartbeats],
                "silent": [(one, one.name in blocked) for one in group.without_heartbeat],
            }
        )
    return Shown("workers.html", {"groups": groups}, "workers")
