"""Takes a delivery from aiohttp's parser and writes its answer, without a task for the request.

A delivery that arrives whole is taken at once, and answered when it is stored. Everything else (a
body still on its way, pipelined requests, probes, malformed HTTP) is left to aiohttp. Only this
module uses aiohttp's private attributes. If a release has others, aiohttp does it all.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import HttpVersion11, StreamReader, hdrs, web
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import BadHttpMessage

from hookmill.config.sources import Source
from receiver.intake import ReceivedRequest
from receiver.rendering import render
from receiver.responses import Reply

if TYPE_CHECKING:
    from receiver.connections import SenderConnections

HEAD_LIMIT = 64 * 1024
"""Bytes that a head may have. aiohttp limits each line and their number, which allows 1 MB."""

SMALL_HEAD = 4 * 1024
"""A head of at most so many bytes is not counted, because to count takes time."""

LARGE_READ = 32 * 1024
"""Bytes that arrive at once and are counted until a request has taken them over."""

FEW_CHUNKS = 256
"""A body of at most so many chunks is not counted by its chunks."""

CHUNK_SIZE = 64
"""Bytes that aiohttp keeps for a chunk, besides its text, until a request has taken it over."""

_TOO_LARGE = f"the head of a request has more than {HEAD_LIMIT} bytes"

_USED = {
    *("_parser", "_waiter", "_messages", "_next_keepalive_close_time", "_reading_paused"),
    *("_buffer", "_http_chunk_splits", "_current_request", "_task_handler"),
}
"""The private attributes of aiohttp's connections and bodies that are used here."""


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

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        connection = super().__call__()
        if self._has_fast_path:
            fast_path: Any = FastPath(connection, self._taker, self._tracked)
            connection._parser = fast_path  # it has a parser's methods
        return connection

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
            fast_path: Any = handler._parser
            fast_path.lost()


def is_supported() -> bool:
    """Whether this release of aiohttp has the attributes that the fast path uses."""
    kinds = {*web.RequestHandler.__mro__, StreamReader}
    slots = {name for kind in kinds for name in getattr(kind, "__slots__", ())}
    return slots >= _USED and hasattr(HttpRequestParser, "message_consumed")


class FastPath:
    """Stands in front of a connection's parser, and takes the deliveries that it can take."""

    def __init__(self, connection: Any, taker: Taker, connections: SenderConnections) -> None:
        self._connection = connection
        self._parser = connection._parser
        self._taker = taker
        self._connections = connections
        self._idle = connections.idle
        self._clock = asyncio.get_running_loop().time
        self._is_answering = False
        self._unparsed = b""
        self._part_size = 0
        """How many bytes have arrived of a head that is not whole."""
        self._large_head = 0
        """The size of a large head that has just arrived, or of the one that is being answered."""
        self._body: StreamReader | None = None
        """A body that is not whole."""
        self._body_size = 0
        """How much of that body has arrived."""
        self._beside_body = 0
        """How many bytes have arrived with that body and are no part of it, as its trailers."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(  # noqa: C901 - each branch is one kind of what arrives, on the hot path
        self, data: bytes
    ) -> tuple[Any, bool, bytes]:
        """Parse what arrived; return the requests that are left to aiohttp."""
        if len(data) > LARGE_READ and not self._connections.reads(self._connection, len(data)):
            return (), False, b""
        if self._is_answering:
            # Answers must go out in the order of the requests, so this one waits, unparsed.
            if not self._connections.waits(self._connection, len(data)):
                return (), False, b""
            self._unparsed += data
            with suppress(RuntimeError):  # the connection is being closed
                self._connection.transport.pause_reading()
            return (), False, b""
        try:
            messages, is_upgraded, tail = self._parser.feed_data(data)
            if not (
                len(messages) == 1
                and len(data) - messages[0][1].total_bytes <= SMALL_HEAD
                and messages[0][1].is_eof()
                and self._body is None
                and not self._part_size
            ):
                self._count_parts(len(data), messages)
        except Exception as error:
            _forget_frames(error)
            if self._body is not None and (in_body := self._body.exception()) is not None:
                _forget_frames(in_body)
            raise
        if len(messages) == 1 and self._takes(*messages[0]):
            self._parser.message_consumed()
            messages = ()
        elif self._connection.writing_paused:
            self._connections.unread(self._connection)
            return (), False, b""
        elif messages and not self._leaves(messages):
            return (), False, b""
        if self._part_size:
            self._connections.head_part(self._connection, self._part_size)
        return messages, is_upgraded, tail

    def _leaves(self, messages: Any) -> bool:
        """Leave requests to aiohttp. If there is no room for them, the connection is closed; return
        False.
        """
        self._large_head = 0
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
        connection, body = self._connection, self._body
        waiter, task = connection._waiter, connection._task_handler
        if waiter is not None and waiter.done() and task is not None:
            task.cancel()  # it would begin with a request, and raise
        connection._messages.clear()
        if body is not None and connection._current_request is None:
            # Not its end: a request that is about to begin would take the body as whole.
            error = TimeoutError("the sender hung up")
            body.set_exception(error)
            _forget_frames(error)
        self._unparsed, self._body = b"", None

    def _count_parts(self, size: int, messages: Any) -> None:
        """Count the bytes of a head that is not whole: of the `size` bytes that have arrived, what
        belongs to no body and to no request in `messages`. Raise if a head is too large.
        """
        arrived, has_ended = size, False
        if self._body is not None:
            before, self._body_size = self._body_size, self._body.total_bytes
            size -= _size_of_body(self._body, before)
            if not self._body.is_eof():
                self._count_beside_body(size)
                self._count_chunks(self._body)
                return
            self._body, self._beside_body, has_ended = None, 0, True
        for head, body in messages:
            of_head = size_of_head(head.method, head.path, head.raw_headers)
            if of_head > HEAD_LIMIT:
                raise BadHttpMessage(_TOO_LARGE)
            self._large_head = of_head if of_head > SMALL_HEAD else 0
            size -= of_head + _size_of_body(body, 0)
            if not body.is_eof():
                self._body, self._body_size = body, body.total_bytes
                self._count_beside_body(self._part_size + size)
                self._count_chunks(body)
        self._part_size = max(0, self._part_size + size)
        if messages or has_ended:
            # So few bytes may also be the sizes of chunks, or spaces in headers.
            if self._part_size <= SMALL_HEAD or self._body is not None:
                self._part_size = 0
            elif arrived:
                self._part_size = min(self._part_size, arrived)
        elif self._part_size > HEAD_LIMIT and not self._connection._messages:
            # Else it may be requests, which wait until aiohttp has answered the ones before.
            raise BadHttpMessage(_TOO_LARGE)

    def _count_beside_body(self, size: int) -> None:
        """Count bytes that have arrived with a body and are no part of it. aiohttp keeps trailers
        until the body has ended, so with too many of them the connection is closed.
        """
        self._beside_body = max(0, self._beside_body + size)
        # While reading is paused, they may be parts of the body that are not parsed yet.
        if self._beside_body > SMALL_HEAD and not self._connection._reading_paused:
            self._connections.long_trailers(self._connection)

    def _count_chunks(self, body: Any) -> None:
        """Count the chunks of a body that is not whole. A read of small chunks becomes many times
        as large, and the event loop may read from hundreds of connections in one turn.
        """
        ends = body._http_chunk_splits
        if ends and len(ends) > FEW_CHUNKS:
            self._connections.reads(self._connection, CHUNK_SIZE * len(ends))

    def _takes(self, head: Any, payload: StreamReader) -> bool:
        """Take a request if it is a whole and plain delivery and no earlier request is unanswered;
        return whether it was taken.
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
        if self._large_head and not self._connections.waits(self._connection, self._large_head):
            return True  # the connection is closed
        self._is_answering = True
        if self._idle.pop(self._connection, None) is None:
            self._connections.answering(self._connection)
        # Not `payload.read()`, because that resumes reading from the socket.
        body = b"".join(payload._buffer) if payload.total_bytes else b""
        request = ReceivedRequest(head.path, head.headers, head.raw_headers, body)
        self._taker.take(source, request, self)
        return True

    @property
    def _is_idle(self) -> bool:
        """Whether aiohttp waits for a request on this connection, and the sender reads answers."""
        waiter, connection = self._connection._waiter, self._connection
        is_waiting = waiter is not None and not waiter.done() and not connection._messages
        return is_waiting and not connection.writing_paused

    def send(self, reply: Reply) -> None:
        """Send the answer to the delivery that was taken, then parse what came after it."""
        connection = self._connection
        self._is_answering = False
        if connection.transport is None:
            return  # the sender has hung up
        if self._large_head:
            self._connections.served(connection, self._large_head)
            self._large_head = 0
        is_last = self._taker.is_quiet
        connection.transport.write(render(reply, is_last=is_last))
        if is_last:
            connection.force_close()
            return
        now = self._clock()
        connection._next_keepalive_close_time = now + connection.keepalive_timeout
        self._idle[connection] = now
        if self._part_size:
            self._connections.answered(connection)
        if self._unparsed:
            unparsed, self._unparsed = self._unparsed, b""
            self._connections.served(connection, len(unparsed))
            with suppress(RuntimeError):
                connection.transport.resume_reading()
            connection.data_received(unparsed)


def _forget_frames(error: BaseException) -> None:
    """Clear the traceback of an error, once it has been raised where it is awaited. aiohttp keeps
    the error in a frame of its own traceback. That would hold the connection until Python looks
    for such cycles, which is rare.
    """
    asyncio.get_running_loop().call_soon(error.with_traceback, None)


def size_of_head(method: str, target: str, raw_headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return how many bytes a head has as most senders write it."""
    headers = sum(len(name) + len(value) + 4 for name, value in raw_headers)
    return len(method) + len(target) + len(" HTTP/1.1\r\n\r\n") + 1 + headers


def _size_of_body(body: Any, before: int) -> int:
    """Return how many bytes a body has, beyond the first `before`, with the sizes of its chunks as
    most senders write them.
    """
    grown = int(body.total_bytes) - before
    ends = body._http_chunk_splits if grown else None
    if not ends:
        return grown
    # A size has one digit more for each 16 times that a chunk is longer.
    chunks = len(ends) - bisect_right(ends, before)
    return grown + chunks * len("1\r\n\r\n") + grown // 16
