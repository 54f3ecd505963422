"""A real SDK of OpenTelemetry whose spans stay in memory, and how tests read them."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON, ParentBased

from hookmill.instrumentation.tracing import Tracing


class Spans:
    """An SDK of its own for a test: it samples all or nothing, and follows the parent."""

    def __init__(self, *, samples: bool = True) -> None:
        self._exporter = InMemorySpanExporter()
        sampler = DEFAULT_ON if samples else ParentBased(ALWAYS_OFF)
        self._provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))

        self.tracer = self._provider.get_tracer("test")

    def tracing(
        self, destination: str = "hookmill", *, is_joined: bool = True, sample: float = 1.0
    ) -> Tracing:
        return Tracing(self.tracer, destination, is_joined=is_joined, sample=sample)

    @property
    def ended(self) -> list[ReadableSpan]:
        """The spans that have ended, in the order of their ends."""
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.ended if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


def trace_of(span: ReadableSpan) -> str:
    return f"{_context(span).trace_id:032x}"


def id_of(span: ReadableSpan) -> str:
    return f"{_context(span).span_id:016x}"


def parent_of(span: ReadableSpan) -> str:
    """The ID of a span's parent, "" if it has none."""
    return "" if span.parent is None else f"{span.parent.span_id:016x}"


def links_of(span: ReadableSpan) -> list[str]:
    """The IDs of the spans that a span is linked to."""
    return [f"{link.context.span_id:016x}" for link in span.links]


def facts_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def _context(span: ReadableSpan) -> Any:
    return span.get_span_context()
