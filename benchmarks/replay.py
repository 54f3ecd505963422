"""How much Redis can do when its clients are not the limit: replays recorded commands.

One of our commands is recorded on its way to Redis, byte for byte. Replaying it needs almost no
work of the client, because the replies are read but not parsed.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.producer import Producer
from tests.support import Server

_MARK = b"*2\r\n$4\r\nECHO\r\n$9\r\nbench-end\r\n"
_MARKED = b"$9\r\nbench-end\r\n"
_AT_ONCE = 16


class Recorder:
    """A proxy between a client and Redis that records what the client sends."""

    def __init__(self, server: Server) -> None:
        self._port = server.port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.said = b""

    async def start(self) -> str:
        """Listen; return the URL for the client."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def stop(self) -> None:
        """Stop, after the client has disconnected."""
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        for task in (self._pass(reader, back, keep=True), self._pass(there, writer, keep=False)):
            self._tasks.add(asyncio.create_task(task))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, keep: bool
    ) -> None:
        while data := await reader.read(1 << 16):
            if keep:
                self.said += data
            writer.write(data)
            await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def recorded(
    server: Server, prefix: str, do: Callable[[Producer], Awaitable[object]]
) -> bytes:
    """Return what the second call of `do` sends to Redis. The first one loads the scripts."""
    recorder = Recorder(server)
    stream = Producer(Client(await recorder.start(), prefix, timeout=60.0))
    try:
        await do(stream)
        recorder.said = b""
        await do(stream)
    finally:
        await stream.client.close()
        await recorder.stop()
    return recorder.said


def last_script(said: bytes) -> bytes:
    """Return the last call of a script. Its arguments must not contain line breaks."""
    call = said[said.rindex(b"EVALSHA") :]
    return b"*%d\r\n$7\r\n" % (call.count(b"\r\n$") + 1) + call


async def taking(stream: Producer, count: int) -> None:
    """Take `count` entries."""
    group = Consumer(stream.client, "main", "bench", dedup_window=72 * 3600)
    await group.open()
    await group.take(count)
    await group.close()


async def recorded_pieces(
    server: Server, prefix: str, do: Callable[[Client, Callable[[], None]], Awaitable[object]]
) -> list[bytes]:
    """Return what `do` sends to Redis, in pieces: one ends where `do` calls its second argument."""
    recorder, pieces = Recorder(server), list[bytes]()

    def cut() -> None:
        pieces.append(recorder.said)
        recorder.said = b""

    client = Client(await recorder.start(), prefix, timeout=60.0)
    try:
        await do(client, cut)
    finally:
        await client.close()
        await recorder.stop()
    return pieces


def send(server: Server, commands: Sequence[bytes]) -> float:
    """Send commands, some of them at once; return the seconds."""
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        began = time.perf_counter()
        for first in range(0, len(commands), _AT_ONCE):
            connection.sendall(b"".join(commands[first : first + _AT_ONCE]) + _MARK)
            tail = b""
            while not tail.endswith(_MARKED):
                tail = (tail + connection.recv(1 << 20))[-len(_MARKED) :]
        return time.perf_counter() - began
