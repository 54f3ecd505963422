"""The replay of one handled message: looked at first, then confirmed and done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import NamedTuple

from hookmill.admin import replays
from hookmill.admin.stories import GroupStory, Story
from hookmill.config.settings import Settings
from hookmill.console.console import Console, acting, need_operator
from hookmill.console.jobs import Job
from hookmill.console.pages import Moved, PageRefusedError, Request
from hookmill.console.rendering import in_url

_FINISHED = frozenset({"handled", "discarded", "ignored", "finished"})


class ReplayOfOne(NamedTuple):
    """What a person is asked to confirm. `to` is the handler that is to run it, "" for all."""

    group: str
    entry: str
    to: str
    verb: str = "Replay"
    action: str = "replay"
    takes_rate: bool = False

    @property
    def warning(self) -> str:
        """What this does to it."""
        return (
            f"It runs again, with {f'handler {self.to}' if self.to else 'all handlers that match'}."
        )

    def begin(self, console: Console, request: Request, counted: Job) -> Job:
        """Replay it."""

        async def act(job: Job) -> AsyncIterator[None]:
            settings = _settings_of(console, self.group)
            async with replays.opened(settings, to=self.to, only=self.entry) as replay:
                async for _ in replay.look():
                    yield
                about = {"group": self.group, "name": replay.name, "plan": replay.plan}
                async with (
                    acting(console, request, "replay", about) as action,
                    aclosing(replay.run()) as running,
                ):
                    async for tally in running:
                        done = tally.progress.replayed
                        job.step(done, f"{done} replayed")
                        action.result(replayed=done, unfinished=tally.progress.unfinished)
                        yield
                        if job.is_cancelled:
                            action.result(cancelled=True)
                            break
            console.watch.forget()

        job = Job(f"Replay message {self.entry} in group {self.group}", counted.back, counted.total)
        return console.jobs.start(job, act)


async def plan(console: Console, request: Request) -> Moved:
    """Look whether the message can be replayed; the page of that job asks to confirm it."""
    need_operator(request)
    group, _ = await console.group_of(request)
    if group is None:
        raise PageRefusedError(404, "there is no group")
    entry = request.named["entry"]
    meant = ReplayOfOne(group.name, entry, request.field("to"))
    job = Job("Replay: looking at the message", f"/messages/{in_url(entry)}", None, meant)

    async def counting(job: Job) -> AsyncIterator[None]:
        settings, job.total = _settings_of(console, meant.group), 0
        async with replays.opened(settings, to=meant.to, only=entry) as replay:
            async for _ in replay.look():
                yield
            async with aclosing(replay.counting()) as counting:
                async for tally in counting:
                    job.total = tally.progress.replayed
            job.told = "1 message"
            yield

    return Moved(f"/jobs/{console.jobs.start(job, counting).id}")


def replayable(story: Story) -> dict[str, list[str]]:
    """Return in which groups a message can be replayed, each with the handlers that finished it."""
    if story.is_trimmed:
        return {}
    return {one.group: _handlers(one) for one in story.groups if _is_finished(one)}


def _is_finished(group: GroupStory) -> bool:
    return bool(group.places) and all(place.state in _FINISHED for place in group.places)


def _handlers(group: GroupStory) -> list[str]:
    return sorted({place.handler for place in group.places if place.handler})


def _settings_of(console: Console, group: str) -> Settings:
    return console.settings.model_copy(update={"group": group})
