"""The short way of a delivery through aiohttp: from the parser to its answer without a task.

aiohttp makes two tasks' worth of work for each request: it wakes the connection's own, which makes
another for the request. A delivery that arrives whole needs neither: all there is to do with it is
done at once, and its answer is written when it is stored. What is not that plain (a body that is
still on its way, a sender that pipelines, probes, malformed requests) goes aiohttp's own way.

This is the only place that knows aiohttp's inner parts; where a release has others, everything
goes its own way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from aiohttp import HttpVersion11, StreamReader, hdrs, web
from aiohttp.http import HttpRequestParser

from hookmill.config.sources import Source
from receiver.intake import Request

Write = Callable[[bytes], None]

_PARTS = {"_parser", "_waiter", "_messages", "_next_keepalive_close_time", "_buffer"}


class Taker(Protocol):
    """Who takes whole deliveries. While it `is_quiet`, an answer is a connection's last."""

    @property
    def is_quiet(self) -> bool:
        """Whether connections are no longer kept."""

    def find(self, target: str) -> Source | None:
        """Return the source at a path; None: not to be taken this way."""

    def take(self, source: Source, request: Request, write: Write) -> None:
        """Take a delivery, and write its answer, now or later, exactly once."""


class Server(web.Server):
    """aiohttp's low-level server with the short way before it."""

    def __init__(self, handler: Any, taker: Taker, **options: Any) -> None:
        super().__init__(handler, **options)
        self._taker = taker
        self._has_short_way = is_known()

    def __call__(self) -> web.RequestHandler:
        """Make what speaks on a new connection."""
        connection = super().__call__()
        if self._has_short_way:
            connection._parser = FastPath(connection, self._taker)  # type: ignore[assignment]
        return connection


def is_known() -> bool:
    """Whether this aiohttp has the parts that the short way goes by."""
    kinds = {*web.RequestHandler.__mro__, StreamReader}
    slots = {name for kind in kinds for name in getattr(kind, "__slots__", ())}
    return slots >= _PARTS and hasattr(HttpRequestParser, "message_consumed")


class FastPath:
    """Stands before a connection's parser, and keeps from it the deliveries that it takes."""

    def __init__(self, connection: Any, taker: Taker) -> None:
        self._connection = connection
        self._parser = connection._parser
        self._taker = taker
        self._clock = asyncio.get_running_loop().time
        self._is_answering = False
        self._behind = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> tuple[Any, bool, bytes]:
        """Parse what arrived; return the requests that go aiohttp's own way."""
        if self._is_answering:
            # Answers go out in the order of their requests, so this one waits, unread.
            self._behind += data
            with suppress(RuntimeError):  # the connection is being closed
                self._connection.transport.pause_reading()
            return (), False, b""
        messages, is_upgraded, tail = self._parser.feed_data(data)
        if len(messages) == 1 and self._takes(*messages[0]):
            self._parser.message_consumed()
            return (), is_upgraded, tail
        return messages, is_upgraded, tail

    def _takes(self, head: Any, payload: StreamReader) -> bool:
        """Take a request if it is a whole and plain delivery, and nothing is to be answered before
        it; say whether it was.
        """
        if not (
            head.method == hdrs.METH_POST
            and payload.is_eof()
            and head.version == HttpVersion11
            and not head.should_close
            and not head.upgrade
            and hdrs.EXPECT not in head.headers
            and self._is_idle
        ):
            return False
        source = self._taker.find(head.path)
        if source is None:
            return False
        self._is_answering = True
        # Reading it would have the connection look for more at once, and there is none to be had.
        body = b"".join(payload._buffer) if payload.total_bytes else b""
        request = Request(head.path, head.headers, head.raw_headers, body)
        self._taker.take(source, request, self._write)
        return True

    @property
    def _is_idle(self) -> bool:
        """Whether aiohttp waits for a request, and the sender takes its answers."""
        waiter, connection = self._connection._waiter, self._connection
        is_waiting = waiter is not None and not waiter.done() and not connection._messages
        return is_waiting and not connection.writing_paused

    def _write(self, answer: bytes) -> None:
        """Write the answer to the delivery that was taken, and go on with what came behind it."""
        connection = self._connection
        self._is_answering = False
        if connection.transport is None:
            return  # the sender has gone
        connection.transport.write(answer)
        if self._taker.is_quiet:
            connection.force_close()
            return
        connection._next_keepalive_close_time = self._clock() + connection.keepalive_timeout
        if self._behind:
            behind, self._behind = self._behind, b""
            with suppress(RuntimeError):
                connection.transport.resume_reading()
            connection.data_received(behind)
