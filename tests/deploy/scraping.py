"""A receiver and a worker as real processes, and what their pages /metrics say in one story.

Some deliveries come while nobody works; a worker handles them, each in its own way; then Redis dies
and the spool takes over.
"""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import BINARIES
from tests.e2e.line import Line, Post
from tests.ports import free_port
from tests.support import Program, Server, wait_until

HANDLERS = """
import asyncio
from hookmill import Backoff, Dead, Delivery, Discard, Handlers, Message

handlers = Handlers()

@handlers.on("order.paid")
async def book(delivery: Delivery[Message]) -> None: pass

@handlers.on("order.fails", attempts=3, backoff=Backoff(first=3600.0))
async def fail(delivery: Delivery[Message]) -> None: raise ValueError("as asked")

@handlers.on("order.dead")
async def give_up(delivery: Delivery[Message]) -> None: raise Dead("asked for")

@handlers.on("order.gone")
async def drop(delivery: Delivery[Message]) -> None: raise Discard("gone")

@handlers.on("order.slow", timeout=300)
async def hold(delivery: Delivery[Message]) -> None: await asyncio.sleep(250)
"""

TYPES = ("paid", "fails", "dead", "gone", "slow")

LARGE = b'{"type":"order.paid","note":"' + b"x" * 50_000 + b'"}'

Labels = tuple[tuple[str, str], ...]


class Page(NamedTuple):
    """What a page /metrics said: its text, and the values of its samples."""

    text: str
    samples: dict[tuple[str, Labels], float]

    @classmethod
    def of(cls, text: str) -> Page:
        families: Iterable[Metric] = text_string_to_metric_families(text)
        return cls(
            text,
            {
                (sample.name, tuple(sorted(sample.labels.items()))): sample.value
                for family in families
                for sample in family.samples
            },
        )

    def value(self, name: str, **labels: str) -> float | None:
        """Return the sum of the samples with these labels, of a name without its prefix; None if
        there is none.
        """
        found = [
            value
            for (each, given), value in self.samples.items()
            if each == f"hookmill_{name}" and labels.items() <= dict(given).items()
        ]
        return sum(found) if found else None


class Story(NamedTuple):
    """The pages of the receiver: before any work, with deliveries that wait, with a worker, after
    its death, and without Redis. And that of the worker.
    """

    at_first: Page
    waiting: Page
    worked: Page
    stuck: Page
    away: Page
    worker: Page
    open_metrics: str

    @property
    def pages(self) -> tuple[Page, ...]:
        return self.at_first, self.waiting, self.worked, self.stuck, self.away, self.worker


def ask(port: int, accept: str = "*/*") -> tuple[str, str]:
    """Return the content type and the text of a page."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def look(port: int) -> Page:
    return Page.of(ask(port)[1])


def look_until(port: int, name: str, least: float, **labels: str) -> Page:
    """Look again until a value is reached: what Redis says is asked for every 5 seconds."""
    pages: list[Page] = []

    def is_reached() -> bool:
        pages.append(look(port))
        value = pages[-1].value(name, **labels)
        return value is not None and value >= least

    wait_until(is_reached, what=f"{name} to be {least}")
    return pages[-1]


def deliveries(line: Line) -> list[Post]:
    bodies = [b'{"type":"order.%s"}' % kind.encode() for kind in TYPES]
    posts = [line.order_of(f"m{number}", body) for number, body in enumerate(bodies)]
    forged = posts[0]._replace(body=b'{"type":"order.paid","forged":1}')
    return [*posts, posts[0], forged]


@contextmanager
def programs(folder: Path) -> Iterator[tuple[Server, Line]]:
    """A server, and a line whose programs end with the block."""
    started: list[Program] = []

    def start(*command: str, env: dict[str, str]) -> Program:
        started.append(Program(folder, *command, env=env))
        return started[-1]

    server = Server(BINARIES["valkey"], folder)
    server.start()
    try:
        yield server, Line(start, folder, server.url, "hookmill")
    finally:
        for program in started:
            program.kill()
        server.kill()


def tell(folder: Path) -> Story:
    """Let it happen once."""
    ports = free_port(), free_port()
    (folder / "app.py").write_text(HANDLERS)
    with programs(folder) as (server, line):
        line.receiver(
            HOOKMILL_ADMIN_PORT=str(ports[0]),
            HOOKMILL_SPOOL=str(folder / "spool"),
            HOOKMILL_BACKLOG_MESSAGES="1000",
            HOOKMILL_BACKLOG_BYTES="1000000",
            HOOKMILL_APPEND_TIMEOUT="1",
        )
        at_first = look(ports[0])
        asyncio.run(line.send(deliveries(line), concurrency=1))
        waiting = look(ports[0])
        env = line.env | {"HOOKMILL_ADMIN_PORT": str(ports[1])}
        working = line._start("worker", "app:handlers", env=env)
        working.wait_for('"working"')
        worker = look_until(ports[1], "messages_total", 4)
        worker = look_until(ports[1], "group_messages", 1, state="dead")
        worker = look_until(ports[1], "group_messages", 1, state="delayed")
        worked = look_until(ports[0], "group_backlog_bytes", 1)
        asyncio.run(line.send([line.order(9)]))
        worker = look_until(ports[1], "finished_messages_total", 4)
        _, open_metrics = ask(ports[1], "application/openmetrics-text; version=1.0.0")
        working.kill()
        asyncio.run(line.send([line.order(10)]))
        stuck = look_until(ports[0], "group_messages", 1, state="waiting")
        server.kill()
        asyncio.run(line.send([line.order_of("large", LARGE)]))
        look_until(ports[0], "spool_messages", 1)
        wait_until(lambda: look(ports[0]).value("redis_up") == 0, what="Redis to be missed")
        return Story(at_first, waiting, worked, stuck, look(ports[0]), worker, open_metrics)
