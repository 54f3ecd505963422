"""A handler that counts, workers in this process, and a worker process that dies at a step."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hookmill import Delivery, Handlers, Message
from hookmill.config.settings import Settings
from hookmill.stream.producer import Producer
from tests.support import Program, Server, message
from worker.app import Worker

AOF = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
"""Options of a server that keeps what it acknowledged."""

LEASE = 0.5
"""A short lease, so that a takeover comes soon."""

LONG = 3600.0
"""A lease that ends in no test: a message that arrives before was requeued, not taken over."""

MakeSettings = Callable[..., Settings]
StartProgram = Callable[..., Program]
OwnServer = Callable[..., Server]

on_one_server = pytest.mark.parametrize("server", ["valkey"], indirect=True)
"""For tests of what our own program does, whatever server it talks to."""


class Work:
    """A handler named `work` that counts what began and what succeeded.

    With `held`, each message waits for `go_on`. `fails` returns the error to raise, if any.
    """

    def __init__(self, pattern: str = "*", *, held: bool = False, **options: Any) -> None:
        self.handlers = Handlers()
        self.began: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.attempts: dict[str, int] = {}
        """The last attempt's number, by message ID."""
        self.running = self.most = 0
        self.fails: Callable[[Delivery[Message]], Exception | None] = lambda _: None
        self.go_on = asyncio.Event()
        if not held:
            self.go_on.set()
        self.handlers.on(pattern, name="work", **options)(self._work)

    async def _work(self, delivery: Delivery[Message]) -> None:
        self.began[delivery.id] += 1
        self.attempts[delivery.id] = delivery.attempt
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go_on.wait()
        finally:
            self.running -= 1
        if error := self.fails(delivery):
            raise error
        self.done[delivery.id] += 1


class _Worker(Worker):
    """A worker that a test may stop before the toolkit stops it once more."""

    is_stopped = False

    async def stop(self, deadline: float) -> None:
        if not self.is_stopped:
            self.is_stopped = True
            await super().stop(deadline)


@asynccontextmanager
async def working(settings: Settings, handlers: Handlers[Any]) -> AsyncIterator[Worker]:
    """Run a worker in this process. At the end it does not wait for what still runs."""
    worker = _Worker(settings, handlers, None)
    worker.start()
    try:
        yield worker
    finally:
        await worker.stop(0)


class Workers:
    """Workers in this process that a test starts and stops as it likes. They have a short lease,
    unless the test gives another.
    """

    def __init__(self, settings: MakeSettings) -> None:
        self._settings = settings
        self._started: list[Worker] = []

    def start(self, handlers: Handlers[Any], **options: Any) -> Worker:
        worker = _Worker(self._settings(**{"lease": LEASE, **options}), handlers, None)
        self._started.append(worker)
        worker.start()
        return worker

    async def stop(self, *workers: Worker, deadline: float = 5.0) -> None:
        """Stop these workers, or all of them."""
        for worker in workers or self._started:
            await worker.stop(deadline)


DOOMED = """
import os, signal
from hookmill import Delivery, Handlers, Message
from hookmill.stream.consumer import Consumer

handlers = Handlers()
ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
when, name = os.environ["DIES"].split()
step = getattr(Consumer, name)

def brought(reply):
    if name == "take":
        return reply.entries
    return reply[0].entries if name == "take_over" else reply[0]

async def fatal(self, *args, **options):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    reply = await step(self, *args, **options)
    if brought(reply):
        os.kill(os.getpid(), signal.SIGKILL)
    return reply

setattr(Consumer, name, fatal)

@handlers.on("*", name="work")
async def work(delivery: Delivery[Message]) -> None:
    os.write(ledger, f"{delivery.id}\\n".encode())
"""


def die(start: StartProgram, folder: Path, env: dict[str, str], when: str) -> list[str]:
    """Run a worker process until it dies of SIGKILL, `before` or `after` a step of its consumer
    ("after take": Redis has given it messages, but none has begun). Return the IDs of the messages
    that have begun.
    """
    ledger = folder / "doomed.txt"
    (folder / "doomed.py").write_text(DOOMED)
    given = {"LEDGER": str(ledger), "DIES": when, "HOOKMILL_LEASE": "0.5"}
    program = start("worker", "doomed:handlers", env=given | env)
    assert program.wait() == -9, program.log
    return ledger.read_text().split()


# --- settings and messages ------------------------------------------------------------------


def settings_of(server: Server) -> MakeSettings:
    """Return a maker of settings for a server of the test's own; its keys begin with `t`."""
    # A busy machine may need longer for an append than the default allows.
    ours = {"redis_url": server.url, "prefix": "t", "append_timeout": 15}
    return lambda **fields: Settings(**{"host": "127.0.0.1", "port": 0, **ours, **fields})


def environment(server: Server, prefix: str) -> dict[str, str]:
    """Return what a worker process has to be told."""
    return {"REDIS_URL": server.url, "HOOKMILL_PREFIX": prefix}


def names(count: int, start: int = 0) -> list[str]:
    return [f"m{number}" for number in range(start, start + count)]


async def send(stream: Producer, *message_ids: str, **fields: Any) -> None:
    await stream.append([message(id=message_id, **fields) for message_id in message_ids])


def events(logs: Iterable[Any]) -> Counter[str]:
    """Return how often each event is in the log."""
    return Counter(line["event"] for line in logs)
