"""Background tasks: one that runs periodically and outlives its errors, and how to cancel any.

A plain `task.cancel()` is not always enough: see `cancel_and_wait`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.runtime.log_pace import LogPace

log = structlog.get_logger("runtime")

PAUSE_AFTER_ERROR = 1.0
"""Seconds until the next run after one that failed."""

CANCEL_AGAIN_AFTER = 0.1
"""Seconds after which a task that is still running is cancelled once more."""


class Turns:
    """How a periodic task gets on. `count` changes when a run begins and when it ends, `pause` is
    for how many seconds the task rests now (0 while a run is under way). Only the event loop may
    change it.
    """

    def __init__(self) -> None:
        self.count = 0
        self.pause = 0.0

    def note(self, pause: float) -> None:
        """Note that a run begins (0), or that one has ended and the task rests."""
        self.count += 1
        self.pause = pause


async def run_periodically(
    name: str, run_once: Callable[[], Awaitable[float]], turns: Turns | None = None
) -> None:
    """Call `run_once` again and again, until this task is cancelled; keep `turns` up to date.

    `run_once` returns the seconds to wait before its next call. An error is logged under `name`
    and does not end the task. Of an outage of Redis not every failure is logged.
    """
    pace, turns = LogPace(), turns or Turns()
    while True:
        turns.note(0.0)
        try:
            pause = await run_once()
            pace.succeeded()
        except (GroupLostError, StreamUnavailableError) as error:
            if pace.failed():
                log.warning(
                    "background task waits for Redis", task=name, error=str(error), **pace.failures
                )
            pause = PAUSE_AFTER_ERROR
        except Exception:  # an error in one run must not end the task
            log.exception("background task failed, trying again", task=name)
            pause = PAUSE_AFTER_ERROR
        turns.note(pause)
        await asyncio.sleep(pause)


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and return when all have ended. Their results and errors are left in them.

    A task is cancelled again and again until it ends, because one cancellation can be lost: in
    Python 3.11 `asyncio.wait_for` swallows a cancellation that arrives in the moment in which the
    awaited operation completes, and redis-py uses it to connect.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_AFTER)
