"""Speaks HTTP: finds what a request is for, reads its body, takes its delivery, sends its answer.

A delivery that arrives whole comes from the fast path to `take`. Any other request comes from
aiohttp to `_answer`, which reads the body first. From there both go through the same pipeline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache, partial
from types import MappingProxyType

from aiohttp import ClientPayloadError, HttpVersion11, StreamReader, hdrs, web
from aiohttp.http_exceptions import BadHttpMessage

from hookmill.config.settings import Settings
from hookmill.config.sources import Source
from hookmill.runtime.open_files import allowed_connections, limit
from receiver import handshake
from receiver.capacity import HeldBytes
from receiver.connections import KEEPALIVE, SenderConnections
from receiver.fastpath import FastPath, FastServer
from receiver.health import Health
from receiver.intake import ReceivedRequest, too_large
from receiver.listening import Listening, accepted_at_once
from receiver.log_limits import server_logger
from receiver.pipeline import Pipeline
from receiver.responses import BUSY, NO_SECRET, Refusal, Reply, Result
from receiver.unfinished import size_of_head

_LINGER = 2.0
"""Seconds for which a refused sender's body is still read, so that the sender sees the answer."""

_FIRST_REQUEST = 1.0
"""Seconds within which the first request of a new connection is awaited before it is closed."""

_CUT_OFF = 0.5
"""Seconds that aiohttp gets to end the requests that still run when the deadline has passed."""

_LARGE_ANSWER = 2 * 1024
"""Bytes of an answer that may have to wait although its sender reads."""

_stored = cache(Reply)
"""The answer to a stored delivery, which is made once for each status."""

_BROKEN_OFF = (web.RequestPayloadError, ClientPayloadError, BadHttpMessage, OSError)

_UNKNOWN_SOURCE = Refusal(404, "unknown_source", "no source is configured here")
_ONLY_GET = Refusal(405, "method_not_allowed", "ask with GET")


class HttpServer:
    """Answers all HTTP requests of a receiver. Only the event loop uses it."""

    def __init__(self, settings: Settings, pipeline: Pipeline, health: Health) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._sources: dict[str, Source] = {}
        self._without_secret: Mapping[str, str] = {}
        self._probes: dict[str, Callable[[], Awaitable[Reply | Refusal]]] = {
            "/healthz": health.alive,
            "/readyz": health.ready,
        }
        self.is_quiet = False
        """Whether every answer is the last one of its connection, because the receiver is about to
        stop.
        """
        self._listening = Listening()
        self.in_flight = 0
        """Requests that are not answered yet."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._connections = SenderConnections(
            allowed_connections(settings.connections, limit() - accepted_at_once()),
            pipeline.metrics.connection_closed,
        )
        self._runner = web.ServerRunner(
            FastServer(
                self._answer,
                self,
                self._connections,
                access_log=None,
                auto_decompress=False,
                keepalive_timeout=KEEPALIVE,
                lingering_time=_LINGER,
                logger=server_logger(),
            ),
            shutdown_timeout=_CUT_OFF,
        )

    def replace_sources(
        self, sources: Iterable[Source], without_secret: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Serve these sources from the next request on. `without_secret` has the names of those
        that have no usable secret, by their paths.
        """
        self._sources = {source.path: source for source in sources}
        self._without_secret = without_secret
        for source in self._sources.values():
            self._pipeline.metrics.add_secrets(source.name, source.scheme.labels)

    async def listen(self) -> int:
        """Start listening; return the port. Raise `OSError` if that is impossible."""
        await self._runner.setup()
        self._connections.start()
        server, settings = self._runner.server, self._settings
        return await self._listening.start(server, settings.host, settings.port)

    async def stop(self, deadline: float) -> int:
        """Stop listening, give requests `deadline` seconds to finish, and close all connections.
        Return how many requests were cut off.
        """
        ends = asyncio.get_running_loop().time() + deadline
        await self._listening.end()
        await self._await_first_requests(ends)
        # Not left to aiohttp: it stops reading at once, and the rest of a body would never arrive.
        with suppress(TimeoutError):
            async with asyncio.timeout_at(ends):
                await self._idle.wait()
        cut_off = self.in_flight
        await self._connections.stop()
        await self._runner.cleanup()
        return cut_off

    async def _await_first_requests(self, ends: float) -> None:
        """Let those who have just connected send their request: it is on its way."""
        time = asyncio.get_running_loop().time
        ends = min(ends, time() + _FIRST_REQUEST)
        while self._connections.has_new(_FIRST_REQUEST) and time() < ends:  # noqa: ASYNC110 - age ends it, too
            await asyncio.sleep(0.01)

    # --- whole deliveries, from the fast path ---

    def find(self, target: str) -> Source | None:
        """Return the source at a path. None: there is none, or connections are being closed."""
        if self.is_quiet:
            return None
        return self._sources.get(target) or self._sources.get(target.partition("?")[0])

    def take(self, source: Source, request: ReceivedRequest, connection: FastPath) -> None:
        """Take a whole delivery, sent with POST, and send its answer when there is one."""
        pipeline, capacity, size = self._pipeline, self._pipeline.capacity, len(request.body)
        self._begin()
        refusal = pipeline.check_whole(request.headers, size)
        capacity.bytes += size  # even if it is refused: the body is in memory until the answer

        def on_result(result: Result) -> None:
            capacity.bytes -= size
            self._end()
            connection.send(self._reply_to(result, source))
            pipeline.report(source, result)

        if refusal is not None:
            on_result(refusal)
        else:
            pipeline.take(source, request, on_result)

    # --- all other requests, from aiohttp ---

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, and decide whether its connection is kept."""
        self._begin()
        self._connections.answering(request.protocol)
        try:
            reply = await self._reply(request)
            response = _response(reply)
        finally:
            self._end()
            self._connections.served(request.protocol, _size_of_head(request))
            self._connections.answered(request.protocol)
        # The rest of an unread body could be mistaken for the next request.
        if self.is_quiet or not request.content.is_eof():
            response.force_close()
        if len(reply.body) < _LARGE_ANSWER:
            # aiohttp would wait for its sender without a limit, and hold the requests behind it.
            asyncio.get_running_loop().call_soon(self._close_unread, request.protocol)
        return response

    def _close_unread(self, connection: web.RequestHandler) -> None:
        """Close a connection whose sender has not read so many answers that this one waits."""
        if connection.writing_paused:
            self._connections.unread(connection)

    async def _reply(self, request: web.BaseRequest) -> Reply:
        """Find out whether a request is a delivery or a probe, and answer it."""
        path = request.raw_path.partition("?")[0]
        source = self._sources.get(path)
        if source is not None:
            result = await self._receive(request, source)
            self._pipeline.report(source, result)
            return self._reply_to(result, source)
        if path in self._without_secret:  # not logged each time, because the change was logged
            self._pipeline.metrics.count(self._without_secret[path], NO_SECRET.code)
            self._pipeline.metrics.count_unavailable(self._without_secret[path])
            return self._refuse(NO_SECRET)
        probe = self._probes.get(path)
        if probe is None:
            return self._refuse(_UNKNOWN_SOURCE)
        if request.method not in {"GET", "HEAD"}:
            return self._refuse(_ONLY_GET, allow="GET, HEAD")
        answer = await probe()
        return self._refuse(answer) if isinstance(answer, Refusal) else answer

    async def _receive(self, request: web.BaseRequest, source: Source) -> Result:
        """Read a delivery's body and take the delivery, or answer a handshake's question."""
        pipeline, length = self._pipeline, request.content_length
        refusal = pipeline.precheck(source, request.method, request.headers, length)
        if refusal is not None:
            return refusal
        if request.method != "POST":
            return handshake.reply_to_request(source, request.method, request.raw_path)
        with HeldBytes(pipeline.capacity, source.name) as held:
            body = await self._read(request, held)
            if isinstance(body, Refusal):
                return body
            # A secret may have been withdrawn while the body came.
            current = self._sources.get(source.path)
            if current is None:
                return NO_SECRET if source.path in self._without_secret else _UNKNOWN_SOURCE
            result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            whole = ReceivedRequest(request.raw_path, request.headers, request.raw_headers, body)
            pipeline.take(current, whole, partial(_resolve, result))
            return await result

    async def _read(self, request: web.BaseRequest, held: HeldBytes) -> bytes | Refusal:
        """Read the raw body, within its limit, the receiver's capacity and the deadline."""
        content = request.content
        try:
            await _send_continue(request)
            if content.is_eof():  # a small body arrives together with its headers
                body = content.read_nowait()
                return self._hold(held, len(body)) or body
            self._connections.body_awaited(request.protocol, _size_of_head(request))
            async with asyncio.timeout(self._settings.read_timeout) as deadline:
                held.begin(partial(_expire, deadline))
                return await self._read_chunks(content, held)
        except TimeoutError as error:
            error.__traceback__ = None  # as below
            if held.is_given_up:
                return BUSY
            return Refusal(400, "slow_body", "the body took too long to arrive")
        except _BROKEN_OFF as error:
            # aiohttp keeps the error with the body. The frames in its traceback hold both of them,
            # so their memory would be held until Python looks for such cycles, which is rare.
            error.__traceback__ = None
            return Refusal(400, "broken_body", f"the body broke off: {type(error).__name__}")
        except RuntimeError:
            # aiohttp raises this if the sender hung up before its body was read.
            if request.transport is not None:
                raise
            return Refusal(400, "broken_body", "the sender hung up before its body came")
        finally:
            held.end()
            self._connections.answering(request.protocol)

    async def _read_chunks(self, content: StreamReader, held: HeldBytes) -> bytes | Refusal:
        """Read a body as it arrives, until its end or until it must be refused."""
        chunks = []
        while chunk := await content.readany():
            refusal = self._hold(held, len(chunk))
            if refusal is not None:
                return refusal
            chunks.append(chunk)
        return b"".join(chunks)

    def _hold(self, held: HeldBytes, count: int) -> Refusal | None:
        """Count `count` more bytes of a body; return a refusal if they are too many."""
        limit = self._settings.body_limit
        if held.count + count > limit:
            return too_large(limit)
        return None if held.grow(count) else BUSY

    # --- both ---

    def _begin(self) -> None:
        if not self.in_flight:
            self._idle.clear()
        self.in_flight += 1

    def _end(self) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    def _reply_to(self, result: Result, source: Source) -> Reply:
        """Return the answer that tells a sender its result."""
        if result is None:
            return _stored(source.status)
        if isinstance(result, Refusal):
            methods = ("POST", *handshake.METHODS.get(source.handshake, ()))
            return self._refuse(result, allow=", ".join(methods))
        return result

    def _refuse(self, refusal: Refusal, allow: str = "") -> Reply:
        return refusal.reply(allow, self._settings.retry_after)


def _response(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, body=reply.body or None, headers=dict(reply.headers))


def _size_of_head(request: web.BaseRequest) -> int:
    return size_of_head(request.method, request.raw_path, request.raw_headers)


def _resolve(future: asyncio.Future[Result], result: Result) -> None:
    if not future.done():  # it is done if the request was cancelled meanwhile
        future.set_result(result)


def _expire(deadline: asyncio.Timeout) -> None:
    """Let a deadline pass now, so that what is awaited until then ends."""
    deadline.reschedule(asyncio.get_running_loop().time())


async def _send_continue(request: web.BaseRequest) -> None:
    """Send "100 Continue" to a sender that waits for it before it sends the body."""
    expected = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    if expected and request.version >= HttpVersion11:  # HTTP/1.0 does not have it
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # these bytes are not part of the answer
