"""taskiq on Redis streams: no result backend, its receiver in this process, uvloop."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop
from counting import CONCURRENCY, MESSAGES, URL, Counter, asked_to_fill, order
from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(url=URL, xread_count=CONCURRENCY)
counter = Counter()


@broker.task
async def paid(event: dict[str, Any]) -> None:  # noqa: ARG001 - what a handler is given
    counter.count()


async def main() -> None:
    await broker.startup()
    if asked_to_fill():
        for first in range(0, MESSAGES, 50):
            some = range(first, min(first + 50, MESSAGES))
            await asyncio.gather(*(paid.kiq(order(number)) for number in some))
    else:
        await run_receiver_task(broker, max_async_tasks=CONCURRENCY, max_prefetch=CONCURRENCY)
    await broker.shutdown()


uvloop.run(main())
