"""Pausing and resuming from the console: a handler, a source, or all that a group has."""

from __future__ import annotations

from collections.abc import AsyncIterator

from hookmill.admin import pauses
from hookmill.config.settings import Settings
from hookmill.console.console import Console, need_operator, operator_of
from hookmill.console.jobs import Job
from hookmill.console.pages import Moved, PageRefusedError, Request
from hookmill.stream.facts import Pause


async def pause(console: Console, request: Request) -> Moved:
    """Pause what the form names."""
    need_operator(request)
    settings, target = await _settings(console, request), _target(request)
    until = request.field("until")
    await pauses.pause(settings, target, operator_of(request), until=until)
    console.forget_pauses()
    return Moved.with_query("/handlers", {"group": settings.group})


async def resume(console: Console, request: Request) -> Moved:
    """Resume what the form names; the page of that job shows what is put back."""
    need_operator(request)
    settings, target = await _settings(console, request), _target(request)
    steps = pauses.resume(settings, target, operator_of(request))

    async def resuming(job: Job) -> AsyncIterator[None]:
        async for step in steps:
            job.step(job.done + step.moved, f"{job.done + step.moved:,} put back")
            yield
        console.forget_pauses()

    back = Moved.with_query("/handlers", {"group": settings.group}).to
    job = Job(f"Resume {pauses.words_of(target)}", back, None)
    return Moved(f"/jobs/{console.jobs.start(job, resuming).id}")


async def _settings(console: Console, request: Request) -> Settings:
    """Return the settings with the group that the form names."""
    group, _ = await console.group_of(request)
    if group is None:
        raise PageRefusedError(404, "there is no group")
    return console.settings.model_copy(update={"group": group.name})


def _target(request: Request) -> Pause:
    kind, value = request.field("kind"), request.field("value")
    match kind:
        case "all":
            return pauses.everything()
        case "handler" if value:
            return pauses.of_handler(value)
        case "source" if value:
            return pauses.of_source(value)
        case "key" if value:
            return pauses.of_key(request.field("source"), value)
    raise PageRefusedError(400, "say what to pause: a handler, a source, or all")
