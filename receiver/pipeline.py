"""What becomes of a delivery: judged, counted, stored, and the outcome told.

One way for all of them, without awaiting anything; only where judging takes a request of our own
(a certificate, say) a task is made for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import structlog
from multidict import MultiMapping

from hookmill.config.settings import Settings
from hookmill.config.sources import Source
from hookmill.errors import (
    BacklogFullError,
    CertificateUnavailableError,
    NotConfirmedError,
    StreamUnavailableError,
    TokenReusedError,
)
from hookmill.signatures import Refused
from hookmill.signatures.scheme import NeedsCertificate
from hookmill.stream.arrival import Arrival
from receiver import handshake
from receiver.appender import Appender
from receiver.capacity import Capacity
from receiver.certificates import Certificates
from receiver.intake import Request, admit, delivery_of, precheck
from receiver.log_limits import Limit, server_logger
from receiver.metrics import Metrics
from receiver.responses import Answer, Confirmation, Refusal

log = structlog.get_logger("receiver")

BUSY = Refusal(503, "busy", "the receiver holds as much as it may; come again")

FAULT = Refusal(500, "internal_error", "the receiver failed; send it again")

Outcome = Refusal | Answer | None
"""Why a delivery was turned away, the answer if it was a question, or None when it is stored."""

Then = Callable[[Outcome], None]


class Pipeline:
    """Takes deliveries in. Only the event loop touches it."""

    def __init__(
        self, settings: Settings, appender: Appender, certificates: Certificates | None
    ) -> None:
        self.room = Capacity(settings.queue_messages, settings.queue_bytes)
        self.metrics = Metrics()
        self._body_limit = settings.body_limit
        self._appender = appender
        self._certificates = certificates or Certificates()
        self._fetching: set[asyncio.Task[None]] = set()
        self._limits: defaultdict[tuple[str, str], Limit] = defaultdict(Limit)

    def refusal(
        self, source: Source, method: str, headers: MultiMapping[str], length: int | None
    ) -> Refusal | None:
        """Judge what can be judged without the body; None: it may be read."""
        also = handshake.METHODS.get(source.handshake, ())
        refused = precheck(method, headers, length, self._body_limit, also=also)
        if refused is None and (self.room.is_crowded or not self.room.fits(length or 0)):
            return BUSY
        return refused

    def take(self, source: Source, request: Request, then: Then) -> None:
        """Judge a delivery and have it stored if it is genuine; `then` is told the outcome, be it
        now or later.
        """
        try:
            admitted = admit(source, request, time.time())
        except Exception:  # noqa: BLE001 - a fault of ours, logged by its limited logger
            server_logger().exception("cannot judge a delivery to %s", source.name)
            admitted = FAULT
        if isinstance(admitted, Arrival):
            self._store(source, admitted, then)
        elif isinstance(admitted, NeedsCertificate | Confirmation):
            task = asyncio.create_task(self._ask(source, request, admitted, then))
            self._fetching.add(task)
            task.add_done_callback(self._fetching.discard)
        else:
            then(admitted)

    def tell(self, source: Source, outcome: Outcome) -> None:
        """Count an outcome, and log one that left no message."""
        if outcome is None:
            self.metrics.count(source.name, "accepted")
        elif isinstance(outcome, Refusal):
            self.metrics.count(source.name, outcome.code)
            self._log(
                log.warning, "refused", source, outcome.code, code=outcome.code,
                detail=outcome.detail, status=outcome.status,
            )  # fmt: skip
        else:
            self.metrics.count(source.name, "answered")
            self._log(log.info, "answered", source, "", handshake=source.handshake)

    async def close(self) -> None:
        """End the requests of our own that are under way."""
        await self._certificates.close()
        if self._fetching:
            await asyncio.wait(self._fetching)

    def _store(self, source: Source, arrival: Arrival, then: Then) -> None:
        self.metrics.matched(source.name, source.scheme.labels[arrival.secret])
        if self.room.is_crowded:
            then(BUSY)
            return
        self.room.messages += 1
        self._appender.put(arrival, partial(self._stored, source, arrival, then))

    def _stored(
        self, source: Source, arrival: Arrival, then: Then, error: Exception | None
    ) -> None:
        self.room.messages -= 1
        then(None if error is None else _refusal_for(error, source, arrival))

    async def _ask(
        self, source: Source, request: Request, what: Confirmation | NeedsCertificate, then: Then
    ) -> None:
        """Fetch what judging a delivery takes, and take it anew; or do what it asks for."""
        try:
            outcome = await self._fetch(source, request, what)
        except Exception:  # noqa: BLE001 - as above
            server_logger().exception("cannot judge a delivery to %s", source.name)
            outcome = FAULT
        if outcome is None:
            self.take(source, request, then)
        else:
            then(outcome)

    async def _fetch(
        self, source: Source, request: Request, what: Confirmation | NeedsCertificate
    ) -> Outcome:
        """Return None where the delivery can now be judged."""
        try:
            if isinstance(what, Confirmation):
                await self._certificates.confirm(what.url)
                return Answer()
            delivery = delivery_of(source, request)
            verdict = await self._certificates.judge(source.scheme, delivery, time.time())
        except (CertificateUnavailableError, NotConfirmedError) as error:
            self._log(log.warning, "not to be had", source, f"{error.code}, why", error=str(error))
            return Refusal(503, error.code, "what this takes cannot be had now; send it again")
        return Refusal(401, verdict.code, verdict.detail) if isinstance(verdict, Refused) else None

    def _log(
        self, write: Callable[..., object], event: str, source: Source, kind: str, **words: object
    ) -> None:
        """Write a line that strangers can cause: few of a kind pass in a second."""
        limit = self._limits[source.name, kind]
        # Nobody's answer depends on a log that can be written.
        with suppress(OSError, ValueError):
            if limit.passes():
                write(event, source=source.name, **words, **limit.report())


def _refusal_for(error: Exception, source: Source, arrival: Arrival) -> Refusal:
    """Say what a sender is told whose delivery could not be stored."""
    if isinstance(error, TokenReusedError):
        return Refusal(401, error.code, "the token came before, with another message ID")
    if isinstance(error, BacklogFullError):
        return Refusal(503, error.code, "too many messages wait to be handled; come again")
    if not isinstance(error, StreamUnavailableError):
        return FAULT
    log.error("append failed", error=str(error), id=arrival.id, source=source.name)
    return Refusal(503, error.code, "the message could not be stored; send it again")
