"""What the tests of the pool share: a consumer that a test controls, handlers that count, and what
Redis shows of the group.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import redis

from hookmill import Delivery, Handlers
from hookmill.message import Message
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import EntryRef, Settlement, Taken
from hookmill.stream.producer import Producer
from hookmill.stream.takes import TAKE_BYTES
from tests.support import eventually, message
from worker.pool import Pool

MakePool = Callable[..., Awaitable[Pool]]

FOR_EVER = 1e9


class Scripted(Consumer):
    """A consumer that behaves as a test tells it to."""

    before_take: Callable[[int], Any] = staticmethod(lambda _: None)
    after_take: Callable[[], Any] = staticmethod(lambda: None)
    before_wait: Callable[[], Awaitable[Any]] = staticmethod(lambda: asyncio.sleep(0))
    after_takeover: Callable[[Taken], Any] = staticmethod(lambda _: None)
    after_recovery: Callable[[Taken], Any] = staticmethod(lambda _: None)
    after_wait: Callable[[], Awaitable[Any]] = staticmethod(lambda: asyncio.sleep(0))
    after_settle: Callable[[], Any] = staticmethod(lambda: None)
    after_run_alone: Callable[[int], Any] = staticmethod(lambda _: None)
    settle_fault: Exception | None = None

    async def take(self, count: int, max_bytes: int = TAKE_BYTES) -> Taken:
        self.before_take(count)
        taken = await super().take(count, max_bytes)
        self.after_take()
        return taken

    async def take_over(self, *args: Any) -> tuple[Taken, bool]:
        taken, has_more = await super().take_over(*args)
        self.after_takeover(taken)
        return taken, has_more

    async def recover(self, *args: Any) -> tuple[Taken, bool]:
        taken, has_more = await super().recover(*args)
        self.after_recovery(taken)
        return taken, has_more

    async def run_alone(self, ref: EntryRef, token: str) -> int:
        times = await super().run_alone(ref, token)
        self.after_run_alone(times)
        return times

    async def wait(self, seconds: float) -> bool:
        await self.before_wait()
        woken = await super().wait(seconds)
        if woken:
            await self.after_wait()
        return woken

    async def settle(self, settlements: Iterable[Settlement]) -> list[str]:
        if self.settle_fault is not None:
            raise self.settle_fault
        late = await super().settle(settlements)
        self.after_settle()
        return late


def scripted(stream: Producer, consumer: str = "scripted") -> Scripted:
    return Scripted(stream.client, "main", consumer, dedup_window=3600)


class Work:
    """A handler that counts what ran. With `wait`, each message waits for `go_on`."""

    def __init__(self, *, wait: bool = False) -> None:
        self.handlers = Handlers()
        self.ran: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.running = self.most = 0
        self.go_on = asyncio.Event()
        self.fails: Exception | None = None
        if not wait:
            self.go_on.set()
        self.handlers.on("*", name="work", attempts=3)(self.work)

    async def work(self, delivery: Delivery[Message]) -> None:
        self.ran[delivery.id] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go_on.wait()
            await asyncio.sleep(0)
        finally:
            self.running -= 1
        if self.fails is not None:
            raise self.fails
        self.done[delivery.id] += 1


def names(count: int) -> list[str]:
    return [f"m{n}" for n in range(count)]


async def send(stream: Producer, *message_ids: str) -> None:
    await stream.append([message(id=message_id) for message_id in message_ids])


def pending(client: redis.Redis, stream: Producer) -> int:
    keys = stream.partitions[0].of_group("main")
    return sum(int(client.xpending(key, "main")["pending"]) for key in (keys.stream, keys.again))


def is_drained(client: redis.Redis, stream: Producer) -> bool:
    """Whether all messages were read and settled."""
    keys = stream.partitions[0].of_group("main")
    unread = client.xread({keys.stream: last_read(client, keys.stream)}, count=1)
    return not unread and not pending(client, stream) and not client.xlen(keys.again)


def last_read(client: redis.Redis, key: str) -> Any:
    groups: Any = client.xinfo_groups(key)
    return next(group["last-delivered-id"] for group in groups if group["name"] == b"main")


async def is_waiting(client: redis.Redis, workers: int = 1) -> None:
    await eventually(lambda: sum("b" in row["flags"] for row in client.client_list()) >= workers)
