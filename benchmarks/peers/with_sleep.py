"""The limit of the event loop: tasks that sleep 50 ms, on uvloop, without a queue."""

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
signal.pause()  # its memory is measured before it is ended
