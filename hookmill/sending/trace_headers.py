"""The headers by which a message goes on in the trace of the code that sends it.

They are sent only where HOOKMILL_TRACES asks for traces. Where it does not, nothing is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import get_args

from hookmill.config.settings import Settings, setting_given
from hookmill.errors import SettingsError
from hookmill.sending.outgoing import Outgoing


class TraceHeaders:
    """Adds `traceparent` to messages, and `baggage` if that is asked for. Neither to one whose
    content QStash compares, because no two would be equal, nor where the user gave a header.
    """

    def __init__(self, tracing: ModuleType, *, with_baggage: bool) -> None:
        self._tracing = tracing
        self._with_baggage = with_baggage

    def added_to(self, outgoing: Outgoing) -> Outgoing:
        """Return the message with the headers of the trace that is current now."""
        given = {} if outgoing.headers is None else outgoing.headers
        if outgoing.content_based_deduplication or not isinstance(given, Mapping):
            return outgoing  # what is no mapping is refused later
        found: dict[str, str] = self._tracing.current_headers(with_baggage=self._with_baggage)
        names = {str(name).lower() for name in given}
        added = {name: value for name, value in found.items() if name not in names}
        return replace(outgoing, headers={**given, **added}) if added else outgoing


def trace_headers(*, with_baggage: bool) -> TraceHeaders | None:
    """Return what adds the headers; None where traces are off. Raises `SettingsError`.

    It reads this one setting alone: what else is wrong in the settings is none of a sender's.
    """
    mode = setting_given("traces") or "off"
    allowed = get_args(Settings.model_fields["traces"].annotation)
    if mode not in allowed:
        raise SettingsError([f"HOOKMILL_TRACES: use one of {', '.join(allowed)} (got {mode!r})"])
    if mode == "off":
        return None
    try:
        from hookmill.instrumentation import tracing  # noqa: PLC0415 - an extra
    except ImportError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise SettingsError(
            [f"HOOKMILL_TRACES={mode}: it needs OpenTelemetry: install hookmill[otel]"]
        ) from None
    return TraceHeaders(tracing, with_baggage=with_baggage)
