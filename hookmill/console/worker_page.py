"""The workers: which are sick, what each says of itself and holds, and its free hands."""

from __future__ import annotations

from hookmill.admin.worker_checks import sick_workers
from hookmill.console.console import Console
from hookmill.console.pages import Request, Shown


async def workers(console: Console, _: Request) -> Shown:
    """Show the workers of all groups."""
    seen = await console.watch.overview()
    lease = console.settings.lease
    groups = []
    for group in seen.groups:
        pending = {one.name: one.pending for one in group.consumers}
        sick = sick_workers(group, lease)
        named = {one.name for one in sick}
        groups.append(
            {
                "name": group.name,
                "sick": sick,
                "alive": [
                    (one, pending.get(one.name, one.held), one.name in named)
                    for one in group.heartbeats
                ],
                "silent": [(one, one.name in named) for one in group.without_heartbeat],
            }
        )
    return Shown("workers.html", {"groups": groups}, "workers")
