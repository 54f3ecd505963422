"""The event loop's own limit: tasks that sleep 50 ms, so many at a time, on uvloop. No queue."""

from __future__ import annotations

import asyncio
import signal

import uvloop
from counting import CONCURRENCY, MESSAGES, Counter


async def main() -> None:
    counter = Counter()

    async def hand() -> None:
        for _ in range(MESSAGES // CONCURRENCY):
            await asyncio.create_task(asyncio.sleep(0.05))
            counter.count()

    await asyncio.gather(*(hand() for _ in range(CONCURRENCY)))


uvloop.run(main())
signal.pause()  # its memory is looked at before it is ended
