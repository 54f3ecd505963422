"""The whole loop: `Sender`, emulator of QStash, receiver, stream, worker, handler, callbacks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from aiohttp import web
from aiohttp.test_utils import TestServer

from hookmill import Event, FlowControl, Outgoing, Published, Sender
from hookmill.emulator.credentials import DEVELOPMENT_TOKEN
from hookmill.signatures.qstash import DEVELOPMENT_KEYS
from hookmill.stream.keys import Keys
from tests.e2e.line import Line, unfinished
from tests.ports import free_port
from tests.support import MARBLE_SECRET, Program, Server, eventually, wait_until

pytestmark = pytest.mark.one_server  # the ways of sending

HANDLERS = """
import json
from pathlib import Path
from hookmill import Delivery, Event, Handlers
from hookmill.catalog.qstash import AttemptFailed, DeliveryFailed, DeliverySucceeded

class PostPublished(Event, tag="post.published"):
    id: str
    title: str

handlers = Handlers()

def note(*said: object) -> None:
    with Path("said.txt").open("a") as file:
        print(json.dumps(said), file=file)

@handlers.on(PostPublished)
def rebuild(delivery: Delivery[PostPublished]) -> None:
    note("published", delivery.event.id, delivery.event.title, delivery.message.source)

@handlers.on(DeliverySucceeded)
def succeeded(delivery: Delivery[DeliverySucceeded]) -> None:
    note("succeeded", delivery.event.source_event(PostPublished).id)

@handlers.on(AttemptFailed)
def again(delivery: Delivery[AttemptFailed]) -> None:
    note("again", delivery.event.status, delivery.event.retried)

@handlers.on(DeliveryFailed)
def failed(delivery: Delivery[DeliveryFailed]) -> None:
    event = delivery.event.source_event(PostPublished)
    note("failed", event.id, delivery.event.status, delivery.event.body.decode())
"""


class PostPublished(Event, tag="post.published"):
    id: str
    title: str = "Grüße 🎈"


class Loop:
    """All programs, and what the handlers wrote."""

    def __init__(self, line: Line, qstash: str, said: Path) -> None:
        self.base = line.base
        self.qstash = qstash
        self._said = said

    def sender(self) -> Sender:
        return Sender(url=self.qstash, token=DEVELOPMENT_TOKEN)

    def said(self) -> list[list[Any]]:
        if not self._said.exists():
            return []
        return sorted(json.loads(line) for line in self._said.read_text().splitlines())

    async def says(self, *expected: list[Any]) -> None:
        await eventually(
            lambda: len(self.said()) >= len(expected), timeout=30, what=f"{expected}: {self.said()}"
        )
        assert self.said() == sorted(expected)


@pytest.fixture
def loop(
    start_program: Callable[..., Program],
    tmp_path: Path,
    server: Server,
    prefix: str,
    redis_client: redis.Redis,
) -> Any:
    (tmp_path / "loop.py").write_text(HANDLERS)
    (tmp_path / "hookmill.toml").write_text("[sources.qstash-callbacks]\n")
    line = Line(start_program, tmp_path, server.url, prefix)
    line.env |= {
        "HOOKMILL_PUBLIC_URL": line.base,
        "HOOKMILL_DEVELOPMENT": "1",
        "HOOKMILL_HOST": "127.0.0.1",
        "QSTASH_TOKEN": DEVELOPMENT_TOKEN,
        "QSTASH_CURRENT_SIGNING_KEY": DEVELOPMENT_KEYS[0],
        "QSTASH_NEXT_SIGNING_KEY": DEVELOPMENT_KEYS[1],
    }
    port = free_port()
    command = ("qstash", "--port", str(port), "--time-scale", "0.001")
    programs = [
        line.receiver(),
        start_program("worker", "loop:handlers", env=line.env),
        start_program(*command, env=line.env),
    ]
    programs[-1].wait_for("is running")
    wait_until(lambda: redis_client.exists(Keys(prefix, 0).stream), what="the worker's group")
    yield Loop(line, f"http://127.0.0.1:{port}", tmp_path / "said.txt")
    wait_until(lambda: not unfinished(redis_client, prefix, 1, trimmed=False))
    assert [program.stop() for program in reversed(programs)] == [0, 0, 0]


@pytest.fixture
async def broken() -> AsyncIterator[str]:
    """The URL of a subscriber that refuses everything."""

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=507, text="full")

    app = web.Application()
    app.router.add_post("/hook", refuse)
    server = TestServer(app)
    await server.start_server()
    yield f"http://127.0.0.1:{server.port}/hook"
    await server.close()


async def test_every_way_of_sending_reaches_a_typed_handler_once(loop: Loop) -> None:
    url = f"{loop.base}/qstash"
    async with loop.sender() as sender:
        await sender.send(url, PostPublished(id="1"), delay="10s", retries=1)
        await sender.enqueue("q", url, PostPublished(id="2"))
        sent = await sender.send_many(
            [
                Outgoing(url, PostPublished(id="3")),
                Outgoing("http://bad url/", PostPublished(id="none")),
                Outgoing(url, PostPublished(id="4"), queue="q"),
            ]
        )
        assert [isinstance(one, Published) for one in sent] == [True, False, True]
        limits = FlowControl(key="k", parallelism=1, rate=10)
        first = await sender.send(
            f"{loop.base}/marble", PostPublished(id="5"), scheme="marble", secret=MARBLE_SECRET,
            flow_control=limits, deduplication_id="mine",
        )  # fmt: skip
        second = await sender.send(
            f"{loop.base}/marble", PostPublished(id="5"), scheme="marble", secret=MARBLE_SECRET,
            deduplication_id="mine",
        )  # fmt: skip
        assert second == first._replace(deduplicated=True)
    title = "Grüße 🎈"
    sources = ["qstash"] * 4 + ["marble"]
    await loop.says(
        *(["published", str(number), title, source] for number, source in enumerate(sources, 1))
    )


async def test_the_result_of_a_delivery_comes_back_as_a_typed_event(
    loop: Loop, broken: str
) -> None:
    report = f"{loop.base}/qstash-callbacks"
    async with loop.sender() as sender:
        await sender.send(f"{loop.base}/qstash", PostPublished(id="1"), callback=report)
        await sender.send(
            broken, PostPublished(id="2"), retries=1, callback=report, failure_callback=report
        )
    await loop.says(
        ["published", "1", "Grüße 🎈", "qstash"],
        ["succeeded", "1"],
        ["again", 507, 0],
        ["again", 507, 1],
        ["failed", "2", 507, "full"],
    )


async def test_a_schedule_is_created_shown_paused_and_deleted(loop: Loop) -> None:
    async with loop.sender() as sender:
        made = await sender.schedules.create(
            f"{loop.base}/qstash", PostPublished(id="1"), cron="0 0 1 1 *", label="yearly"
        )
        assert [one.schedule_id for one in await sender.schedules.list()] == [made]
        await sender.schedules.pause(made)
        assert (await sender.schedules.get(made)).is_paused
        await sender.schedules.resume(made)
        await sender.schedules.delete(made)
        assert await sender.schedules.list() == []
