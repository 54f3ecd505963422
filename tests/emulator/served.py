"""A stand-in on a real port, in this process, and a subscriber for it to deliver to."""

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
from hookmill.emulator.broker import Desk
from hookmill.emulator.dispatcher import Courier
from hookmill.emulator.state import State
from tests.support import eventually

TOKEN = "standin-token-6f1c2a"
CALLER = "127.0.0.1"


class Clock:
    """The real time, and what a test has added to it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Standin(NamedTuple):
    """A stand-in that runs. Its state is in memory; `kept` counts how often the API wrote it
    down."""

    desk: Desk
    url: str
    clock: Clock
    courier: Courier
    kept: list[int]

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and the courier look at the clock."""
        self.clock.ahead += seconds
        self.courier.wake()

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
        """Ask as anybody with a token would; return status and JSON (None: nothing was said)."""
        async with self.asked(method, path, **more) as response:
            raw = await response.read()
            return response.status, await response.json() if raw else None


@asynccontextmanager
async def standin(*, scale: float = 1.0, max_body: int = 1_000_000) -> AsyncIterator[Standin]:
    """Run a stand-in. `scale` multiplies what messages wait for."""
    clock, kept, state = Clock(), [0], State()
    desk = Desk(state, clock=clock, scale=scale)

    async def write_down() -> None:
        for written in (*(change.record for change in state.journal), *state.entries):
            msgspec.msgpack.encode(written)  # as it would be for Redis
        state.journal.clear()
        state.entries.clear()

    courier = Courier(desk, write_down)

    async def keep() -> None:
        kept[0] += 1
        await write_down()
        courier.wake()

    runner = web.AppRunner(make_app(desk, keep, TOKEN, max_body=max_body), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    courier.start()
    try:
        yield Standin(desk, f"http://127.0.0.1:{runner.addresses[0][1]}", clock, courier, kept)
    finally:
        await courier.stop()
        await runner.cleanup()


class Delivery(NamedTuple):
    """What the subscriber got. `url` is what it must be signed for."""

    url: str
    method: str
    headers: CIMultiDict[str]
    body: bytes

    @property
    def path(self) -> str:
        return "/" + self.url.split("/", 3)[3].partition("?")[0]

    def shown(self) -> dict[str, Any]:
        """Return it in JSON."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = base64.b64encode(self.body).decode()
        return {"url": self.url, "method": self.method, "headers": headers, "body": body}


Reply = tuple[int, dict[str, str], bytes]
OK: Reply = (200, {}, b"done")


class Subscriber:
    """Answers each path with what it was told to, the last of it again and again, else with 200.
    GET `/captured` shows in JSON what came.
    """

    def __init__(self) -> None:
        self.url = ""
        self.deliveries: list[Delivery] = []
        self._replies: dict[str, list[Reply]] = {}

    def answer(self, path: str, *replies: Reply) -> str:
        """Say how this path answers from now on; return its URL."""
        self._replies[path] = list(replies)
        return self.url + path

    def at(self, path: str) -> list[Delivery]:
        return [delivery for delivery in self.deliveries if delivery.path == path]

    async def wait_for(self, path: str, count: int = 1) -> list[Delivery]:
        """Wait until so many deliveries came to the path."""
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
    """Call what blocks, away from the loop that serves it."""
    return await asyncio.to_thread(call, *args, **named)
