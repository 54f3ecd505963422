"""Spans by OpenTelemetry's API, named by its conventions for messaging. What a message carries goes
in and out as `TraceParent` and bytes, so nothing else in the programs imports OpenTelemetry.

Importing this needs the extra `otel`; `trace_setup` does it only where traces are on.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from hookmill.instrumentation.traceparent import MAX_BAGGAGE, TraceParent, read_traceparent

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

# To make a context by itself takes a quarter of the time of `set_span_in_context`.
(_SPAN_KEY,) = set_span_in_context(INVALID_SPAN, _NOTHING)


class Tracing:
    """Makes a program's spans. `destination` is where messages go to: the prefix of the keys in
    Redis. If `is_joined`, attempts go on in the trace of the delivery. `sample` is the share of
    deliveries for which a span is asked of the SDK.
    """

    def __init__(
        self, tracer: Tracer, destination: str, *, is_joined: bool, sample: float = 1.0
    ) -> None:
        self._tracer = tracer
        self._destination = destination
        self.is_joined = is_joined
        self.sample = sample
        self._names = {operation: f"{operation} {destination}" for operation in _KINDS}
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
        parent: Span | TraceParent | None,
        links: Iterable[Span | TraceParent] = (),
        more: Mapping[str, Any] | None = None,
    ) -> Span:
        """Start the span of an operation on messages: create, send, process or ack. `more` are
        attributes of its own. Without a parent it begins a trace.
        """
        attributes = self._attributes[operation]
        return self._tracer.start_span(
            self._names[operation],
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


class Unrecorded(NonRecordingSpan):
    """The span of messages that are not recorded. What a handler begins below it is not either, and
    whom it calls learns that. With a `trace` it has the IDs of that; otherwise each task gets new
    ones when it asks, so that one such span serves for all.
    """

    def __init__(self, trace: bytes = b"") -> None:
        self._given = read_traceparent(trace.decode("ascii", "replace"))

    def get_span_context(self) -> SpanContext:
        """Return the IDs, and the flag that says that nothing is recorded."""
        if self._given is not None:
            return _context_of(self._given)
        made = _made.get()
        if made is None:
            trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
            made = _context_of(TraceParent(trace_id, span_id, flags=0))
            _made.set(made)
        return made


_made: ContextVar[SpanContext | None] = ContextVar("made", default=None)


def make_current(span: Span, baggage: bytes = b"") -> None:
    """Make a span current in this task, which ends with it, and the baggage of a message too."""
    context = Context({_SPAN_KEY: span})
    if baggage:
        context = _baggage.extract({"baggage": baggage.decode("ascii", "replace")}, context)
    attach(context)


def current_headers(*, with_baggage: bool) -> dict[str, str]:
    """Return the headers of the trace that is current, and of the baggage up to `MAX_BAGGAGE`."""
    found: dict[str, str] = {}
    if text := written(get_current_span()):
        found["traceparent"] = text.decode()
    if with_baggage:
        carrier: dict[str, str] = {}
        _baggage.inject(carrier)
        if len(carrier.get("baggage", "")) <= MAX_BAGGAGE:
            found |= carrier
    return found


def _within(parent: Span | TraceParent | None) -> Context:
    """Return the context whose current span is this one."""
    if parent is None:
        return _NOTHING
    is_far = isinstance(parent, TraceParent)  # not `Span`, whose check is slow: it is abstract
    return Context({_SPAN_KEY: NonRecordingSpan(_context_of(parent)) if is_far else parent})


def _context_of(given: Span | TraceParent) -> SpanContext:
    if not isinstance(given, TraceParent):
        return given.get_span_context()
    flags = TraceFlags(given.flags)
    trace_id, span_id = int(given.trace_id, 16), int(given.span_id, 16)
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
