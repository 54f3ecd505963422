"""The spans of a receiver: one for each whole delivery, and below it how its message is stored.

A delivery begins a trace. What the sender says about a trace of its own is a link and no more:
otherwise any stranger could have us record. A trusted source's trace goes on instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import random
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from hookmill.config.sources import Source
from hookmill.instrumentation.traceparent import (
    TRACEPARENT,
    baggage_of,
    traceparent_of,
)
from hookmill.message import Message
from hookmill.printable import encodable
from hookmill.runtime.log_pace import LogPace
from hookmill.stream.arrival import Arrival
from receiver.intake import ReceivedRequest
from receiver.responses import OnResult, Refusal, Result

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from hookmill.instrumentation.tracing import Tracing


log = structlog.get_logger("receiver")


class DeliveryTraces:
    """Begins the trace of each delivery, and makes the spans of batches. Without it there are no
    traces.
    """

    def __init__(self, tracing: Tracing) -> None:
        from hookmill.instrumentation import tracing as spans  # noqa: PLC0415 - an extra

        self._spans = spans
        self._tracing = tracing
        self._sample = tracing.sample
        self.creating: dict[bytes, Span] = {}
        """The spans of messages that are not stored yet, by what goes with the messages."""
        self._log_pace = LogPace()
        self._routes: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}

    def begin(self, source: Source, request: ReceivedRequest) -> TracedDelivery | None:
        """Start the span of a delivery that has arrived whole; None where it has no trace. Whatever
        the user's SDK does, the delivery is taken.
        """
        is_chosen = random() < self._sample  # noqa: S311 - it is no secret
        # Most deliveries end here. What is done for each of them costs more than what is recorded.
        if not is_chosen and not (source.trusts_trace and TRACEPARENT in request.headers):
            return None
        try:
            return self._begin(source, request, is_chosen=is_chosen)
        except Exception as error:  # noqa: BLE001 - a sampler of the user's may raise anything
            self.failed(error)
            return None

    def _begin(
        self, source: Source, request: ReceivedRequest, *, is_chosen: bool
    ) -> TracedDelivery | None:
        given, baggage = None, b""
        if source.trusts_trace and (given := traceparent_of(request.headers)) is not None:
            baggage = baggage_of(request.headers)
            if not given.is_sampled and self._sample < 1:  # the sender has decided
                return TracedDelivery(str(given).encode(), baggage)
        elif not is_chosen:
            return None
        name, attributes = self._routes.get((source.name, source.path)) or self._route(source)
        size = {"http.request.body.size": len(request.body)}
        span = self._tracing.server_span(name, given, attributes | size)
        if not span.is_recording():
            return TracedDelivery(self._spans.written(span), baggage)
        if not source.trusts_trace and (stranger := traceparent_of(request.headers)) is not None:
            self._spans.link(span, stranger)
        return RecordedDelivery(self, span, source, baggage)

    def create_span(self, parent: Span, arrival: Arrival) -> Span:
        """Start the span of a message that is to be stored."""
        more = {
            "messaging.message.id": arrival.id,
            "hookmill.source": arrival.source,
            "hookmill.event.type": arrival.type,
        }
        return self._tracing.span("create", parent, (), _printable(more))

    def sending(self, messages: Iterable[Message]) -> Span | None:
        """Start the span of an append; None where no message is recorded. `sent` ends it."""
        if not self.creating:
            return None
        try:
            return self._send_span(messages)
        except Exception as error:  # noqa: BLE001 - as in `begin`
            self.failed(error)
            return None

    def sent(self, span: Span, error: Exception | None) -> None:
        """End the span of an append."""
        try:
            if error is not None:
                self._spans.fail(span, getattr(error, "code", type(error).__name__), str(error))
            span.end()
        except Exception as fault:  # noqa: BLE001 - as in `begin`
            self.failed(fault)

    def _send_span(self, messages: Iterable[Message]) -> Span | None:
        """Start it in the trace of the first message that is recorded, with links to all."""
        recorded = [
            span
            for one in messages
            if isinstance(one, Arrival)
            and one.trace
            and (span := self.creating.get(one.trace)) is not None
        ]
        if not recorded:
            return None
        count = {"messaging.batch.message_count": len(recorded)}
        return self._tracing.span("send", recorded[0], recorded, count)

    def written(self, span: Span) -> bytes:
        """Return the `traceparent` of a span."""
        return self._spans.written(span)

    def fail(self, span: Span, error_type: str, text: str = "") -> None:
        """Note that what a span stands for has failed."""
        self._spans.fail(span, error_type, text)

    def failed(self, error: Exception) -> None:
        """Log that spans cannot be made."""
        if self._log_pace.failed():
            log.error("spans cannot be made", error=repr(error), **self._log_pace.failures)

    def _route(self, source: Source) -> tuple[str, dict[str, Any]]:
        """Return the name of the span of a source's deliveries, and what is the same for all."""
        made = (
            f"POST {source.path}",
            {
                "http.request.method": "POST",
                "http.route": source.path,
                "url.path": source.path,
                "url.scheme": "http",
                "hookmill.source": source.name,
            },
        )
        self._routes[source.name, source.path] = made
        return made


class TracedDelivery:
    """A delivery whose trace is not recorded: it goes with the message all the same, so that nobody
    begins another one.
    """

    __slots__ = ("baggage", "trace")

    def __init__(self, trace: bytes, baggage: bytes) -> None:
        self.trace = trace
        self.baggage = baggage

    def stored_with(self, arrival: Arrival) -> Arrival:
        """Return the message with its trace."""
        if not self.trace:
            return arrival
        return msgspec.structs.replace(arrival, trace=self.trace, baggage=self.baggage)

    def ending(self, on_result: OnResult) -> OnResult:
        """Return what is to be called with the result."""
        return on_result


UNTRACED = TracedDelivery(b"", b"")
"""A delivery that has no trace."""


class RecordedDelivery(TracedDelivery):
    """A delivery whose spans are recorded."""

    __slots__ = ("_create", "_source", "_span", "_traces")

    def __init__(self, traces: DeliveryTraces, span: Span, source: Source, baggage: bytes) -> None:
        super().__init__(traces.written(span), baggage)
        self._traces = traces
        self._span = span
        self._source = source
        self._create: Span | None = None

    def stored_with(self, arrival: Arrival) -> Arrival:
        """Start the span that tells how long the message takes to be stored. Its context goes with
        the message.
        """
        try:
            self._create = self._traces.create_span(self._span, arrival)
            self.trace = self._traces.written(self._create)
            self._traces.creating[self.trace] = self._create
        except Exception as error:  # noqa: BLE001 - as in `DeliveryTraces.begin`
            self._traces.failed(error)
        return super().stored_with(arrival)

    def ending(self, on_result: OnResult) -> OnResult:
        """Return what is to be called with the result: it ends the spans, too."""

        def end(result: Result) -> None:
            try:
                self._end(result)
            except Exception as error:  # noqa: BLE001 - as in `DeliveryTraces.begin`
                self._traces.failed(error)
            on_result(result)

        return end

    def _end(self, result: Result) -> None:
        if self._create is not None:
            self._traces.creating.pop(self.trace, None)
        status = self._source.status if result is None else result.status
        self._span.set_attribute("http.response.status_code", status)
        if isinstance(result, Refusal):
            for span in (self._span, self._create):
                if span is not None:
                    self._fail(span, result)
        if self._create is not None:
            self._create.end()
        self._span.end()

    def _fail(self, span: Span, refusal: Refusal) -> None:
        # That a client is refused is no failure of the server, by OpenTelemetry's conventions.
        if refusal.status >= 500 or span is self._create:
            self._traces.fail(span, refusal.code, refusal.detail)
        else:
            span.set_attribute("error.type", refusal.code)


def _printable(attributes: dict[str, str]) -> dict[str, str]:
    """Return texts that UTF-8 can express: a sender may have given lone surrogates."""
    return {name: encodable(text) for name, text in attributes.items()}
