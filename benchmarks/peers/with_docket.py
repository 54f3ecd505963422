"""docket: its worker in this process, uvloop, results not kept."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import uvloop
from counting import CONCURRENCY, MESSAGES, URL, Counter, asked_to_fill, order
from docket import Docket, Worker

counter = Counter()


async def paid(event: dict[str, Any]) -> None:  # noqa: ARG001 - what a handler is given
    counter.count()


async def main() -> None:
    async with Docket(name="orders", url=URL, execution_ttl=timedelta(0)) as docket:
        docket.register(paid)
        if asked_to_fill():
            for first in range(0, MESSAGES, 50):
                some = range(first, min(first + 50, MESSAGES))
                await asyncio.gather(*(docket.add(paid)(order(number)) for number in some))
            return
        async with Worker(docket, concurrency=CONCURRENCY) as worker:
            await worker.run_forever()


uvloop.run(main())
