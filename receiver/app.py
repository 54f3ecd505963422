"""The receiver's HTTP: routes, limits, health and shutdown. The only importer of aiohttp.web.

aiohttp's low-level server does without the framework's routing: a delivery's way is one look-up
and two awaits, its body and its append.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from http import HTTPStatus

import msgspec
import structlog
from aiohttp import ClientPayloadError, hdrs, web
from aiohttp.http_exceptions import BadHttpMessage

from hookmill.errors import StreamUnavailableError
from hookmill.settings import Settings
from hookmill.sources import Source
from hookmill.stream import Stream
from receiver.appender import Appender
from receiver.intake import Refusal, Request, admit, precheck, too_large
from receiver.noise import server_logger

log = structlog.get_logger("receiver")

_KEEPALIVE = 75.0
_LINGER = 2.0
"""Seconds to go on reading what a refused sender still sends, so that it sees the answer."""


class Receiver:
    """Program 1. Start it, quiet it (health says no, so that the load balancer looks elsewhere),
    stop it within a deadline.
    """

    def __init__(self, settings: Settings, sources: Iterable[Source], stream: Stream) -> None:
        self._settings = settings
        self._sources = {source.path: source for source in sources}
        self._stream = stream
        self._appender = Appender(stream, settings.append_timeout)
        self._probes = {"/healthz": self._healthz, "/readyz": self._readyz}
        self._quiet = False
        self._runner = web.ServerRunner(
            web.Server(
                self._answer,
                access_log=None,
                auto_decompress=False,
                keepalive_timeout=_KEEPALIVE,
                lingering_time=_LINGER,
                logger=server_logger(),
            ),
            shutdown_timeout=settings.shutdown,
        )
        self._site: web.TCPSite | None = None

    async def start(self) -> int:
        """Listen; return the port."""
        await self._runner.setup()
        self._site = web.TCPSite(
            self._runner, self._settings.host, self._settings.port, backlog=1024
        )
        await self._site.start()
        return int(self._runner.addresses[0][1])

    def quiet(self) -> None:
        """Answer readiness with no; deliveries are still accepted."""
        self._quiet = True

    async def stop(self) -> None:
        """Stop listening, let requests in flight finish, then close."""
        self.quiet()
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request: a probe, or a delivery to be accepted or refused."""
        path = request.raw_path.partition("?")[0]
        source = self._sources.get(path)
        if source is not None:
            outcome = await self._receive(request, source)
            return self._respond(outcome) if outcome else web.Response()
        probe = self._probes.get(path)
        if probe is None:
            return self._respond(Refusal(404, "unknown_source", "no source is configured here"))
        if request.method not in {"GET", "HEAD"}:
            return self._respond(
                Refusal(405, "method_not_allowed", "ask with GET"), allow="GET, HEAD"
            )
        return await probe()

    async def _receive(self, request: web.BaseRequest, source: Source) -> Refusal | None:
        """Take one delivery in; return why it was turned away, or None when it is stored."""
        length = request.content_length
        refusal = precheck(request.method, request.headers, length, self._settings.body_limit)
        if refusal is None:
            body = await self._read(request)
            if isinstance(body, Refusal):
                refusal = body
            else:
                refusal = await self._accept(request, source, body)
        if refusal is not None:
            log.warning(
                "refused", source=source.name, code=refusal.code, detail=refusal.detail,
                status=refusal.status,
            )  # fmt: skip
        return refusal

    async def _accept(
        self, request: web.BaseRequest, source: Source, body: bytes
    ) -> Refusal | None:
        admitted = admit(
            source,
            Request(request.raw_path, request.headers, request.raw_headers, body),
            time.time(),
        )
        if isinstance(admitted, Refusal):
            return admitted
        try:
            await self._appender.append(admitted)
        except StreamUnavailableError as error:
            log.error("append failed", error=str(error), id=admitted.id, source=source.name)
            return Refusal(503, error.code, "the message could not be stored; send it again")
        log.info(
            "accepted", id=admitted.id, source=source.name, type=admitted.type, bytes=len(body)
        )
        return None

    async def _read(self, request: web.BaseRequest) -> bytes | Refusal:
        """Read the raw body, within the limit and the deadline."""
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # those bytes are not the answer
        content, limit = request.content, self._settings.body_limit
        chunks, size = [], 0
        try:
            async with asyncio.timeout(self._settings.read_timeout):
                while chunk := await content.readany():
                    size += len(chunk)
                    if size > limit:
                        return too_large(limit)
                    chunks.append(chunk)
        except TimeoutError:
            return Refusal(400, "slow_body", "the body took too long to arrive")
        except (web.RequestPayloadError, ClientPayloadError, BadHttpMessage, OSError) as error:
            return Refusal(400, "broken_body", f"the body broke off: {type(error).__name__}")
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _healthz(self) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self) -> web.Response:
        if self._quiet:
            return self._respond(Refusal(503, "stopping", "the receiver is stopping"))
        try:
            async with asyncio.timeout(self._settings.append_timeout):
                await self._stream.probe()
        except (StreamUnavailableError, TimeoutError) as error:
            log.warning("not ready", error=str(error) or "Redis did not answer in time")
            return self._respond(Refusal(503, "stream_unavailable", "Redis takes no writes"))
        return web.Response(text="ready\n")

    def _respond(self, refusal: Refusal, allow: str = "POST") -> web.Response:
        response = web.Response(
            status=refusal.status,
            body=msgspec.json.encode({"error": refusal.code, "detail": refusal.detail}),
            content_type="application/json",
        )
        if refusal.status == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers[hdrs.ALLOW] = allow
        if refusal.status == HTTPStatus.SERVICE_UNAVAILABLE:
            response.headers[hdrs.RETRY_AFTER] = str(self._settings.retry_after)
        return response
