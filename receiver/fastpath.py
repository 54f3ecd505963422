"""Takes a delivery from aiohttp's parser and writes its answer, without a task for the request.

A delivery that arrives whole, in one read, is taken at once, and answered when it is stored.
Everything else (a body still on its way, a large head, pipelined requests, probes, malformed HTTP)
is left to aiohttp. Only this module and `receiver.unfinished` use aiohttp's private attributes. If
a release has others, aiohttp does it all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.hdrs import EXPECT, METH_POST
from aiohttp.http import HttpRequestParser

from hookmill.config.sources import Source
from receiver import unfinished
from receiver.intake import ReceivedRequest
from receiver.rendering import render
from receiver.responses import Reply
from receiver.unfinished import SMALL_HEAD, Unfinished, size_of_head

if TYPE_CHECKING:
    from receiver.connections import SenderConnections

LARGE_READ = 32 * 1024
"""Bytes that arrive at once and are counted until a request has taken them over."""

_USED = unfinished.USED | {
    *("_parser", "_waiter", "_messages", "_next_keepalive_close_time", "_paused"),
    *("_buffer", "_current_request", "_task_handler"),
}
"""The private attributes of aiohttp's connections and bodies that are used."""

_Parsed = tuple[Any, bool, bytes]
"""What a parser returns: requests, whether the protocol was changed, and what follows then."""


class Taker(Protocol):
    """What takes whole deliveries (`receiver.http`)."""

    @property
    def is_quiet(self) -> bool:
        """Whether every answer is the last one of its connection."""

    def find(self, target: str) -> Source | None:
        """Return the source at a path. None: leave the request to aiohttp."""

    def take(self, source: Source, request: ReceivedRequest, connection: FastPath) -> None:
        """Take a delivery, and call `connection.send` with its answer once, now or later."""


class FastServer(web.Server):
    """aiohttp's low-level server with the fast path in front of it. It tells the `connections` what
    happens to each of them.
    """

    def __init__(
        self, handler: Any, taker: Taker, connections: SenderConnections, **options: Any
    ) -> None:
        super().__init__(handler, **options)
        self._taker = taker
        self._tracked = connections
        self._has_fast_path = is_supported()

    def __call__(self) -> Any:
        """Make the protocol of a new connection."""
        connection = super().__call__()
        if not self._has_fast_path:
            return connection
        return FastPath(connection, self._taker, self._tracked)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Note a new connection; aiohttp calls this."""
        super().connection_made(handler, transport)
        self._tracked.opened(handler, transport)

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Note that a connection is closed; aiohttp calls this."""
        super().connection_lost(handler, exc)
        self._tracked.lost(handler)
        if self._has_fast_path:
            front: Any = handler._parser
            front.fast_path.lost()


def is_supported() -> bool:
    """Whether this release of aiohttp has the attributes that the fast path uses."""
    kinds = {*web.RequestHandler.__mro__, StreamReader}
    slots = {name for kind in kinds for name in getattr(kind, "__slots__", ())}
    return slots >= _USED and hasattr(HttpRequestParser, "message_consumed")


class FastPath(asyncio.Protocol):
    """Stands in front of aiohttp's connection, and takes the deliveries that it can take.

    The event loop calls `data_received`. aiohttp calls `feed_data` with what is left to it.
    """

    def __init__(self, connection: Any, taker: Taker, connections: SenderConnections) -> None:
        self._connection = connection
        self._parser = connection._parser
        connection._parser = _Front(self._parser, self)
        self._taker = taker
        self._connections = connections
        self._idle = connections.idle
        self._unfinished = Unfinished(connection, connections)
        self._clock = asyncio.get_running_loop().time
        self._keepalive = connection.keepalive_timeout
        self._is_answering = False
        self._unparsed = b""
        self._parsed: Callable[[], _Parsed] | None = None
        """Returns what a read was parsed as that is left to aiohttp, or raises the error."""

    # --- what the event loop calls ---

    def data_received(self, data: bytes) -> None:
        """Take a delivery, or leave to aiohttp what arrived."""
        if not self._takes(data):
            self._connection.data_received(data)
            self._parsed = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass it on."""
        self._connection.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._connection.connection_lost(exc)

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._connection.eof_received()  # type: ignore[no-any-return]

    def pause_writing(self) -> None:
        """Pass it on."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._connection.resume_writing()

    # --- a delivery that has arrived whole ---

    def _takes(self, data: bytes) -> bool:
        """Take what arrived if it is one whole and plain delivery, and no earlier request is
        unanswered; return whether it was taken.
        """
        size = len(data)
        if size > LARGE_READ or self._is_answering or not self._is_idle:
            return False
        if self._unfinished.part_size:
            return False
        try:
            parsed = self._parser.feed_data(data)
        except Exception as error:  # noqa: BLE001 - aiohttp gets it, from `feed_data`
            self._parsed = partial(_raise, error)
            return False
        messages = parsed[0]
        source = self._source_of(messages[0], size) if len(messages) == 1 else None
        if source is None:
            self._parsed = lambda: parsed
            return False
        self._parser.message_consumed()
        self._is_answering = True
        if self._idle.pop(self._connection, None) is None:
            self._connections.answering(self._connection)
        head, payload = messages[0]
        # Not `payload.read()`, because that resumes reading from the socket.
        body = b"".join(payload._buffer) if payload.total_bytes else b""
        request = ReceivedRequest(head.path, head.headers, head.raw_headers, body)
        self._taker.take(source, request, self)
        return True

    def _source_of(self, message: Any, size: int) -> Source | None:
        """Return whose delivery a read of `size` bytes is, if it is whole and plain."""
        head, payload = message
        if (
            payload.is_eof()
            and size - payload.total_bytes <= SMALL_HEAD
            and head.method == METH_POST
            and head.version == HttpVersion11
            and not head.should_close
            and not head.upgrade
            and EXPECT not in head.headers
        ):
            return self._taker.find(head.path)
        return None

    @property
    def _is_idle(self) -> bool:
        """Whether aiohttp waits for a request on this connection, and the sender reads answers."""
        connection = self._connection
        waiter = connection._waiter
        is_waiting = waiter is not None and not waiter.done()
        return is_waiting and not connection._messages and not connection._paused

    def send(self, reply: Reply) -> None:
        """Send the answer to the delivery that was taken, then parse what came after it."""
        connection = self._connection
        transport = connection.transport
        self._is_answering = False
        if transport is None:
            return  # the sender has hung up
        is_last = self._taker.is_quiet
        transport.write(render(reply, is_last=is_last))
        if is_last:
            connection.force_close()
            return
        self._idle[connection] = now = self._clock()
        connection._next_keepalive_close_time = now + self._keepalive
        if self._unparsed:
            unparsed, self._unparsed = self._unparsed, b""
            self._connections.served(connection, len(unparsed))
            with suppress(RuntimeError):
                transport.resume_reading()
            connection.data_received(unparsed)

    # --- everything else ---

    def feed_data(self, data: bytes) -> _Parsed:
        """Parse what is left to aiohttp; return the requests in it."""
        size, unfinished = len(data), self._unfinished
        if size > LARGE_READ and not self._connections.reads(self._connection, size):
            return (), False, b""
        if self._is_answering:
            self._put_off(data)
            return (), False, b""
        try:
            parsed = self._parsed() if self._parsed else self._parser.feed_data(data)
            messages = parsed[0]
            if not (len(messages) == 1 and self._is_small(messages[0], size)):
                unfinished.count(size, messages)
        except Exception as error:
            _forget_frames(error)
            if unfinished.body is not None and (in_body := unfinished.body.exception()) is not None:
                _forget_frames(in_body)
            raise
        if self._connection.writing_paused:
            self._connections.unread(self._connection)
            return (), False, b""
        if messages and not self._leaves(messages):
            return (), False, b""
        if unfinished.part_size:
            self._connections.head_part(self._connection, unfinished.part_size)
        return parsed

    def _put_off(self, data: bytes) -> None:
        """Keep what arrives behind a delivery, unparsed, until that is answered, because answers
        must go out in the order of the requests.
        """
        if self._connections.waits(self._connection, len(data)):
            self._unparsed += data
            with suppress(RuntimeError):  # the connection is being closed
                self._connection.transport.pause_reading()

    def _is_small(self, message: Any, size: int) -> bool:
        """Whether a read of `size` bytes is one whole request that need not be counted."""
        body, unfinished = message[1], self._unfinished
        is_alone = unfinished.body is None and not unfinished.part_size
        return is_alone and body.is_eof() and size - body.total_bytes <= SMALL_HEAD

    def _leaves(self, messages: Any) -> bool:
        """Leave requests to aiohttp. If there is no room for them, the connection is closed; return
        False.
        """
        if self._is_idle:
            # Else aiohttp still has to answer an earlier request, or to send an answer.
            self._connections.answering(self._connection)
        size = sum(size_of_head(head.method, head.path, head.raw_headers) for head, _ in messages)
        # A small one is not counted, as on the fast path.
        is_small = size <= SMALL_HEAD and not self._connection._messages
        return is_small or self._connections.waits(self._connection, size)

    def lost(self) -> None:
        """Free what the connection holds, because it is closed. aiohttp would wait for the rest of
        a body that nobody reads, and its requests and their connection would hold each other.
        """
        connection, body = self._connection, self._unfinished.body
        waiter, task = connection._waiter, connection._task_handler
        if waiter is not None and waiter.done() and task is not None:
            task.cancel()  # it would begin with a request, and raise
        connection._messages.clear()
        if body is not None and connection._current_request is None:
            # Not its end: a request that is about to begin would take the body as whole.
            error = TimeoutError("the sender hung up")
            body.set_exception(error)
            _forget_frames(error)
        self._unparsed, self._unfinished.body = b"", None


class _Front:
    """Stands in front of a connection's parser: its `feed_data` is that of the fast path."""

    def __init__(self, parser: HttpRequestParser, fast_path: FastPath) -> None:
        self._parser = parser
        self.fast_path = fast_path
        self.feed_data = fast_path.feed_data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


def _raise(error: Exception) -> NoReturn:
    raise error


def _forget_frames(error: BaseException) -> None:
    """Clear the traceback of an error, once it has been raised where it is awaited. aiohttp keeps
    the error in a frame of its own traceback. That would hold the connection until Python looks
    for such cycles, which is rare.
    """
    asyncio.get_running_loop().call_soon(error.with_traceback, None)
