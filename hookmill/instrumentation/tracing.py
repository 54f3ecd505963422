"""Spans by OpenTelemetry's API, named by its conventions for messaging. What a message carries goes
in and out as `TraceParent` and bytes, so nothing else in the programs imports OpenTelemetry.

Importing this needs the extra `otel`; `trace_setup` does it only where traces are on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from hookmill.instrumentation.traceparent import TraceParent

_NOTHING = Context()
"""The context of a span that begins a trace, whatever is current."""

_KINDS = {
    "create": SpanKind.PRODUCER,
    "send": SpanKind.CLIENT,
    "process": SpanKind.CONSUMER,
    "ack": SpanKind.CLIENT,
}
_TYPES = {"ack": "settle"}
"""The types of operations that have another name."""

_baggage = W3CBaggagePropagator()


class Tracing:
    """Makes a program's spans. `destination` is where messages go to: the prefix of the keys in
    Redis. If `is_joined`, attempts go on in the trace of the delivery.
    """

    def __init__(self, tracer: Tracer, destination: str, *, is_joined: bool) -> None:
        self._tracer = tracer
        self._destination = destination
        self.is_joined = is_joined
        self._attributes = {operation: self._attributes_of(operation) for operation in _KINDS}

    def _attributes_of(self, operation: str) -> dict[str, Any]:
        return {
            "messaging.system": "hookmill",
            "messaging.operation.name": operation,
            "messaging.operation.type": _TYPES.get(operation, operation),
            "messaging.destination.name": self._destination,
        }

    def server_span(
        self, name: str, parent: TraceParent | None, attributes: Mapping[str, Any]
    ) -> Span:
        """Start the span of a request. Without a parent it begins a trace."""
        return self._tracer.start_span(name, _within(parent), SpanKind.SERVER, attributes)

    def span(
        self,
        operation: str,
        parent: TraceParent | None,
        links: Iterable[TraceParent] = (),
        more: Mapping[str, Any] | None = None,
    ) -> Span:
        """Start the span of an operation on messages: create, send, process or ack. `more` are
        attributes of its own. Without a parent it begins a trace.
        """
        attributes = self._attributes[operation]
        return self._tracer.start_span(
            f"{operation} {self._destination}",
            _within(parent),
            _KINDS[operation],
            attributes if more is None else {**attributes, **more},
            [Link(_context_of(one)) for one in links],
        )


def written(span: Span) -> bytes:
    """Return the `traceparent` of a span; empty where there is no trace."""
    context = span.get_span_context()
    if not context.is_valid:
        return b""
    return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags)


def link(span: Span, other: TraceParent) -> None:
    """Link a span to another one, of any trace."""
    span.add_link(_context_of(other))


def fail(span: Span, error_type: str, text: str = "") -> None:
    """Note that what a span stands for has failed."""
    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR, text or None))


def make_current(span: Span | TraceParent | None, baggage: bytes = b"") -> None:
    """Make a span current in this task, which ends with it, and the baggage of a message too."""
    if isinstance(span, TraceParent):
        span = NonRecordingSpan(_context_of(span))
    context = _NOTHING if span is None else set_span_in_context(span, _NOTHING)
    if baggage:
        context = _baggage.extract({"baggage": baggage.decode("ascii", "replace")}, context)
    attach(context)


def _within(parent: TraceParent | None) -> Context:
    """Return the context whose current span is this one."""
    if parent is None:
        return _NOTHING
    return set_span_in_context(NonRecordingSpan(_context_of(parent)), _NOTHING)


def _context_of(given: TraceParent) -> SpanContext:
    flags = TraceFlags(given.flags)
    trace_id, span_id = int(given.trace_id, 16), int(given.span_id, 16)
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
