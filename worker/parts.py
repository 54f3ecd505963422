"""Watches the parts of a worker: its tasks, and the threads that it cannot do without.

A worker that has lost one of them would only look alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

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
