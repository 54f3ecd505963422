"""The admin address of a program: health, readiness and metrics, apart from what is public.

A small HTTP server, so that a worker needs none of the receiver's. Whoever connects holds little:
few connections, each for seconds, with one request of a few kilobytes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import structlog

from hookmill.errors import SettingsError
from hookmill.runtime import supervised
from hookmill.runtime.admin_request import (
    ACCEPT,
    MALFORMED,
    NOT_FOUND,
    SLOW,
    TOO_LARGE,
    Answer,
    Asked,
    PageRefusal,
    read_request,
)
from hookmill.runtime.log_limit import LogLimit
from hookmill.runtime.tasks import cancel_and_wait

log = structlog.get_logger("runtime")

ADMIN_OPEN = "admin address open"
"""What a program logs, with host and port, when its admin address answers."""

MAX_CONNECTIONS = 32
"""Connections at a time. One more ends the oldest that has not sent its request yet."""

MAX_HEAD = 8192
"""Bytes that a request may have."""

HEAD_TIMEOUT = 5.0
"""Seconds that a request may take to arrive, and an answer to be taken."""

PAGE_TIMEOUT = 5.0
"""Seconds that a page may take, which may have to ask Redis."""

LINGER = 1.0
"""Seconds for which the rest of a request is read, so that its sender sees the answer."""

_TOO_SLOW = PageRefusal(503, "timeout", "the program did not find this out in time")
_FAULT = PageRefusal(500, "internal_error", "the program failed to make this page")

Page = Callable[[], Awaitable[Answer]]
"""Makes the answer to a GET of a path."""


class AdminServer:
    """`start` it in the event loop, and `stop` it. `pages` has the page of each path. Each answer
    says which `program` it is.
    """

    def __init__(self, host: str, port: int, pages: Mapping[str, Page], program: str = "") -> None:
        self._program = program
        self._host = host
        self._port = port
        self._pages = dict(pages)
        self._server: asyncio.Server | None = None
        self._taking: set[asyncio.Future[Any]] = set()
        self._open: set[asyncio.Task[None]] = set()
        self._idle: dict[asyncio.Task[None], None] = {}
        """Those of `_open` for which no page is made, the oldest first."""
        self._log_limit = LogLimit()

    async def start(self) -> int:
        """Listen; return the port. Raise `SettingsError` if that is impossible.

        0: the supervisor of this process listens, and passes its questions on.
        """
        if (supervisor := supervised.current()) is not None:
            loop = asyncio.get_running_loop()
            supervisor.answer_with(lambda one: loop.call_soon_threadsafe(self._take, one))
            return 0
        try:
            self._server = await asyncio.start_server(
                self._accept, self._host, self._port, limit=MAX_HEAD, backlog=MAX_CONNECTIONS
            )
        except OSError as error:
            where = f"{self._host}, port {self._port}"
            raise SettingsError(
                [f"HOOKMILL_ADMIN_PORT: cannot listen on {where}: {error.strerror or error}"]
            ) from None
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and close all connections. A second call does nothing."""
        if (supervisor := supervised.current()) is not None:
            supervisor.answer_with(None)
        if self._server is not None:
            self._server.close()
            self._server = None
        await cancel_and_wait(self._open)

    def _take(self, connection: socket.socket) -> None:
        """Answer on a connection that the supervisor has made."""
        connection.settimeout(0)
        reader = asyncio.StreamReader(limit=MAX_HEAD)
        protocol = asyncio.StreamReaderProtocol(reader, self._accept)
        taking = asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, connection)
        task = asyncio.ensure_future(taking)
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            oldest = next(iter(self._idle), None)
            if oldest is None:
                writer.transport.abort()
                return
            del self._idle[oldest]
            oldest.cancel()
        task = asyncio.create_task(self._serve(reader, writer), name="admin request")
        self._open.add(task)
        self._idle[task] = None
        task.add_done_callback(self._forget)
        # Not left to the task: it may be cancelled before it has begun.
        task.add_done_callback(lambda _: writer.transport.abort())

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._idle.pop(task, None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await self._read(reader)
            if asked is None:
                return
            answer = (
                self._refuse(asked) if isinstance(asked, PageRefusal) else await self._make(asked)
            )
            is_head = isinstance(asked, Asked) and asked.is_head
            async with asyncio.timeout(HEAD_TIMEOUT):
                writer.write(_response(answer, self._program, is_head=is_head))
                await writer.drain()
                await _finish(reader, writer)
        except (OSError, TimeoutError):
            pass  # whoever asked has gone, or takes too long to take the answer

    async def _read(self, reader: asyncio.StreamReader) -> Asked | PageRefusal | None:
        """Return what is asked; None if whoever connected has gone."""
        try:
            async with asyncio.timeout(HEAD_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            return SLOW
        except asyncio.LimitOverrunError:
            return TOO_LARGE
        except asyncio.IncompleteReadError as error:
            return MALFORMED if error.partial else None
        return read_request(head, self._host)

    async def _make(self, asked: Asked) -> Answer:
        """Make the page. Meanwhile this connection is not ended for the sake of another."""
        page = self._pages.get(asked.path)
        if page is None:
            return self._refuse(NOT_FOUND)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine has one
        self._idle.pop(task, None)
        ACCEPT.set(asked.accept)
        try:
            async with asyncio.timeout(PAGE_TIMEOUT):
                return await page()
        except TimeoutError:
            return _TOO_SLOW.answer
        except Exception:  # the other pages must go on
            if self._log_limit.passes():
                log.exception("an admin page failed", path=asked.path, **self._log_limit.report())
            return _FAULT.answer
        finally:
            self._idle[task] = None

    def _refuse(self, refused: PageRefusal) -> Answer:
        if self._log_limit.passes():
            log.warning(
                "admin request refused",
                code=refused.code, status=refused.status, **self._log_limit.report(),
            )  # fmt: skip
        return refused.answer


async def _finish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close a connection after its answer. To close it with bytes unread would take the answer
    away from the sender.
    """
    writer.write_eof()
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while await reader.read(MAX_HEAD):
                pass
    writer.close()
    await writer.wait_closed()


def _response(answer: Answer, program: str, *, is_head: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if program:
        lines.append(f"Hookmill-Program: {program}")
    if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    head = "\r\n".join([*lines, "", ""]).encode()
    return head if is_head else head + answer.body
