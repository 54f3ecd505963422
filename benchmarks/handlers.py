"""The handlers of the measured messages: `hookmill worker benchmarks.handlers:NAME`.

Before each call, the event is decoded to a typed struct. Each set counts its calls and writes the
time of all of them to `BENCH_RESULT`; `telling` writes the start time of each call, and `timing`
those of all calls at once, so that a busy worker does not write a file for each.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from benchmarks.peers.counting import MESSAGES, Counter, write_whole
from hookmill import Delivery, Event, Handlers


class OrderPaid(Event, tag="order.paid"):
    """The measured event."""

    order_id: str
    amount: int
    note: str


counter = Counter()
noop, waiting, computing = Handlers(), Handlers(), Handlers()
telling, timing = Handlers(), Handlers()
times: list[str] = []


@noop.on(OrderPaid)
async def do_nothing(_: Delivery[OrderPaid]) -> None:
    counter.count()


@waiting.on(OrderPaid)
async def wait(_: Delivery[OrderPaid]) -> None:
    await asyncio.sleep(0.05)
    counter.count()


@computing.on(OrderPaid)
async def compute(_: Delivery[OrderPaid]) -> None:
    ends = time.thread_time() + 0.001
    while time.thread_time() < ends:
        pass
    counter.count()


@telling.on(OrderPaid)
async def tell(delivery: Delivery[OrderPaid]) -> None:
    began = time.monotonic_ns()
    line = f"{delivery.id} {began}\n".encode()
    # One write for a line, so that a reader never sees a part of it.
    handle = os.open(os.environ["BENCH_RESULT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line)
    os.close(handle)


@timing.on(OrderPaid)
async def keep_time(delivery: Delivery[OrderPaid]) -> None:
    times.append(f"{delivery.event.order_id} {time.time_ns()}\n")
    if len(times) == MESSAGES:
        write_whole(Path(os.environ["BENCH_RESULT"]), "".join(times))
