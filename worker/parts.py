"""Watches the parts of a worker: its tasks, and the threads that it cannot do without.

A worker that has lost one of them would only look alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

PERIOD = 0.5
"""Seconds between two looks at a thread."""


async def watch_thread(is_alive: Callable[[], bool]) -> None:
    """Return when a thread has ended."""
    while True:
        if not is_alive():
            return
        await asyncio.sleep(PERIOD)


async def first_to_end(tasks: Iterable[asyncio.Task[None]]) -> str:
    """Wait until one of these tasks has ended; return its name."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return ", ".join(task.get_name() for task in done)


def ended(tasks: Iterable[asyncio.Task[Any]]) -> str:
    """Return the name of a task that has ended; "" if there is none. Any thread may call it."""
    return next((task.get_name() for task in tasks if task.done()), "")
