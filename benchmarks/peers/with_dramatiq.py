"""dramatiq on Redis: one process, eight threads (its default), metrics off."""

from __future__ import annotations

import threading
from typing import Any

import dramatiq
from counting import MESSAGES, URL, Counter, asked_to_fill, order
from dramatiq.brokers.redis import RedisBroker

broker = RedisBroker(url=URL)
dramatiq.set_broker(broker)
counter = Counter()


@dramatiq.actor
def paid(event: dict[str, Any]) -> None:  # noqa: ARG001 - what a handler is given
    counter.count()


if asked_to_fill():
    for number in range(MESSAGES):
        paid.send(order(number))
else:
    worker = dramatiq.Worker(broker, worker_threads=8)
    worker.start()
    threading.Event().wait()
