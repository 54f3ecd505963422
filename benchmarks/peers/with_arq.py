"""arq: its worker in this process, uvloop, results not kept."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker
from counting import CONCURRENCY, MESSAGES, URL, Counter, asked_to_fill, order

counter = Counter()


async def paid(_: Any, event: dict[str, Any]) -> None:  # noqa: ARG001 - what a handler is given
    counter.count()


async def main() -> None:
    pool = await create_pool(RedisSettings.from_dsn(URL))
    if asked_to_fill():
        for first in range(0, MESSAGES, 50):
            some = range(first, min(first + 50, MESSAGES))
            await asyncio.gather(*(pool.enqueue_job("paid", order(number)) for number in some))
    else:
        worker = Worker(
            [paid], redis_pool=pool, max_jobs=CONCURRENCY, keep_result=0, poll_delay=0.01,
            log_results=False, handle_signals=False,
        )  # fmt: skip
        await worker.async_run()
    await pool.aclose()


uvloop.run(main())
