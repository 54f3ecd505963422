"""Takes a delivery from its request to its result: verify it, have it stored, count and log it.

Nothing is awaited on the way, so a delivery needs no task of its own. Only where a request of our
own must be made first (to fetch a certificate or to confirm a subscription) a task is started.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus

import structlog
from multidict import MultiMapping

from hookmill.config.settings import Settings
from hookmill.config.sources import Source
from hookmill.errors import CertificateUnavailableError, NotConfirmedError
from hookmill.runtime.log_limit import LogLimit
from hookmill.signatures import Refused
from hookmill.signatures.scheme import NeedsCertificate
from hookmill.stream.arrival import Arrival
from receiver import handshake
from receiver.appender import Appender
from receiver.capacity import Capacity
from receiver.certificates import Certificates
from receiver.intake import Admitted, ReceivedRequest, admit, delivery_of, precheck
from receiver.lane_appenders import LaneAppenders
from receiver.log_limits import server_logger
from receiver.metrics import Metrics
from receiver.refused import RefusedKeeper
from receiver.responses import BUSY, FAULT, OnResult, Refusal, Reply, Result, refusal_of
from receiver.traces import UNTRACED, DeliveryTraces, TracedDelivery

log = structlog.get_logger("receiver")

_OURS = 500
"""From this status on it is not the delivery that was wrong."""


class _Times(dict[str, Callable[[float], None]]):
    """What counts the times of each source, made when it is first asked for."""

    def __init__(self, make: Callable[[str], Callable[[float], None]]) -> None:
        self._make = make

    def __missing__(self, source: str) -> Callable[[float], None]:
        """Return that of a source that is new."""
        made = self[source] = self._make(source)
        return made


Take = Callable[[Source, ReceivedRequest, OnResult], None]


class Pipeline:
    """The way of every delivery. Only the event loop uses it."""

    def __init__(
        self,
        settings: Settings,
        appender: Appender | LaneAppenders,
        certificates: Certificates | None,
        traces: DeliveryTraces | None = None,
        refused: RefusedKeeper | None = None,
    ) -> None:
        self.capacity = Capacity(settings.queue_bytes)
        self.metrics = Metrics(settings.metrics_types)
        self._body_limit = settings.body_limit
        self._most_waiting = settings.queue_messages
        self._appender = appender
        self._certificates = certificates or Certificates()
        self._traces = traces
        self._refused = refused
        self._tasks: set[asyncio.Task[None]] = set()
        self._log_limits: defaultdict[tuple[str, str], LogLimit] = defaultdict(LogLimit)
        self.take: Take = self._take
        """Verify a delivery and have its message stored. The result is told now or later."""

    def precheck(
        self, source: Source, method: str, headers: MultiMapping[str], length: int | None
    ) -> Refusal | None:
        """Check what can be checked before the body is read. None: read it."""
        also = handshake.METHODS.get(source.handshake, ())
        refusal = precheck(method, headers, length, self._body_limit, also=also)
        if refusal is None and (
            self._appender.waiting >= self._most_waiting
            or not self.capacity.could_hold(source.name, length or 0)
        ):
            return BUSY
        return refusal

    def check_whole(self, headers: MultiMapping[str], length: int) -> Refusal | None:
        """Do the same for a delivery that was sent with POST and has arrived whole, and make room
        for it.
        """
        refusal = precheck("POST", headers, length, self._body_limit)
        if refusal is None and (
            self._appender.waiting >= self._most_waiting or not self.capacity.make_room(length)
        ):
            return BUSY
        return refusal

    def time_deliveries(self) -> None:
        """Measure from now on how long each delivery takes, from its whole request to its answer.
        Where nobody asks for that, it costs nothing.
        """
        take, now = self._take, time.perf_counter
        times = _Times(self.metrics.times_of)

        def take_timed(source: Source, request: ReceivedRequest, on_result: OnResult) -> None:
            add, began = times[source.name], now()

            def on_timed_result(result: Result) -> None:
                on_result(result)
                add(now() - began)

            take(source, request, on_timed_result)

        self.take = take_timed

    def _take(
        self,
        source: Source,
        request: ReceivedRequest,
        on_result: OnResult,
        traced: TracedDelivery | None = None,
    ) -> None:
        if self._traces is not None and traced is None:
            traced = self._traces.begin(source, request)
            if traced is not None:
                on_result = traced.ending(on_result)
        try:
            admitted: Admitted = admit(source, request, time.time())
        except Exception:  # noqa: BLE001 - our own fault; its logger limits how often it is logged
            server_logger().exception("cannot judge a delivery to %s", source.name)
            admitted = FAULT
        if isinstance(admitted, Arrival):
            if traced is not None:
                admitted = traced.stored_with(admitted)
            self._store(source, admitted, on_result)
        elif isinstance(admitted, NeedsCertificate) or (
            isinstance(admitted, Reply) and admitted.confirm_url
        ):
            # Not None, because the delivery is taken a second time, and its trace has begun.
            asking = self._ask_first(source, request, admitted, on_result, traced or UNTRACED)
            task = asyncio.create_task(asking)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._answer(source, request, admitted, on_result)

    def report(self, source: Source, result: Result) -> None:
        """Count a result. Log it too, unless a message was stored: the appender logs that."""
        if result is None:
            self.metrics.count(source.name, "accepted")
        elif isinstance(result, Refusal):
            self.metrics.count(source.name, result.code)
            if result.status == HTTPStatus.SERVICE_UNAVAILABLE:
                self.metrics.count_unavailable(source.name)
            cause = {"cause": result.cause} if result.cause else {}
            self._log(
                log.warning, "refused", source, result.code, code=result.code,
                detail=result.detail, status=result.status, **cause,
            )  # fmt: skip
        else:
            self.metrics.count(source.name, "answered")
            self._log(log.info, "answered", source, "", handshake=source.handshake)

    async def close(self) -> None:
        """Cancel the requests of our own, and wait until their deliveries have their results."""
        await self._certificates.close()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._refused is not None:  # after the tasks, which may refuse one more
            await self._refused.stop()

    def _answer(
        self, source: Source, request: ReceivedRequest, result: Result, on_result: OnResult
    ) -> None:
        """Answer a delivery of which no message is made. A few refused ones are kept for a look."""
        if self._refused is not None and isinstance(result, Refusal) and result.status < _OURS:
            self._refused.note(source, request, result)
        on_result(result)

    def _store(self, source: Source, arrival: Arrival, on_result: OnResult) -> None:
        self.metrics.verified(source.name, source.scheme.labels[arrival.secret])
        # Checked again: many bodies may have been read since `precheck`.
        if self._appender.waiting >= self._most_waiting:
            on_result(BUSY)
        else:
            self._appender.put(arrival, on_result)

    async def _ask_first(
        self,
        source: Source,
        request: ReceivedRequest,
        admitted: NeedsCertificate | Reply,
        on_result: OnResult,
        traced: TracedDelivery,
    ) -> None:
        """Make the request of our own that a delivery needs, then go on with the delivery."""
        try:
            result = await self._ask(source, request, admitted)
        except Exception:  # noqa: BLE001 - as in `take`
            server_logger().exception("cannot judge a delivery to %s", source.name)
            result = FAULT
        if result is None:
            self._take(source, request, on_result, traced)
        else:
            self._answer(source, request, result, on_result)

    async def _ask(
        self, source: Source, request: ReceivedRequest, admitted: NeedsCertificate | Reply
    ) -> Reply | Refusal | None:
        """Confirm a subscription or fetch a certificate. None: now the delivery can be verified."""
        try:
            if isinstance(admitted, Reply):
                await self._certificates.confirm(admitted.confirm_url)
                return admitted
            delivery = delivery_of(source, request)
            verdict = await self._certificates.judge(source.scheme, delivery, time.time())
        except (CertificateUnavailableError, NotConfirmedError) as error:
            self._log(
                log.warning, "request to the sender failed", source, f"{error.code} (cause)",
                error=str(error),
            )  # fmt: skip
            return Refusal(503, error.code, "a request to the sender failed; send it again")
        return refusal_of(verdict) if isinstance(verdict, Refused) else None

    def _log(
        self, write: Callable[..., object], event: str, source: Source, kind: str, **words: object
    ) -> None:
        """Write a line that anybody can cause. Only a few lines of a kind are written a second."""
        limit = self._log_limits[source.name, kind]
        # A log that cannot be written must not keep a sender from its answer.
        with suppress(OSError, ValueError):
            if limit.passes():
                write(event, source=source.name, **words, **limit.report())
