"""The SDK of OpenTelemetry for `benchmarks.cockpit`: spans are encoded as for a collector, and then
thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult


class Thrower(SpanExporter):
    """Does all that an exporter does, but for sending."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


def start() -> None:
    """Set the SDK up."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Thrower()))
    trace.set_tracer_provider(provider)
