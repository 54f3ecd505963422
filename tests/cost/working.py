"""Counts what a message costs in the worker: its take, its attempt, and its settlement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import redis
from msgspec import structs

from benchmarks import filling
from hookmill import Delivery, Event, Handlers
from hookmill.config.settings import Settings
from hookmill.instrumentation.trace_setup import tracing_of
from hookmill.message import PACKED_VERSION
from hookmill.stream.client import Client
from hookmill.stream.producer import Producer
from tests.cost.counting import Modules, counted, usual
from tests.support import eventually, is_idle
from worker import report
from worker.app import Worker

TURNS = 7
WARM_UP = 3


class OrderPaid(Event, tag="order.paid"):
    """The event of the messages."""

    order_id: str
    amount: int
    note: str


handled: list[str] = []


async def do_nothing(delivery: Delivery[OrderPaid]) -> None:
    handled.append(delivery.id)


def doing_nothing() -> Handlers[Any]:
    """Return handlers that only note the message."""
    handlers: Handlers[Any] = Handlers()
    handlers.on(OrderPaid)(do_nothing)
    return handlers


@asynccontextmanager
async def working(settings: Settings, handlers: Handlers[Any]) -> AsyncIterator[Worker]:
    """Run a worker in this process."""
    report.MAX_DELAY = 60.0  # to count takes time, and must not split what is logged together
    worker = Worker(settings, handlers, None, tracing_of(settings))
    worker.start()
    try:
        await worker.opened.wait()
        yield worker
    finally:
        await worker.stop(5.0)


async def count_worker(
    at_once: int, settings: Settings, handlers: Handlers[Any], key: str = ""
) -> Modules:
    """Return what `at_once` messages cost that are in the stream when the worker wakes up. With a
    `key` each has an ordering key of its own.
    """
    found = []
    url = settings.need_redis_url()
    with redis.Redis.from_url(url) as client, ThreadPoolExecutor(1) as pool:
        async with working(settings, handlers):
            for turn in range(WARM_UP + TURNS):
                await eventually(lambda: is_idle(client, settings.prefix))
                first, handled[:] = turn * at_once, []
                # In another thread while the event loop stands still, so that the worker finds all.
                pool.submit(asyncio.run, fill(settings, first, at_once, key)).result()
                with counted() as counts:
                    await eventually(
                        lambda: len(handled) == at_once and is_idle(client, settings.prefix)
                    )
                found.append(counts)
    return usual(found[WARM_UP:])


async def fill(settings: Settings, first: int, count: int, key: str) -> None:
    """Append messages."""
    stream = Producer(Client(settings.need_redis_url(), settings.prefix, timeout=60.0))
    messages = [filling.message(number) for number in range(first, first + count)]
    if key:
        messages = [structs.replace(one, key=f"{key} {one.id}") for one in messages]
    await stream.append(messages, PACKED_VERSION)
    await stream.client.close()
