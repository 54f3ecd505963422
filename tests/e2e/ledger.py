"""Handlers for tests with whole programs. They write what they did to a file outside Redis.

A test copies this file into the worker's folder, and the worker imports it as `ledger:handlers`. A
line has the word begin or end, the message ID, the attempt, the process ID and the time. Several
workers may write at once, because a single write of a short line is atomic.
"""

import asyncio
import os
import time

from hookmill import Delivery, Event, Handlers, Message

_file = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_pause = float(os.environ.get("LEDGER_PAUSE", "0"))


class OrderPaid(Event, tag="order.paid"):
    order_id: str
    amount: int


handlers = Handlers()


@handlers.on(OrderPaid)
async def note_order(delivery: Delivery[OrderPaid]) -> None:
    await note(delivery.id, delivery.attempt)


@handlers.on("post.*")
async def note_post(delivery: Delivery[Message]) -> None:
    await note(delivery.id, delivery.attempt)


async def note(message_id: str, attempt: int) -> None:
    _write("begin", message_id, attempt)
    if _pause:
        await asyncio.sleep(_pause)
    _write("end", message_id, attempt)


def _write(what: str, message_id: str, attempt: int) -> None:
    os.write(_file, f"{what} {message_id} {attempt} {os.getpid()} {time.time():.6f}\n".encode())
