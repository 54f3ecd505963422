"""Looks at the system once for all browsers, and tells each of them when a page has changed.

However many browsers are open, Redis is asked once a period, and not at all while none is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog

from hookmill.errors import StreamUnavailableError
from hookmill.runtime.tasks import cancel_and_wait
from hookmill.stream.facts import Overview

log = structlog.get_logger("console")

PERIOD = 2.0
"""Seconds between two looks."""

Topic = str
"""What a page shows: "overview", "dead", "workers", "jobs"."""


class Listener:
    """One browser: the topics that have changed since it was last told."""

    def __init__(self) -> None:
        self._changed: set[Topic] = set()
        self._event = asyncio.Event()
        self.is_closed = False

    def tell(self, topics: set[Topic]) -> None:
        """Note that these have changed."""
        self._changed |= topics
        self._event.set()

    def close(self) -> None:
        """End the browser's stream."""
        self.is_closed = True
        self._event.set()

    async def next(self) -> list[Topic]:
        """Wait for changes, and return what has changed; nothing where the stream has to end."""
        await self._event.wait()
        self._event.clear()
        changed, self._changed = sorted(self._changed), set()
        return [] if self.is_closed else changed


class Watch:
    """The one reader. `look` returns the overview as it is now."""

    def __init__(self, look: Callable[[], Awaitable[Overview]], period: float = PERIOD) -> None:
        self._look = look
        self._period = period
        self._seen: Overview | None = None
        self._seen_at = -period
        self._looking = asyncio.Lock()
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    async def overview(self) -> Overview:
        """Return the overview, at most a period old. Raises `StreamUnavailableError`."""
        async with self._looking:
            if self._seen is None or time.monotonic() - self._seen_at >= self._period:
                self._seen = await self._look()
                self._seen_at = time.monotonic()
            return self._seen

    def forget(self) -> None:
        """Have the next page show what is there now: an action has changed it."""
        self._seen_at = -self._period

    def tell(self, *topics: Topic) -> None:
        """Tell all browsers that something has changed."""
        for listener in self._listeners:
            listener.tell(set(topics))

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """Give a listener inside the block."""
        listener = Listener()
        if self._is_closed:
            listener.close()
        self._listeners.add(listener)
        if self._task is None and not self._is_closed:
            self._task = asyncio.create_task(self._watch(), name="watch")
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    async def close(self) -> None:
        """End all streams and the reader."""
        self._is_closed = True
        for listener in self._listeners:
            listener.close()
        if self._task is not None:
            await cancel_and_wait([self._task])
            self._task = None

    async def _watch(self) -> None:
        """Look once a period while somebody listens."""
        before: Overview | None = None
        while self._listeners:
            try:
                now = await self.overview()
            except StreamUnavailableError:
                now = None  # the page itself says it
            except Exception:  # the browsers must not stand still for ever
                log.exception("a look at the system failed, trying again")
                now = None
            self.tell(*_changed(before, now))
            before = now
            await asyncio.sleep(self._period)
        self._task = None


def _changed(before: Overview | None, now: Overview | None) -> set[Topic]:
    """Return the topics that differ. Rates and ages change all the time."""
    topics = {"overview", "workers"}
    if _dead(before) != _dead(now):
        topics.add("dead")
    return topics


def _dead(seen: Overview | None) -> list[tuple[str, int]] | None:
    return None if seen is None else [(group.name, group.dead) for group in seen.groups]
