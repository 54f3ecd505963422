"""A receiver over real sockets: how tests connect to it, and what they send."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import aiohttp
import pytest
import redis

from hookmill.config.settings import Settings
from hookmill.config.sources import Source
from receiver.app import Receiver
from tests.support import (
    CURRENT_KEY,
    MARBLE_SECRET,
    NEXT_KEY,
    Server,
    signed_headers,
)

LIMIT = 4096
"""The body limit of most receivers here."""

HELLO = b'{"hello":"world"}'


class Running(NamedTuple):
    """A receiver that listens, and its sources by name."""

    receiver: Receiver
    port: int
    sources: dict[str, Source]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.receiver.admin_port}"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def lingering() -> list[asyncio.Task[Any]]:
    """The tasks of connections that have not ended yet."""
    coroutines = {task: task.get_coro() for task in asyncio.all_tasks()}
    return [task for task, coro in coroutines.items() if "RequestHandler" in str(coro)]


KEYS = {
    "qstash_current_signing_key": CURRENT_KEY,
    "qstash_next_signing_key": NEXT_KEY,
    "marble_webhook_secret": MARBLE_SECRET,
}


def round_trips(client: redis.Redis) -> int:
    stats: Any = client.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))


@contextmanager
def paused(client: redis.Redis) -> Iterator[None]:
    """Redis does not carry out writes during the block."""
    client.client_pause(30_000, all=False)
    try:
        yield
    finally:
        client.client_unpause()


def connections(running: Running) -> list[Any]:
    """The connections as aiohttp keeps them, until their tasks have ended."""
    server = running.receiver._http._runner.server
    assert server is not None
    return server.connections


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Whatever any library logged with a traceback, or above a warning."""
    return [
        f"{record.name}: {record.getMessage()}"
        for record in caplog.records
        if record.exc_info or record.levelno > logging.WARNING
    ]


def request_bytes(
    body: bytes = HELLO,
    *,
    headers: dict[str, str] | None = None,
    target: str = "/qstash",
    method: str = "POST",
    version: str = "1.1",
    extra: tuple[bytes, ...] = (),
) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {target} HTTP/{version}".encode(), b"Host: app.example"]
    lines.append(b"Content-Length: %d" % len(body))
    lines += [f"{name}: {value}".encode() for name, value in (headers or {}).items()]
    return b"\r\n".join([*lines, *extra]) + b"\r\n\r\n" + body


def delivery(
    source: Source, body: bytes = HELLO, *, extra: tuple[bytes, ...] = (), **parts: Any
) -> bytes:
    """The bytes of a signed request."""
    target = parts.setdefault("target", source.path)
    headers = signed_headers(source.scheme, body, target)
    return request_bytes(body, headers=headers, extra=extra, **parts)


class Wire:
    """A connection on which the test writes the bytes itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, head: bool = False) -> Answer:
        """Read one answer. `head`: the request was a HEAD, so no body follows."""
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        status_line, *rows = raw.decode().rstrip().split("\r\n")
        headers = dict(row.split(": ", 1) for row in rows)
        length = 0 if head else int(headers.get("Content-Length", 0))
        return Answer(int(status_line.split()[1]), headers, await self.reader.readexactly(length))

    async def rest(self) -> bytes:
        """Read until the other side closes."""
        return await asyncio.wait_for(self.reader.read(), 10)

    def hang_up(self, how: str) -> None:
        """Close the connection, or reset it as a crashed machine does."""
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            self.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
        self.writer.close()


StartReceiver = Callable[..., Awaitable[Running]]
StartAt = Callable[..., Awaitable[Running]]
OwnServer = Callable[..., Server]
Stored = Callable[[], list[dict[bytes, bytes]]]
Connect = Callable[[Running], Awaitable[Wire]]
Make = Callable[[dict[str, Source]], bytes]
"""Makes the bytes of a request for one of the sources."""


def chunked(headers: dict[str, str], chunks: bytes, target: str = "/marble") -> bytes:
    rows = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{rows}\r\n"
    return head.encode() + chunks


def forged(source: Source) -> bytes:
    return delivery(source).replace(HELLO, b'{"hello":"mars!"}')


async def ends(stopping: Coroutine[Any, Any, None], within: float = 10.0) -> bool:
    """Return whether a stop ends in time. Not by `wait_for`: it would cancel what it waits for."""
    task = asyncio.create_task(stopping)
    done, _ = await asyncio.wait([task], timeout=within)
    if not done:
        task.cancel()
    return bool(done)


async def status_of(request: Any) -> int:
    async with request as response:
        await response.read()
        return int(response.status)


def settings_for(server: Server, **fields: Any) -> Settings:
    """Settings for a server of the test's own, with the timeouts of production."""
    given: dict[str, Any] = {
        "redis_url": server.url,
        "host": "127.0.0.1",
        "port": 0,
        "admin_port": 0,
    }
    return Settings(**given | KEYS | fields)


async def deliver(
    running: Running, http: aiohttp.ClientSession, body: bytes = HELLO
) -> tuple[int, str | None, bytes]:
    """Deliver once; return the status, `Retry-After` and the answer's body."""
    headers = signed_headers(running.sources["qstash"].scheme, body, "/qstash")
    async with http.post(f"{running.url}/qstash", data=body, headers=headers) as response:
        return response.status, response.headers.get("Retry-After"), await response.read()


async def readiness(running: Running, http: aiohttp.ClientSession) -> int:
    return await status_of(http.get(f"{running.url}/readyz"))


async def ready_text(running: Running, http: aiohttp.ClientSession) -> tuple[int, str]:
    """What /readyz says at the admin address."""
    async with http.get(f"{running.admin_url}/readyz") as response:
        return response.status, await response.text()


UNSTORED = (
    503,
    "5",
    b'{"error":"stream_unavailable","detail":"the message could not be stored; send it again"}',
)

SECRETS = (CURRENT_KEY, NEXT_KEY, MARBLE_SECRET)
