"""Looks for the groups because of which deliveries are, or will be, refused, and names them to the
operator: in the log and in the text of /readyz. Senders learn no names of groups.

A group pins the stream if it has unfinished work and no worker: the stream keeps all of that.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.facts import GroupFacts
from hookmill.stream.groups import Groups, shown
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.inspector import Inspector
from receiver.background import BackgroundTask

log = structlog.get_logger("receiver")

PERIOD = 30.0
"""Seconds between two looks, beside `PAUSE`."""

PAUSE = 10.0
"""The least seconds between two looks, while deliveries are refused because the backlog is full."""


class PinningWatch:
    """`start` it, tell it when the `backlog_is_full`, `stop` it. `remarks` is for /readyz.

    `lease` (seconds) decides which workers of release 0.1 count as running.
    """

    def __init__(self, client: Client, lease: float) -> None:
        self._client = client
        self._lease = lease
        self._is_full = False
        """Whether a delivery was refused since the last look."""
        self._task = BackgroundTask("pinning groups", self._look_and_pause, PERIOD)
        self._without_worker: set[str] = set()
        """The groups that pinned the stream at the last look."""
        self._named: set[str] = set()
        """Those that did so at two looks, so that a restart of all workers is no alarm."""
        self.remarks = ""

    def start(self) -> None:
        """Look from time to time."""
        self._task.start()

    def backlog_is_full(self) -> None:
        """Note that a delivery was refused because of it."""
        self._is_full = True
        self._task.wake()

    async def stop(self) -> None:
        """End; a second call does nothing."""
        await self._task.stop()

    async def _look_and_pause(self) -> None:
        is_full, self._is_full = self._is_full, False
        # If Redis is away, other parts of the receiver say so.
        with suppress(StreamUnavailableError, GroupLostError):
            await self.look(is_full=is_full)
        await asyncio.sleep(PAUSE)

    async def look(self, *, is_full: bool) -> None:
        """Look once, log what is new, and renew the remarks."""
        groups = await self._groups(is_full=is_full)
        pinning = {group.name: group for group in groups if group.pins(self._lease)}
        named = {name for name in pinning if name in self._without_worker}
        for name in sorted(named - self._named):
            log.warning(
                "a group pins the stream: it has unfinished work and no worker",
                group=shown(name), unfinished=pinning[name].backlog,
            )  # fmt: skip
        if self._named and not named:
            log.info("no group pins the stream any more")
        self._without_worker, self._named = set(pinning), named
        remarks = [
            f"group {shown(name)} pins the stream: it has unfinished work"
            f"{_number(pinning[name])} and no worker\n"
            for name in sorted(named)
        ]
        if is_full and groups:
            remarks.insert(0, self._named_as_full(max(groups, key=_size)))
        self.remarks = "".join(remarks)

    def _named_as_full(self, group: GroupFacts) -> str:
        workers = group.workers(self._lease)
        log.warning(
            "backlog full, deliveries get 503",
            largest_backlog_in_group=shown(group.name), unfinished=group.backlog, workers=workers,
        )  # fmt: skip
        return (
            f"deliveries get 503 backlog_full: group {shown(group.name)} has the largest backlog"
            f"{_number(group)}; workers of it that run: {workers}\n"
        )

    async def _groups(self, *, is_full: bool) -> list[GroupFacts]:
        """Return all groups if the backlog is full, else those without a heartbeat: to ask for a
        heartbeat costs little.
        """
        inspector, found = Inspector(self._client), []
        for group in (await Groups(self._client).known()).values():
            if not group.is_there:
                continue
            if is_full or not await Heartbeats(self._client, group.name).read():
                found.append(await inspector.group(group.name))
        return found


def _number(group: GroupFacts) -> str:
    return "" if group.backlog is None else f" ({group.backlog:,} messages)"


def _size(group: GroupFacts) -> float:
    return float("inf") if group.backlog is None else group.backlog
