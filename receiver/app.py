"""The receiver's HTTP: routes, limits, health and shutdown. The only importer of aiohttp.web.

aiohttp's low-level server does without the framework's routing: a delivery's way is one look-up
and two awaits, its body and its append.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from email.utils import formatdate
from functools import cache
from http import HTTPStatus

import msgspec
import structlog
from aiohttp import ClientPayloadError, HttpVersion11, StreamReader, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.http_exceptions import BadHttpMessage

from hookmill.arrival import Arrival
from hookmill.errors import (
    BacklogFullError,
    CertificateUnavailableError,
    NotConfirmedError,
    StreamUnavailableError,
    TokenReusedError,
)
from hookmill.settings import Settings
from hookmill.signatures import Refused
from hookmill.signatures.scheme import NeedsCertificate
from hookmill.sources import Source
from hookmill.stream import Stream
from receiver import handshake
from receiver.answers import Answer, Confirmation, Refusal
from receiver.appender import Appender
from receiver.certificates import Certificates
from receiver.drainer import Drainer
from receiver.intake import Request, admit, delivery_of, precheck, too_large
from receiver.metrics import Metrics
from receiver.noise import Limit, server_logger
from receiver.room import Held, Room
from receiver.spool import Spool, SpoolError

log = structlog.get_logger("receiver")

_KEEPALIVE = 75.0
_LINGER = 2.0
"""Seconds to go on reading what a refused sender still sends, so that it sees the answer."""

_BUSY = Refusal(503, "busy", "the receiver holds as much as it may; come again")

_BROKEN_OFF = (web.RequestPayloadError, ClientPayloadError, BadHttpMessage, OSError)

_CUT_OFF = 0.5
"""Seconds aiohttp is given to end what is still running when the deadline has passed."""


class Receipt(web.StreamResponse):
    """The answer to a stored delivery: no body, and the same for all of one second.

    It is rendered once a second and written in one go; aiohttp would make headers anew for each
    request. One object answers all requests, so it holds nothing of any of them, and only those of
    HTTP/1.1 whose connection is kept.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status=status)
        self._second = 0
        self._rendered = b""

    @property
    def keep_alive(self) -> bool:
        """Whether the connection can serve another request: others are not answered with this."""
        return True

    def force_close(self) -> None:
        """Refuse to: it would hold for everybody."""
        raise RuntimeError("this answer is shared")

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Write all of it."""
        second = int(time.time())
        if second != self._second:
            self._second, self._rendered = second, self._render(second)
        await request.writer.write(self._rendered)
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Leave it at that: everything was written."""

    def _render(self, second: int) -> bytes:
        # A 204 has no length: it never has a body (RFC 9110, 8.6).
        length = "" if self.status == HTTPStatus.NO_CONTENT else "Content-Length: 0\r\n"
        return (
            f"HTTP/1.1 {self.status} {self.reason}\r\n{length}"
            f"Date: {formatdate(second, usegmt=True)}\r\nServer: {SERVER_SOFTWARE}\r\n\r\n"
        ).encode()


class Receiver:
    """Program 1. Start it, quiet it (health says no, so that the load balancer looks elsewhere),
    stop it within a deadline.
    """

    def __init__(
        self,
        settings: Settings,
        sources: Iterable[Source],
        stream: Stream,
        certificates: Certificates | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._sources: dict[str, Source] = {}
        self._receipt = cache(Receipt)
        self.replace_sources(sources)
        self._stream = stream
        self._spool = Spool(settings.spool, settings.spool_limit) if settings.spool else None
        self._drainer = (
            Drainer(self._spool, stream, settings.append_timeout) if self._spool else None
        )
        self._appender = Appender(stream, settings.append_timeout, self._spool)
        self._certificates = certificates or Certificates()
        self._room = Room(settings.queue_messages, settings.queue_bytes)
        self._probes = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._show_metrics,
        }
        self._probing: asyncio.Task[str | None] | None = None
        self._trouble = ""
        self._limits: defaultdict[tuple[str, str], Limit] = defaultdict(Limit)
        self._quiet = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._runner = web.ServerRunner(
            web.Server(
                self._answer,
                access_log=None,
                auto_decompress=False,
                keepalive_timeout=_KEEPALIVE,
                lingering_time=_LINGER,
                logger=server_logger(),
            ),
            shutdown_timeout=_CUT_OFF,
        )

    def replace_sources(self, sources: Iterable[Source]) -> None:
        """Serve these sources from the next request on."""
        self._sources = {source.path: source for source in sources}
        for source in self._sources.values():
            self._metrics.know(source.name, source.scheme.labels)

    async def start(self) -> int:
        """Listen; return the port. Raise `SpoolError` where the spool cannot be opened."""
        if self._spool is not None and self._drainer is not None:
            await self._spool.open()
            self._drainer.start()
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._settings.host, self._settings.port, backlog=1024)
        await site.start()
        return int(self._runner.addresses[0][1])

    def quiet(self) -> None:
        """Answer readiness with no; deliveries are still accepted, connections no longer kept."""
        self._quiet = True

    async def stop(self) -> None:
        """Stop listening, let requests in flight finish, then close."""
        self.quiet()
        for site in self._runner.sites:
            await site.stop()
        # aiohttp's own shutdown stops reading at once: a body on its way would never arrive.
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.shutdown):
                await self._idle.wait()
        if self._in_flight:
            log.warning("requests cut off", count=self._in_flight)
        await self._runner.cleanup()
        await self._certificates.close()
        await self._appender.close()
        if self._probing is not None:
            await asyncio.wait([self._probing])
        if self._spool is not None and self._drainer is not None:
            await self._drainer.stop()
            await self._spool.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, and say whether the connection can serve another."""
        self._in_flight += 1
        self._idle.clear()
        try:
            response = await self._route(request)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
        # A body that was not read to its end could be taken for the next request, or that for it.
        if self._quiet or not request.content.is_eof():
            response.force_close()
        return response

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        """Find what the request is: a probe, or a delivery to be accepted or refused."""
        path = request.raw_path.partition("?")[0]
        source = self._sources.get(path)
        if source is not None:
            outcome = await self._receive(request, source)
            return self._respond_for(request, source, outcome)
        probe = self._probes.get(path)
        if probe is None:
            return self._respond(Refusal(404, "unknown_source", "no source is configured here"))
        if request.method not in {"GET", "HEAD"}:
            return self._respond(
                Refusal(405, "method_not_allowed", "ask with GET"), allow="GET, HEAD"
            )
        return await probe()

    async def _receive(self, request: web.BaseRequest, source: Source) -> Refusal | Answer | None:
        """Take one delivery in; return why it was turned away, the answer if it was a question, or
        None when it is stored.
        """
        outcome = await self._judge(request, source)
        self._metrics.count(source.name, _word_for(outcome))
        if isinstance(outcome, Refusal):
            self._log(
                log.warning, "refused", source, outcome.code, code=outcome.code,
                detail=outcome.detail, status=outcome.status,
            )  # fmt: skip
        elif outcome is not None:
            self._log(log.info, "answered", source, "", handshake=source.handshake)
        return outcome

    async def _judge(self, request: web.BaseRequest, source: Source) -> Refusal | Answer | None:
        length, also = request.content_length, handshake.METHODS.get(source.handshake, ())
        limit = self._settings.body_limit
        refusal = precheck(request.method, request.headers, length, limit, also=also)
        if refusal is not None:
            return refusal
        if self._room.is_crowded or not self._room.fits(length or 0):
            return _BUSY  # before the body was read, for there is no place to put it
        if request.method != "POST":
            return handshake.asked(source, request.method, request.raw_path)
        with Held(self._room) as held:
            body = await self._read(request, held)
            return body if isinstance(body, Refusal) else await self._accept(request, source, body)

    async def _accept(
        self, request: web.BaseRequest, source: Source, body: bytes
    ) -> Refusal | Answer | None:
        admitted = await self._admit(
            source, Request(request.raw_path, request.headers, request.raw_headers, body)
        )
        if not isinstance(admitted, Arrival):
            return admitted
        self._metrics.matched(source.name, source.scheme.labels[admitted.secret])
        if self._room.is_crowded:
            return _BUSY
        try:
            with self._room:
                await self._appender.append(admitted)
        except TokenReusedError as error:
            return Refusal(401, error.code, "the token came before, with another message ID")
        except BacklogFullError as error:
            return Refusal(503, error.code, "too many messages wait to be handled; come again")
        except StreamUnavailableError as error:
            log.error("append failed", error=str(error), id=admitted.id, source=source.name)
            return Refusal(503, error.code, "the message could not be stored; send it again")
        return None

    async def _admit(self, source: Source, request: Request) -> Arrival | Answer | Refusal:
        """Admit a delivery; fetch what that takes, or do what it asks for."""
        now = time.time()
        admitted = admit(source, request, now)
        if not isinstance(admitted, NeedsCertificate | Confirmation):
            return admitted
        try:
            if isinstance(admitted, Confirmation):
                await self._certificates.confirm(admitted.url)
                return Answer()
            delivery = delivery_of(source, request)
            verdict = await self._certificates.judge(source.scheme, delivery, now)
        except (CertificateUnavailableError, NotConfirmedError) as error:
            self._log(log.warning, "not to be had", source, f"{error.code}, why", error=str(error))
            return Refusal(503, error.code, "what this takes cannot be had now; send it again")
        if isinstance(verdict, Refused):
            return Refusal(401, verdict.code, verdict.detail)
        return await self._admit(source, request)

    async def _read(self, request: web.BaseRequest, held: Held) -> bytes | Refusal:
        """Read the raw body, within the limit, the room there is, and the deadline."""
        content = request.content
        try:
            await _invite(request)
            if content.is_eof():  # a small one comes along with its headers: nothing to wait for
                body = content.read_nowait()
                return self._hold(held, len(body)) or body
            async with asyncio.timeout(self._settings.read_timeout):
                return await self._gather(content, held)
        except TimeoutError:
            return Refusal(400, "slow_body", "the body took too long to arrive")
        except _BROKEN_OFF as error:
            return Refusal(400, "broken_body", f"the body broke off: {type(error).__name__}")
        except RuntimeError:
            # aiohttp's word for a sender that had gone before its body was asked for.
            if request.transport is not None:
                raise
            return Refusal(400, "broken_body", "the sender hung up before its body came")

    async def _gather(self, content: StreamReader, held: Held) -> bytes | Refusal:
        """Read a body as it arrives, to its end or to where it cannot be held."""
        chunks = []
        while chunk := await content.readany():
            refusal = self._hold(held, len(chunk))
            if refusal is not None:
                return refusal
            chunks.append(chunk)
        return b"".join(chunks)

    def _hold(self, held: Held, count: int) -> Refusal | None:
        """Hold so many bytes more of a body; say why that cannot be."""
        limit = self._settings.body_limit
        if held.bytes + count > limit:
            return too_large(limit)
        return None if held.grow(count) else _BUSY

    async def _healthz(self) -> web.Response:
        return web.Response(text="ok\n")

    async def _show_metrics(self) -> web.Response:
        rendered = self._metrics.render()
        if rendered is None:
            detail = "install hookmill[metrics] to see metrics here"
            return self._respond(Refusal(501, "not_installed", detail))
        text, content_type = rendered
        return web.Response(body=text, headers={hdrs.CONTENT_TYPE: content_type})

    async def _readyz(self) -> web.Response:
        if self._quiet:
            return self._respond(Refusal(503, "stopping", "the receiver is stopping"))
        if self._probing is None:
            # One for all who ask meanwhile: a crowd of them must not use up the connections.
            self._probing = asyncio.create_task(self._probe())
        ready = await asyncio.shield(self._probing)
        if ready is None:
            return self._respond(Refusal(503, "stream_unavailable", "nothing takes a message now"))
        return web.Response(text=ready)

    async def _probe(self) -> str | None:
        """Ask whether a delivery could be stored now, and say where; None: nowhere. Log the
        answer when it changes.
        """
        try:
            ready, trouble = await self._where_to()
        finally:
            self._probing = None
        if trouble and trouble != self._trouble:
            log.warning("not ready" if ready is None else "ready, spooling", error=trouble)
        elif self._trouble and not trouble:
            log.info("ready again")
        self._trouble = trouble
        return ready

    async def _where_to(self) -> tuple[str | None, str]:
        """Return what to tell who asks for readiness, and what the trouble is, if any."""
        trouble = ""
        try:
            async with asyncio.timeout(self._settings.append_timeout):
                await self._stream.probe()
        except (StreamUnavailableError, TimeoutError) as error:
            trouble = str(error) or "Redis did not answer in time"
        if self._spool is None:
            return (None if trouble else "ready\n"), trouble
        if not trouble and not self._spool.is_active:
            return "ready\n", ""
        # Behind what is in the spool there is no other way than the spool.
        try:
            await self._spool.probe()
        except SpoolError as error:
            return None, f"{trouble}; {error}" if trouble else str(error)
        if trouble:
            return "ready, deliveries go to the spool: Redis takes no writes\n", trouble
        return "ready, deliveries go to the spool until it is drained\n", ""

    def _log(
        self, write: Callable[..., object], event: str, source: Source, kind: str, **words: object
    ) -> None:
        """Write a line that strangers can cause: few of a kind pass in a second."""
        limit = self._limits[source.name, kind]
        if limit.passes():
            write(event, source=source.name, **words, **limit.report())

    def _respond_for(
        self, request: web.BaseRequest, source: Source, outcome: Refusal | Answer | None
    ) -> web.StreamResponse:
        """Tell a sender what became of its request."""
        if outcome is None:
            if request.keep_alive and request.version == HttpVersion11 and not self._quiet:
                return self._receipt(source.status)
            return web.Response(status=source.status)
        if isinstance(outcome, Refusal):
            allow = ["POST", *handshake.METHODS.get(source.handshake, ())]
            return self._respond(outcome, ", ".join(allow))
        return web.Response(
            status=outcome.status,
            body=outcome.body,
            content_type=outcome.content_type,
            # What is repeated is text, whatever it looks like.
            headers={"X-Content-Type-Options": "nosniff"},
        )

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


def _word_for(outcome: Refusal | Answer | None) -> str:
    """Name an outcome where outcomes are counted."""
    if isinstance(outcome, Refusal):
        return outcome.code
    return "accepted" if outcome is None else "answered"


async def _invite(request: web.BaseRequest) -> None:
    """Send the "100 Continue" that a sender waits for before it sends the body."""
    expected = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    if expected and request.version >= HttpVersion11:  # HTTP/1.0 knows no such answer
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # those bytes are not the answer
