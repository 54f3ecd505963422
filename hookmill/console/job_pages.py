"""The page of an action: what was counted and is to be confirmed, then how far it has come."""

from __future__ import annotations

from hookmill.console.console import Console, need_operator
from hookmill.console.jobs import Job
from hookmill.console.pages import Moved, PageRefusedError, Request, Shown


async def confirm(console: Console, request: Request) -> Moved:
    """Do what was counted."""
    need_operator(request)
    counted = console.jobs.get(request.named["id"])
    if counted is None or counted.plan is None or counted.state != "ended":
        raise PageRefusedError(404, "there is nothing to confirm (any more)")
    job = counted.plan.begin(console, request, counted)
    counted.plan = None  # a form that is sent twice acts once
    return Moved(f"/jobs/{job.id}")


async def job(console: Console, request: Request) -> Shown:
    """Show how far an action has come."""
    found = _job(console, request)
    return Shown("job.html", {"job": found}, "jobs" if found.is_running else "")


async def cancel(console: Console, request: Request) -> Moved:
    """End an action after its current step."""
    need_operator(request)
    _job(console, request).is_cancelled = True
    return Moved(f"/jobs/{request.named['id']}")


def _job(console: Console, request: Request) -> Job:
    found = console.jobs.get(request.named["id"])
    if found is None:
        raise PageRefusedError(404, "there is no such action (any more): the console was restarted")
    return found
