"""The receiver's HTTP: routes, bodies, health and shutdown.

A delivery that arrived whole comes by `take`, any other request by `_answer`, which reads its body
first; from there both go the same way (`reception`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from http import HTTPStatus

import msgspec
import structlog
from aiohttp import ClientPayloadError, HttpVersion11, StreamReader, hdrs, web
from aiohttp.http_exceptions import BadHttpMessage

from hookmill.config.settings import Settings
from hookmill.config.sources import Source
from hookmill.errors import StreamUnavailableError
from hookmill.stream.producer import Producer
from receiver import handshake
from receiver.appender import Appender
from receiver.capacity import Held
from receiver.certificates import Certificates
from receiver.drainer import Drainer
from receiver.fastpath import Server, Write
from receiver.intake import Request, too_large
from receiver.log_limits import server_logger
from receiver.pipeline import BUSY, Outcome, Pipeline
from receiver.reply import Reply
from receiver.responses import Refusal
from receiver.spool import Spool, SpoolError

log = structlog.get_logger("receiver")

_KEEPALIVE = 75.0
_LINGER = 2.0
"""Seconds to go on reading what a refused sender still sends, so that it sees the answer."""

_BROKEN_OFF = (web.RequestPayloadError, ClientPayloadError, BadHttpMessage, OSError)

_CUT_OFF = 0.5
"""Seconds aiohttp is given to end what is still running when the deadline has passed."""


class Receiver:
    """Program 1. Start it, quiet it (health says no, so that the load balancer looks elsewhere),
    stop it within a deadline.
    """

    def __init__(
        self,
        settings: Settings,
        sources: Iterable[Source],
        stream: Producer,
        certificates: Certificates | None = None,
    ) -> None:
        self._settings = settings
        self._stream = stream
        self._spool = Spool(settings.spool, settings.spool_limit) if settings.spool else None
        self._drainer = (
            Drainer(self._spool, stream, settings.append_timeout) if self._spool else None
        )
        self._appender = Appender(stream, settings.append_timeout, self._spool)
        self._reception = Pipeline(settings, self._appender, certificates)
        self._sources: dict[str, Source] = {}
        self.replace_sources(sources)
        self._probes = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._show_metrics,
        }
        self._probing: asyncio.Task[str | None] | None = None
        self._trouble = ""
        self.is_quiet = False
        """Whether connections are no longer kept, for the receiver is about to stop."""
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._runner = web.ServerRunner(
            Server(
                self._answer,
                self,
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
            self._reception.metrics.know(source.name, source.scheme.labels)

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
        self.is_quiet = True

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
        await self._reception.close()
        await self._appender.close()
        if self._probing is not None:
            await asyncio.wait([self._probing])
        if self._spool is not None and self._drainer is not None:
            await self._drainer.stop()
            await self._spool.close()

    def find(self, target: str) -> Source | None:
        """Return the source at a path; None where there is none, or no connection is kept."""
        return None if self.is_quiet else self._sources.get(target.partition("?")[0])

    def take(self, source: Source, request: Request, write: Write) -> None:
        """Take a whole delivery, sent with POST, and write its answer when there is one."""
        reception, room, size = self._reception, self._reception.room, len(request.body)
        self._begin()
        refused = reception.refusal(source, "POST", request.headers, size)
        room.bytes += size  # also of what is refused, for as long as that takes

        def told(outcome: Outcome) -> None:
            room.bytes -= size
            self._end()
            reply = self._reply_to(outcome, source)
            write(reply.render(is_last=self.is_quiet))
            reception.tell(source, outcome)

        if refused is not None:
            told(refused)
        else:
            reception.take(source, request, told)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, and say whether the connection can serve another."""
        self._begin()
        try:
            response = await self._route(request)
        finally:
            self._end()
        # A body that was not read to its end could be taken for the next request, or that for it.
        if self.is_quiet or not request.content.is_eof():
            response.force_close()
        return response

    def _begin(self) -> None:
        self._in_flight += 1
        self._idle.clear()

    def _end(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        """Find what the request is: a probe, or a delivery to be accepted or refused."""
        path = request.raw_path.partition("?")[0]
        source = self._sources.get(path)
        if source is not None:
            outcome = await self._receive(request, source)
            self._reception.tell(source, outcome)
            return _response(self._reply_to(outcome, source))
        probe = self._probes.get(path)
        if probe is None:
            return self._refuse(Refusal(404, "unknown_source", "no source is configured here"))
        if request.method not in {"GET", "HEAD"}:
            return self._refuse(
                Refusal(405, "method_not_allowed", "ask with GET"), allow="GET, HEAD"
            )
        return await probe()

    async def _receive(self, request: web.BaseRequest, source: Source) -> Outcome:
        """Read a delivery's body and take it, or answer what is none."""
        reception, length = self._reception, request.content_length
        refusal = reception.refusal(source, request.method, request.headers, length)
        if refusal is not None:
            return refusal
        if request.method != "POST":
            return handshake.asked(source, request.method, request.raw_path)
        with Held(reception.room) as held:
            body = await self._read(request, held)
            if isinstance(body, Refusal):
                return body
            outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            whole = Request(request.raw_path, request.headers, request.raw_headers, body)
            reception.take(source, whole, partial(_resolve, outcome))
            return await outcome

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
        return None if held.grow(count) else BUSY

    async def _healthz(self) -> web.Response:
        return web.Response(text="ok\n")

    async def _show_metrics(self) -> web.Response:
        rendered = self._reception.metrics.render()
        if rendered is None:
            detail = "install hookmill[metrics] to see metrics here"
            return self._refuse(Refusal(501, "not_installed", detail))
        text, content_type = rendered
        return web.Response(body=text, headers={hdrs.CONTENT_TYPE: content_type})

    async def _readyz(self) -> web.Response:
        if self.is_quiet:
            return self._refuse(Refusal(503, "stopping", "the receiver is stopping"))
        if self._probing is None:
            # One for all who ask meanwhile: a crowd of them must not use up the connections.
            self._probing = asyncio.create_task(self._probe())
        ready = await asyncio.shield(self._probing)
        if ready is None:
            return self._refuse(Refusal(503, "stream_unavailable", "nothing takes a message now"))
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

    def _reply_to(self, outcome: Outcome, source: Source) -> Reply:
        """Tell a sender what became of its request."""
        if outcome is None:
            return Reply(source.status)
        if isinstance(outcome, Refusal):
            allow = ["POST", *handshake.METHODS.get(source.handshake, ())]
            return self._refusal(outcome, ", ".join(allow))
        # What is repeated is text, whatever it looks like.
        headers = (
            (hdrs.CONTENT_TYPE, outcome.content_type),
            ("X-Content-Type-Options", "nosniff"),
        )
        return Reply(outcome.status, outcome.body, headers)

    def _refusal(self, refusal: Refusal, allow: str) -> Reply:
        headers = [(hdrs.CONTENT_TYPE, "application/json")]
        if refusal.status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append((hdrs.ALLOW, allow))
        if refusal.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append((hdrs.RETRY_AFTER, str(self._settings.retry_after)))
        body = msgspec.json.encode({"error": refusal.code, "detail": refusal.detail})
        return Reply(refusal.status, body, tuple(headers))

    def _refuse(self, refusal: Refusal, allow: str = "") -> web.Response:
        return _response(self._refusal(refusal, allow))


def _response(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, body=reply.body or None, headers=dict(reply.headers))


def _resolve(outcome: asyncio.Future[Outcome], told: Outcome) -> None:
    if not outcome.done():  # or the request was given up meanwhile
        outcome.set_result(told)


async def _invite(request: web.BaseRequest) -> None:
    """Send the "100 Continue" that a sender waits for before it sends the body."""
    expected = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    if expected and request.version >= HttpVersion11:  # HTTP/1.0 knows no such answer
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # those bytes are not the answer
