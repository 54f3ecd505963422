"""What operators do in a chaos run, while faults happen: they pause a part of the work and resume
it, and they replay what was handled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress

from hookmill.admin import pauses, replays
from hookmill.admin.body_paths import condition_of
from hookmill.admin.pauses import PauseRefusedError
from hookmill.admin.replay_checks import ReplayRefusedError
from hookmill.admin.replay_filter import ReplayFilter
from hookmill.config.settings import Settings
from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.stream.facts import Pause
from hookmill.stream.unfinished import ReplayTakenOverError
from tests.chaos.ledger import PastPause, PastReplay
from tests.chaos.schedule import Fault
from tests.chaos.sending import Senders
from tests.chaos.site import PREFIX, Site

_AGAIN = 0.2
"""Seconds until an operator repeats what was not possible, for example because Redis was away."""


class Steering:
    """The operators. What they do is noted for the ledger in `pauses` and `replays`."""

    def __init__(self, site: Site, senders: Senders) -> None:
        self._site = site
        self._senders = senders
        self._replaying = asyncio.Lock()
        self._paused: set[str] = set()
        self.pauses: list[PastPause] = []
        self.replays: list[PastReplay] = []

    @property
    def _settings(self) -> Settings:
        return Settings(redis_url=self._site.servers.master.url, prefix=PREFIX)

    async def pause(self, fault: Fault) -> None:
        """Pause something; resume it after a while. One in three pauses has an end of its own."""
        target, covers = self._target(fault)
        if target.name in self._paused:
            return  # the end of one would be that of the other
        self._paused.add(target.name)
        until = f"{round(fault.seconds) or 1}s" if fault.target % 3 == 2 else ""

        async def begin() -> None:
            await pauses.pause(self._settings, target, until=until, anyway=True)

        async def end() -> None:
            with suppress(PauseRefusedError):  # it has ended by itself
                async for _ in pauses.resume(self._settings, target):
                    pass

        await _until_done(begin)
        began = time.time()
        await asyncio.sleep(fault.seconds)
        if not until:  # by Redis' clock, which steps, the others may end at any time
            self.pauses.append(PastPause(target.name, covers, began, time.time()))
        await _until_done(end)
        self._paused.remove(target.name)

    def _target(self, fault: Fault) -> tuple[Pause, Callable[[str], bool]]:
        """Return what is paused, and which message IDs it covers."""
        kind = ("handler", "key", "source", "key", "handler", "all")[fault.after % 6]
        if kind == "handler":
            name = ("note_order", "note_post")[fault.target % 2]
            start = ("msg_", "evt_")[fault.target % 2]
            return pauses.of_handler(name), lambda one: one.startswith(start)
        if kind == "source":
            is_marble = fault.target % 2 == 0
            target = pauses.of_source("marble" if is_marble else "qstash")
            return target, lambda one: one.startswith("evt_") == is_marble
        if kind == "all":
            return pauses.everything(), lambda _: True
        key, covers = self._key(fault.after)
        return pauses.of_key("marble", key), covers

    def _key(self, number: int) -> tuple[str, Callable[[str], bool]]:
        keys = sorted(self._senders.in_order)
        key = keys[number % len(keys)] if keys else "post_0_0"
        ids = self._senders.in_order[key]  # it grows
        return key, lambda one: one in ids

    async def end_all(self) -> None:
        """Resume whatever is paused still: an end by Redis' clock may be far away."""

        async def end() -> None:
            for one in (await pauses.listed(self._settings)).pauses:
                with suppress(PauseRefusedError):
                    async for _ in pauses.resume(self._settings, one):
                        pass

        await _until_done(end)

    async def replay(self, fault: Fault) -> None:
        """Replay something that was handled; every other replay is interrupted and resumed."""
        async with self._replaying:  # a group has one at a time
            wanted, covers = self._wanted(fault)
            began = time.time()
            replayed = await self._replay(wanted, interrupted=fault.target % 2 == 1)
            self.replays.append(PastReplay(covers, began, replayed))

    def _wanted(self, fault: Fault) -> tuple[ReplayFilter, Callable[[str], bool]]:
        """Return what is replayed, and which message IDs it covers."""
        if fault.after % 3 == 0:
            key, covers = self._key(fault.after)
            return ReplayFilter(source="marble", key=key), covers
        if fault.after % 3 == 1:
            return ReplayFilter(handler="note_post"), lambda one: one.startswith("evt_")
        end = f"{fault.after % 10}{2 * fault.target % 10 + 1}"  # orders have odd numbers
        where = (condition_of(f"order_id~A-*{end}"),)
        return ReplayFilter(where=where), lambda one: one.startswith("msg_") and one.endswith(end)

    async def _replay(self, wanted: ReplayFilter, *, interrupted: bool) -> int:
        """Replay, through whatever interrupts it; return how many messages were replayed."""
        name, count = "", -1
        while True:
            settings = self._settings
            opening = replays.resumed(settings, name) if name else replays.opened(settings, wanted)
            try:
                async with opening as replay, _looked(replay):
                    name = replay.name
                    async with aclosing(replay.run()) as running:
                        async for tally in running:
                            count = tally.progress.replayed
                            if interrupted:
                                interrupted = False
                                break
                        else:
                            return count
            except (StreamUnavailableError, GroupLostError, ReplayTakenOverError):
                await asyncio.sleep(_AGAIN)
            except ReplayRefusedError:
                if name and count >= 0:
                    return count  # it had ended, and only the reply was lost
                name = ""
                await asyncio.sleep(_AGAIN)


@asynccontextmanager
async def _looked(replay: replays.Replay) -> AsyncIterator[None]:
    async with aclosing(replay.look()) as looking:
        async for _ in looking:
            pass
    yield


async def _until_done(act: Callable[[], Awaitable[None]]) -> None:
    """Do it again until it was possible."""
    while True:
        try:
            return await act()
        except (StreamUnavailableError, GroupLostError):
            await asyncio.sleep(_AGAIN)
