"""A server for the sender's tests. It answers with exact bytes, on real sockets, as a script says.

After the last step of the script it accepts messages like QStash: each deduplication ID once.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import NamedTuple, Self

from multidict import CIMultiDict

Step = Callable[["Scripted", "Call"], bytes | None]
"""Handles a request and returns the bytes to write. b"": write none. None: cut the connection."""


class Call(NamedTuple):
    """A request as it was received."""

    method: str
    target: str
    headers: CIMultiDict[str]
    body: bytes


class Scripted:
    """Runs its steps in order, one for each request. `published` has each message once."""

    def __init__(self, steps: Iterable[Step | str] = ()) -> None:
        self.steps = list(steps)
        self.calls: list[Call] = []
        self.published: dict[str, str] = {}
        self._release = asyncio.Event()
        self._handlers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        self.base = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        self._release.set()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    @property
    def only(self) -> Call:
        (call,) = self.calls
        return call

    @property
    def items(self) -> list[dict[str, object]]:
        """The items of the only batch that was received."""
        found: list[dict[str, object]] = json.loads(self.only.body)
        return found

    def take(self, deduplication_id: str) -> tuple[str, bool]:
        """Publish a message. Return its ID, and whether it is a duplicate."""
        is_duplicate = deduplication_id in self.published
        message_id = self.published.setdefault(deduplication_id, f"msg_{len(self.published)}")
        return message_id, is_duplicate

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            while await self._serve(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._handlers.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if self.steps and self.steps[0] == "cut unread":
            self.steps.pop(0)
            _reset(writer)
            return False
        call = await _read(reader)
        self.calls.append(call)
        step = self.steps.pop(0) if self.steps else accept
        assert callable(step), step
        answer = step(self, call)
        if answer is None:
            _reset(writer)
            return False
        if not answer:
            await self._release.wait()
        writer.write(answer)
        await writer.drain()
        return b"\r\nConnection: close\r\n" not in answer


def _reset(writer: asyncio.StreamWriter) -> None:
    """Reset the connection, as the server's kernel does when its process dies."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("utf-8", "surrogateescape")
    line, *rows = head[:-4].split("\r\n")
    method, target, _ = line.split(" ", 2)
    headers = CIMultiDict[str]()
    for row in rows:
        name, _, value = row.partition(":")
        headers.add(name, value.strip())
    body = await reader.readexactly(int(headers.get("Content-Length", 0)))
    return Call(method, target, headers, body)


# --- steps ---


def answer(status: int, body: bytes | str = b"", **headers: str) -> bytes:
    """Return the bytes of an answer. The argument `Retry_After` becomes the header Retry-After."""
    raw = body.encode() if isinstance(body, str) else body
    rows = {"Content-Length": str(len(raw)), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in rows.items())
    return f"HTTP/1.1 {status} Scripted\r\n{head}\r\n".encode() + raw


def says(status: int, body: bytes | str = b"", **headers: str) -> Step:
    """Answer and publish nothing."""
    return lambda _server, _call: answer(status, body, **headers)


def accept(server: Scripted, call: Call) -> bytes:
    """Publish, and answer like QStash."""
    if call.target.startswith("/v2/schedules"):
        return answer(200, json.dumps({"scheduleId": call.headers["Upstash-Schedule-Id"]}))
    if call.target == "/v2/batch":
        return answer(200, json.dumps([_taken(server, one) for one in json.loads(call.body)]))
    message_id, is_duplicate = server.take(call.headers.get("Upstash-Deduplication-Id", ""))
    said = {"messageId": message_id, **({"deduplicated": True} if is_duplicate else {})}
    return answer(202 if is_duplicate else 200, json.dumps(said))


def _taken(server: Scripted, item: dict[str, dict[str, str]]) -> dict[str, object]:
    message_id, is_duplicate = server.take(item["headers"].get("Upstash-Deduplication-Id", ""))
    return {"messageId": message_id, "deduplicated": is_duplicate}


def cut(server: Scripted, call: Call) -> None:
    """Publish, and cut the connection before the answer."""
    accept(server, call)


def vanish(_server: Scripted, _call: Call) -> None:
    """Cut the connection and publish nothing."""


def silent(server: Scripted, call: Call) -> bytes:
    """Publish, and never answer."""
    accept(server, call)
    return b""


def half(server: Scripted, call: Call) -> bytes:
    """Publish, and cut the connection in the middle of the answer."""
    whole = accept(server, call)
    return whole[:-5].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)


def garbage(body: bytes) -> Step:
    """Publish, and answer 200 with a body that QStash never sends."""

    def step(server: Scripted, call: Call) -> bytes:
        accept(server, call)
        return answer(200, body)

    return step


def raw(data: bytes) -> Step:
    """Publish, and write bytes that are not HTTP."""

    def step(server: Scripted, call: Call) -> bytes:
        accept(server, call)
        return data.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)

    return step
