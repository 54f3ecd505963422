"""An emulator on a real port, in this process, and a subscriber for it to deliver to."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import msgspec
from aiohttp import web
from multidict import CIMultiDict

from hookmill.emulator.app import make_app
from hookmill.emulator.broker import Broker
from hookmill.emulator.dispatcher import Dispatcher
from hookmill.emulator.state import State
from tests.support import eventually

TOKEN = "emulator-token-6f1c2a"
CALLER = "127.0.0.1"
NOWHERE = "http://127.0.0.1:9/"
"""A destination where nobody listens."""

MAX_BODY = 20_000
"""Bytes: the longest body that the tests' emulator takes."""


class Clock:
    """The real time, plus the seconds that a test has added."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Emulator(NamedTuple):
    """A running emulator, with its state in memory. `saves` counts how often the API saved it."""

    broker: Broker
    url: str
    clock: Clock
    dispatcher: Dispatcher
    saves: list[int]

    def pass_time(self, seconds: float) -> None:
        """Add seconds to the clock, and wake the dispatcher."""
        self.clock.ahead += seconds
        self.dispatcher.wake()

    @asynccontextmanager
    async def asked(
        self, method: str, path: str, *, token: str | None = TOKEN, **more: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = CIMultiDict(more.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, headers=headers, **more) as response,
        ):
            yield response

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """Make a request with the token; return status and JSON (None: an empty body)."""
        async with self.asked(method, path, **more) as response:
            raw = await response.read()
            return response.status, await response.json() if raw else None


@asynccontextmanager
async def run_emulator(*, scale: float = 1.0, max_body: int = 1_000_000) -> AsyncIterator[Emulator]:
    """Run an emulator. `scale` multiplies the waits of messages."""
    clock, saves, state = Clock(), [0], State()
    broker = Broker(state, clock=clock, scale=scale)

    async def save_changes() -> None:
        for written in (*(change.record for change in state.journal), *state.new_entries):
            msgspec.msgpack.encode(written)  # as for Redis
        state.journal.clear()
        state.new_entries.clear()

    dispatcher = Dispatcher(broker, save_changes)

    async def save() -> None:
        saves[0] += 1
        await save_changes()
        dispatcher.wake()

    runner = web.AppRunner(make_app(broker, save, TOKEN, max_body=max_body), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    dispatcher.start()
    try:
        yield Emulator(
            broker, f"http://127.0.0.1:{runner.addresses[0][1]}", clock, dispatcher, saves
        )
    finally:
        await dispatcher.stop()
        await runner.cleanup()


class Delivery(NamedTuple):
    """A delivery that the subscriber received. `url` is the URL that it must be signed for."""

    url: str
    method: str
    headers: CIMultiDict[str]
    body: bytes

    @property
    def path(self) -> str:
        return "/" + self.url.split("/", 3)[3].partition("?")[0]

    def shown(self) -> dict[str, Any]:
        """Return it as JSON values."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = base64.b64encode(self.body).decode()
        return {"url": self.url, "method": self.method, "headers": headers, "body": body}


Reply = tuple[int, dict[str, str], bytes]
OK: Reply = (200, {}, b"done")


class Subscriber:
    """Answers each path with the given replies, and repeats the last one; without any, with 200.

    GET `/captured` returns the deliveries in JSON.
    """

    def __init__(self) -> None:
        self.url = ""
        self.deliveries: list[Delivery] = []
        self._replies: dict[str, list[Reply]] = {}

    def answer(self, path: str, *replies: Reply) -> str:
        """Set the replies of a path; return its URL."""
        self._replies[path] = list(replies)
        return self.url + path

    def at(self, path: str) -> list[Delivery]:
        return [delivery for delivery in self.deliveries if delivery.path == path]

    async def wait_for(self, path: str, count: int = 1) -> list[Delivery]:
        """Wait until the path has received this number of deliveries."""
        await eventually(lambda: len(self.at(path)) >= count, what=f"{count} deliveries at {path}")
        return self.at(path)

    async def handle(self, request: web.Request) -> web.Response:
        if request.path == "/captured":
            return web.json_response([delivery.shown() for delivery in self.deliveries])
        url, body = self.url + request.raw_path, await request.read()
        self.deliveries.append(Delivery(url, request.method, CIMultiDict(request.headers), body))
        replies = self._replies.get(request.path, [OK])
        status, headers, text = replies.pop(0) if len(replies) > 1 else replies[0]
        return web.Response(status=status, headers=headers, body=text)


@asynccontextmanager
async def subscriber() -> AsyncIterator[Subscriber]:
    """Run a subscriber."""
    found = Subscriber()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.handle)
    runner = web.AppRunner(app, auto_decompress=False, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        await runner.cleanup()


async def in_thread(call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Call a blocking function in a thread, so that the event loop can serve it."""
    return await asyncio.to_thread(call, *args, **named)
