"""A task in the background that does the same thing again and again, until it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from hookmill.runtime.tasks import cancel_and_wait, run_periodically


class BackgroundTask:
    """Awaits `run_once` at the start, then every `period` seconds, and at once after `wake`."""

    def __init__(self, name: str, run_once: Callable[[], Awaitable[object]], period: float) -> None:
        self._name = name
        self._run_once = run_once
        self._period = period
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task. It can be started again after `stop`."""
        self._task = asyncio.create_task(
            run_periodically(self._name, self._run_and_wait), name=self._name
        )

    def wake(self) -> None:
        """Let the next run begin now, or as soon as the current one has ended."""
        self._woken.set()

    async def stop(self) -> None:
        """Cancel the task and wait until it has ended. A second call does nothing."""
        if self._task is not None:
            await cancel_and_wait([self._task])
            self._task = None

    async def _run_and_wait(self) -> float:
        self._woken.clear()
        await self._run_once()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._period):
                await self._woken.wait()
        return 0.0
