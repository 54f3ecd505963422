"""SAQ: its worker in this process, uvloop, results not kept."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop
from counting import CONCURRENCY, MESSAGES, URL, Counter, asked_to_fill, order
from saq import Queue, Worker

counter = Counter()


async def paid(_: Any, *, event: dict[str, Any]) -> None:  # noqa: ARG001 - what a handler is given
    counter.count()


async def main() -> None:
    queue = Queue.from_url(URL)
    await queue.connect()
    if asked_to_fill():
        for first in range(0, MESSAGES, 50):
            some = range(first, min(first + 50, MESSAGES))
            await asyncio.gather(
                *(queue.enqueue("paid", event=order(number), ttl=-1) for number in some)
            )
    else:
        await Worker(queue, functions=[paid], concurrency=CONCURRENCY).start()
    await queue.disconnect()


uvloop.run(main())
