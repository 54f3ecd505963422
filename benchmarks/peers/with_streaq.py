"""streaQ: its worker in this process, uvloop, results not kept."""

from __future__ import annotations

from typing import Any

import uvloop
from counting import CONCURRENCY, MESSAGES, URL, Counter, asked_to_fill, order
from streaq import Worker

worker = Worker(
    redis_url=URL, concurrency=CONCURRENCY, anyio_kwargs={"use_uvloop": True}, handle_signals=False
)
counter = Counter()


@worker.task(silent=True, ttl=0)
async def paid(event: dict[str, Any]) -> None:  # noqa: ARG001 - what a handler is given
    counter.count()


async def fill() -> None:
    async with worker:
        for first in range(0, MESSAGES, 500):
            some = range(first, min(first + 500, MESSAGES))
            await worker.enqueue_many([paid.enqueue(order(number)) for number in some])


if asked_to_fill():
    uvloop.run(fill())
else:
    worker.run_sync()
