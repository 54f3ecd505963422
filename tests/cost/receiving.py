"""Counts what a delivery costs in the receiver: from its bytes to its answer, with a real Redis."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from benchmarks import deliveries
from hookmill.config.settings import Settings
from hookmill.config.sources import Source, sources_of
from hookmill.instrumentation.trace_setup import tracing_of
from hookmill.message import PACKED_VERSION
from receiver.app import Receiver
from receiver.main import stream_of
from tests.cost.counting import Modules, counted, usual
from tests.support import MARBLE_SECRET, signed_headers

TURNS = 7
WARM_UP = 3

TITLE = b"x" * 150

SECRETS = {"marble_webhook_secret": MARBLE_SECRET, "qstash_current_signing_key": deliveries.KEY}


@asynccontextmanager
async def receiving(settings: Settings) -> AsyncIterator[tuple[int, dict[str, Source]]]:
    """Run a receiver in this process. Yields its port, and its sources by their names."""
    stream, sources = stream_of(settings), sources_of(settings)
    receiver = Receiver(settings, sources, stream, tracing=tracing_of(settings))
    port = await receiver.start()
    receiver._appender.write_in(PACKED_VERSION)  # as beside workers that read it
    try:
        yield port, {source.name: source for source in sources}
    finally:
        await receiver.stop()
        await stream.client.close()


async def count_receiver(source: str, at_once: int, settings: Settings) -> Modules:
    """Return what `at_once` deliveries cost that arrive together, each on its own connection."""
    async with receiving(settings) as (port, sources):
        with ExitStack() as stack:
            connections = [
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                for _ in range(at_once)
            ]
            for connection in connections:
                connection.setblocking(False)
            found = []
            for turn in range(WARM_UP + TURNS):
                first = turn * at_once
                for number, connection in enumerate(connections, first):
                    connection.sendall(request(sources[source], number))
                with counted() as counts:
                    await answered(connections)
                found.append(counts)
    return usual(found[WARM_UP:])


async def answered(connections: list[socket.socket]) -> None:
    """Wait until each connection has its answer, and what follows it is done."""
    loop = asyncio.get_running_loop()
    for connection in connections:
        answer = await loop.sock_recv(connection, 65536)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
    await asyncio.sleep(0)


def request(source: Source, number: int) -> bytes:
    """Return the bytes of a genuine delivery that no other one equals."""
    if source.name == "qstash":
        return deliveries.request(number, int(time.time()) - 1)
    body = b'{"id":"evt_%012d","event":"post.published","data":{"title":"%s"}}' % (number, TITLE)
    headers = {
        "Host": "app.example",
        "Content-Type": "application/json",
        "User-Agent": "Marble",
        **signed_headers(source.scheme, body, source.path),
        "Content-Length": str(len(body)),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {source.path} HTTP/1.1\r\n{lines}\r\n".encode() + body
