"""What the scenes share: workers in this process, a handler that counts, what the dead left."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import redis

from hookmill import Delivery, Handlers, Message
from hookmill.config.settings import Settings
from hookmill.stream.producer import Producer
from tests.support import Server, eventually, message
from worker.main import Worker

LEASE = 0.5

on_one_server = pytest.mark.parametrize("server", ["valkey"], indirect=True)
"""For scenes that look at what our own program does, whatever server it talks to."""

_numbers = itertools.count()

MakeSettings = Callable[..., Settings]


class Work:
    """A handler that counts what began and what ended. Where it is `held`, each message waits for
    `go_on`.
    """

    def __init__(self, pattern: str = "*", *, held: bool = False, **options: Any) -> None:
        self.handlers = Handlers()
        self.ran: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.running = self.most = 0
        self.go_on = asyncio.Event()
        if not held:
            self.go_on.set()
        self.handlers.on(pattern, name="work", **options)(self._work)

    async def _work(self, delivery: Delivery[Message]) -> None:
        self.ran[delivery.id] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go_on.wait()
        finally:
            self.running -= 1
        self.done[delivery.id] += 1


class Workers:
    """Workers in this process, each one whole, with a short lease unless the test says else."""

    def __init__(self, settings: MakeSettings) -> None:
        self._settings = settings
        self._running: list[Worker] = []

    def start(self, handlers: Handlers[Any], **options: Any) -> Worker:
        worker = Worker(self._settings(**{"lease": LEASE, **options}), handlers, None)
        self._running.append(worker)
        worker.start()
        return worker

    async def stop(self, *workers: Worker, deadline: float = 5.0) -> None:
        """Stop these, or all there are."""
        for worker in workers or tuple(self._running):
            self._running.remove(worker)
            await worker.stop(deadline)


def settings_of(server: Server) -> MakeSettings:
    """Settings for a server of the test's own."""
    return functools.partial(Settings, redis_url=server.url, prefix="t", host="127.0.0.1", port=0)


def names(count: int) -> list[str]:
    return [f"m{n}" for n in range(count)]


async def send(stream: Producer, *message_ids: str) -> None:
    await stream.append([message(id=message_id) for message_id in message_ids])


def fields_of(message_id: str) -> Any:
    """A message as a plain client appends it (whose types do not know that a dict of bytes is one
    of its dicts).
    """
    return message(id=message_id).to_fields()


def leave_behind(client: redis.Redis, stream: Producer, *message_ids: str) -> list[str]:
    """Have messages come that a consumer takes at once and dies of; return their entry IDs.

    In one step, or a worker that waits would take them. Nothing else may be unread.
    """
    keys = stream.partitions[0].of_group("main")
    with client.pipeline() as pipe:
        for message_id in message_ids:
            pipe.xadd(keys.stream, fields_of(message_id))
        pipe.xreadgroup("main", f"dead-of-{message_ids[0]}", {keys.stream: ">"})
        return [entry_id.decode() for entry_id in pipe.execute()[:-1]]


async def sweeps_have_passed(client: redis.Redis, stream: Producer, work: Work) -> None:
    """Return when what was held before has been within reach of a sweep for more than a lease.

    What a dead consumer left behind is taken over by the sweep that looks at all else as well,
    and not before its lease is over.
    """
    left = f"left-behind-{next(_numbers)}"
    leave_behind(client, stream, left)
    await eventually(lambda: work.ran[left], what=f"{left} to be taken over")


def pending(client: redis.Redis, stream: Producer, consumer: str = "") -> int:
    """How many messages the group holds, or one of its consumers."""
    keys = stream.partitions[0].of_group("main")
    count = 0
    for key in (keys.stream, keys.again):
        try:
            summary: Any = client.xpending(key, "main")
        except redis.ResponseError:  # no worker has made it yet
            continue
        held = {row["name"].decode(): row["pending"] for row in summary["consumers"]}
        count += held.get(consumer, 0) if consumer else summary["pending"]
    return count


async def drained(client: redis.Redis, stream: Producer) -> None:
    """Return when all there is was read and settled, and nothing waits to be run again."""
    keys = stream.partitions[0].of_group("main")

    def is_drained() -> bool:
        groups: Any = client.xinfo_groups(keys.stream)
        last = [group["last-delivered-id"] for group in groups if group["name"] == b"main"]
        return bool(last) and not (
            client.xread({keys.stream: last[0]}, count=1)
            or pending(client, stream)
            or client.xlen(keys.again)
            or client.zcard(keys.delayed)
        )

    await eventually(is_drained, timeout=30, what="nothing to be left")


async def is_waiting(client: redis.Redis, count: int = 1) -> None:
    """Return when so many workers wait for something to come."""

    def blocked() -> int:
        return sum("b" in row["flags"] for row in client.client_list())

    await eventually(lambda: blocked() >= count, what="workers that wait")


def events(logs: Iterable[Any]) -> Counter[str]:
    """How often each thing was said in the log."""
    return Counter(line["event"] for line in logs)
