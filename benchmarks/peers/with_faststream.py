"""FastStream on Redis streams; BENCH_BATCH asks for its batch subscriber."""

from __future__ import annotations

import logging
import os
from typing import Any

import redis.asyncio
import uvloop
from counting import CONCURRENCY, MESSAGES, URL, Counter, asked_to_fill, order
from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub

IS_BATCH = bool(os.environ.get("BENCH_BATCH"))
GROUP = {"group": "main", "consumer": "one", "max_records": 256 if IS_BATCH else CONCURRENCY}
broker = RedisBroker(URL, logger=None)
counter = Counter()

if IS_BATCH:

    @broker.subscriber(stream=StreamSub("orders", batch=True, **GROUP))
    async def paid_batch(events: list[dict[str, Any]]) -> None:
        counter.count(len(events))

else:

    @broker.subscriber(stream=StreamSub("orders", **GROUP), max_workers=CONCURRENCY)
    async def paid(event: dict[str, Any]) -> None:  # noqa: ARG001 - what a handler is given
        counter.count()


async def main() -> None:
    if not asked_to_fill():
        await FastStream(broker, logger=None).run(log_level=logging.WARNING)
        return
    # It creates its group at the end of the stream, so the messages are added afterwards.
    client = redis.asyncio.Redis.from_url(URL)
    await client.xgroup_create("orders", "main", id="0", mkstream=True)
    await client.aclose()
    await broker.connect()
    for number in range(MESSAGES):
        await broker.publish(order(number), stream="orders")
    await broker.stop()


uvloop.run(main())
