"""The whole loop on one machine: publish a content event, deliver it, handle it once.

    python examples/guide.py

An app publishes `post.published` through QStash (here: its emulator), to be delivered in 5 seconds.
The subscriber fails twice, so QStash retries after 12 s, and then after 2 min 28 s. The third time
the receiver verifies the signature and stores the message, and a worker handles it. All waits are
scaled down to a fiftieth.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path

import aiohttp
from aiohttp import web

from hookmill import Delivery, Event, Handlers, Sender
from hookmill.runtime.embedded_redis import embedded_server

SCALE = 0.02
SECRET = "what the app and its subscriber share"  # noqa: S105 - it is used on this machine only
TOKEN = secrets.token_urlsafe()  # what the app and the emulator share


# --- the event, which both sides know, and the subscriber's handler ---


class PostPublished(Event, tag="post.published"):
    id: str
    title: str
    slug: str


handlers = Handlers()


def say(text: str) -> None:
    print(f"{text}\n", end="", flush=True)  # in one write, because other processes print as well


@handlers.on(PostPublished)
async def rebuild_page(delivery: Delivery[PostPublished]) -> None:
    say(f"handled: /{delivery.event.slug} is rebuilt, attempt {delivery.attempt}")


# --- the app ---


async def publish(qstash: str, subscriber: str) -> None:
    event = PostPublished(id="post_1", title="Hello", slug="hello")
    async with Sender(url=qstash, token=TOKEN) as sender:
        await sender.send(subscriber, event, scheme="marble", secret=SECRET, delay="5s")
    say("published: post.published, to be delivered in 5 s")


# --- the subscriber's front: it fails for the first two requests ---


class Front:
    def __init__(self, receiver: str) -> None:
        self._receiver = receiver
        self.published_at = 0.0
        self._requests = 0
        self.is_through = asyncio.Event()

    async def pass_on(self, request: web.Request) -> web.Response:
        elapsed = (time.monotonic() - self.published_at) / SCALE
        self._requests += 1
        status = 503 if self._requests <= 2 else await self._post(request)
        retried = request.headers["Upstash-Retried"]
        say(f"after {elapsed:.0f} s: retried {retried}, answered {status}")
        if status == 200:
            self.is_through.set()
        return web.Response(status=status)

    async def _post(self, request: web.Request) -> int:
        async with (
            aiohttp.ClientSession() as client,
            client.post(
                self._receiver + request.path,
                data=await request.read(),
                headers=request.headers,
            ) as answer,
        ):
            return answer.status


# --- everything together ---


async def main(redis_url: str) -> None:
    ports = free_ports(3)
    subscriber, receiver, qstash = (f"http://127.0.0.1:{port}" for port in ports)
    env = {
        "REDIS_URL": redis_url, "PORT": str(ports[1]), "HOOKMILL_PUBLIC_URL": subscriber,
        "MARBLE_WEBHOOK_SECRET": SECRET, "QSTASH_TOKEN": TOKEN, "HOOKMILL_LOG_LEVEL": "warning",
    }  # fmt: skip
    emulator = ["qstash", "--port", str(ports[2]), "--time-scale", str(SCALE)]
    front = Front(receiver)
    async with AsyncExitStack() as stack:
        for command in (["receiver"], ["worker", "guide:handlers"], emulator):
            await stack.enter_async_context(running(command, env))
        await stack.enter_async_context(serving(front, ports[0]))
        await answering(f"{receiver}/readyz", qstash)
        front.published_at = time.monotonic()
        await publish(qstash, f"{subscriber}/marble")
        await front.is_through.wait()
        await asyncio.sleep(1)  # for the worker's line, and to see that no second one follows


@asynccontextmanager
async def running(command: list[str], env: dict[str, str]) -> AsyncIterator[None]:
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hookmill", *command),
        env={**os.environ, **env},
        cwd=Path(__file__).parent,
    )
    try:
        yield
    finally:
        if program.returncode is None:
            program.terminate()
        await program.wait()


@asynccontextmanager
async def serving(front: Front, port: int) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_post("/marble", front.pass_on)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def answering(*urls: str) -> None:
    async with asyncio.timeout(20), aiohttp.ClientSession() as client:
        for url in urls:
            while True:
                try:
                    async with client.get(url) as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Return ports that nothing uses, from those that no system gives to an outgoing connection."""
    some = range(9000 + secrets.randbelow(900), 10_000)
    return list(islice(filter(is_free, some), count))


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


if __name__ == "__main__":
    with embedded_server() as url:
        asyncio.run(main(url))
