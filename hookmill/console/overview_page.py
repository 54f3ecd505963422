"""The overview: how much of each group's work is in which state, and what goes in and out."""

from __future__ import annotations

from hookmill.admin.status import oldest_age
from hookmill.console.console import Console
from hookmill.console.pages import Request, Shown


async def overview(console: Console, _: Request) -> Shown:
    """Show the state of everything."""
    seen = await console.watch.overview()
    lease = console.settings.lease
    groups = [
        {"facts": group, "oldest": oldest_age(seen, group), "workers": group.workers(lease)}
        for group in seen.groups
    ]
    return Shown("overview.html", {"seen": seen, "groups": groups}, "overview")
