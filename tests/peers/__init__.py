"""What users of our peers reported lost, repeated or stuck, forced upon our programs.

One file a kind of failure; each test names the threads it answers to. What the files share is
here: workers and receivers in this process, a worker process that dies at a step of its choice,
signed deliveries, and what Redis shows of a group.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import redis

from hookmill import Delivery, Handlers, Message
from hookmill.config.settings import Settings
from hookmill.config.sources import sources_of
from hookmill.debug.fixtures import qstash_headers
from hookmill.signatures.qstash import QStash
from hookmill.stream.producer import Producer
from receiver.app import Receiver
from receiver.main import stream_of
from tests.support import CURRENT_KEY, Program, Server, eventually, message, signed_headers
from worker.main import Worker

AOF = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
"""A server that keeps what it acknowledged."""

LONG = 3600.0
"""A lease that ends in no test: what arrives before it was handed over, not taken over."""

MakeSettings = Callable[..., Settings]
StartProgram = Callable[..., Program]
OwnServer = Callable[..., Server]


# --- workers --------------------------------------------------------------------------------


class Work:
    """A handler of everything, named `work`, that counts; it waits for `go_on` where told to."""

    def __init__(self, *, wait: bool = False, **options: Any) -> None:
        self.handlers = Handlers()
        self.began: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.attempts: dict[str, int] = {}
        self.fails: Callable[[Delivery[Message]], Exception | None] = lambda _: None
        self.go_on = asyncio.Event()
        if not wait:
            self.go_on.set()
        self.handlers.on("*", name="work", **options)(self.work)

    async def work(self, delivery: Delivery[Message]) -> None:
        self.began[delivery.id] += 1
        self.attempts[delivery.id] = delivery.attempt
        await self.go_on.wait()
        if error := self.fails(delivery):
            raise error
        self.done[delivery.id] += 1


class _Worker(Worker):
    """Stopped twice is stopped once: by the test, and by whoever tidies up."""

    is_over = False

    async def stop(self, deadline: float) -> None:
        if not self.is_over:
            self.is_over = True
            await super().stop(deadline)


@asynccontextmanager
async def working(settings: Settings, handlers: Handlers[Any]) -> AsyncIterator[Worker]:
    """Run a worker in this process; a test may stop it before the end."""
    worker = _Worker(settings, handlers, None)
    worker.start()
    try:
        yield worker
    finally:
        await worker.stop(0)


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
    """Run a worker process until it dies of SIGKILL, `before` or `after` a step of its group's
    ("after take": Redis has given it messages, it has not begun one). Return what it had begun.
    """
    ledger = folder / "doomed.txt"
    (folder / "doomed.py").write_text(DOOMED)
    given = {"LEDGER": str(ledger), "DIES": when, "HOOKMILL_LEASE": "0.5"}
    program = start("worker", "doomed:handlers", env=given | env)
    assert program.wait() == -9, program.log
    return ledger.read_text().split()


def settings_for(server: Server, **fields: Any) -> Settings:
    """Settings for a server of the test's own, whose keys begin with `t`."""
    ours = {"redis_url": server.url, "prefix": "t", "append_timeout": 15}
    return Settings(**{"host": "127.0.0.1", "port": 0, **ours, **fields})


def environment(server: Server, prefix: str) -> dict[str, str]:
    """What a worker process has to be told."""
    return {"REDIS_URL": server.url, "HOOKMILL_PREFIX": prefix}


def names(count: int, start: int = 0) -> list[str]:
    return [f"m{number}" for number in range(start, start + count)]


async def send(stream: Producer, message_ids: Iterable[str], **fields: Any) -> None:
    await stream.append([message(id=message_id, **fields) for message_id in message_ids])


# --- what Redis shows -----------------------------------------------------------------------


class View:
    """A group as Redis shows it to anybody who looks."""

    def __init__(self, client: redis.Redis, prefix: str, group: str = "main") -> None:
        self.client: Any = client
        self.group = group
        self.stream = f"{prefix}:{{0}}:stream"
        self.again = f"{prefix}:{{0}}:{group}:again"
        self.dead = f"{prefix}:{{0}}:{group}:dead"
        self.delayed = f"{prefix}:{{0}}:{group}:delayed"

    def pending(self) -> int:
        return sum(
            int(self.client.xpending(key, self.group)["pending"])
            for key in (self.stream, self.again)
        )

    def consumers(self) -> set[str]:
        return {
            row["name"].decode()
            for key in (self.stream, self.again)
            for row in self.client.xinfo_consumers(key, self.group)
        }

    def is_drained(self) -> bool:
        """Whether nothing waits to be read, is held, runs again, or waits for its time."""
        if self.client.zcard(self.delayed):
            return False
        for key in (self.stream, self.again):
            if not self.client.exists(key):
                return False
            groups = {row["name"].decode(): row for row in self.client.xinfo_groups(key)}
            newest = self.client.xinfo_stream(key)["last-generated-id"]
            group = groups.get(self.group)
            if group is None or group["pending"] or group["last-delivered-id"] != newest:
                return False
        return True

    async def drained(self) -> None:
        await eventually(self.is_drained, timeout=30, what="a drained group")

    def dead_letters(self) -> list[dict[bytes, bytes]]:
        return [fields for _, fields in self.client.xrange(self.dead)]

    def stored(self) -> list[str]:
        """The message IDs in the shared stream."""
        return [fields[b"id"].decode() for _, fields in self.client.xrange(self.stream)]

    def calls(self, command: str) -> int:
        stats = self.client.info("commandstats")
        return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))

    async def sweeps(self, count: int) -> None:
        """Wait until workers have looked that often for messages of the silent."""
        enough = self.calls("xautoclaim") + count
        await eventually(lambda: self.calls("xautoclaim") >= enough, timeout=30, what="sweeps")

    async def held_up(self, count: int) -> None:
        """Wait until so many scripts wait at a server whose writes are paused."""

        def waiting() -> bool:
            rows = [r for r in self.client.client_list() if r["cmd"].startswith("evalsha")]
            return sum("b" in row["flags"] for row in rows) >= count

        await eventually(waiting, what=f"{count} scripts to be held up")


# --- receivers ------------------------------------------------------------------------------


class Post(NamedTuple):
    """One delivery, signed or not."""

    message_id: str
    body: bytes
    headers: dict[str, str]


def order(number: int, *, signed: bool = True) -> Post:
    """A delivery as QStash makes it."""
    body = b'{"type":"order.paid","order_id":"A-%d","amount":%d}' % (number, number)
    message_id = f"m{number}"
    headers = qstash_headers(body, message_id)
    if signed:
        headers |= signed_headers(QStash([CURRENT_KEY]), body, "/qstash")
    return Post(message_id, body, headers)


class Answer(NamedTuple):
    """Status 0: the connection ended without an answer."""

    status: int
    retry_after: str | None = None


async def post(http: aiohttp.ClientSession, url: str, given: Post) -> Answer:
    try:
        async with http.post(f"{url}/qstash", data=given.body, headers=given.headers) as response:
            return Answer(response.status, response.headers.get("Retry-After"))
    except aiohttp.ClientError:
        return Answer(0)


@asynccontextmanager
async def http_client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        yield http


class Senders:
    """Deliver over several connections, each the next as soon as the last was answered, until
    they are told to stop or nobody answers any more. `answers` is by message ID.
    """

    def __init__(self, url: str, count: int = 8) -> None:
        self.answers: dict[str, int] = {}
        self.is_over = False
        self._url = url
        self._numbers = iter(range(1_000_000))
        self._running = [asyncio.create_task(self._run()) for _ in range(count)]

    async def _run(self) -> None:
        async with http_client() as http:
            while not self.is_over:
                given = order(next(self._numbers))
                answer = await post(http, self._url, given)
                self.answers[given.message_id] = answer.status
                if not answer.status:
                    return

    def answered(self, status: int) -> set[str]:
        return {message_id for message_id, found in self.answers.items() if found == status}

    async def more(self, status: int, count: int) -> None:
        """Wait until so many more were answered like this."""
        enough = len(self.answered(status)) + count
        await eventually(lambda: len(self.answered(status)) >= enough, timeout=30)

    async def stop(self) -> None:
        self.is_over = True
        await asyncio.gather(*self._running)


@asynccontextmanager
async def receiving(settings: Settings) -> AsyncIterator[str]:
    """Run a receiver in this process; gives its URL."""
    stream = stream_of(settings)
    receiver = Receiver(settings, sources_of(settings), stream)
    port = await receiver.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await receiver.stop()
        await eventually(lambda: not _connections(), what="the connections' tasks to end")
        await stream.close()


def _connections() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if "RequestHandler" in str(task.get_coro())]
