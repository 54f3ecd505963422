"""Sets traces up where the settings ask for them. Where they do not, nothing is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from hookmill.config.settings import Settings
from hookmill.errors import HandlersError, SettingsError
from hookmill.runtime.loading import load_module

if TYPE_CHECKING:
    from hookmill.instrumentation.tracing import Tracing

log = structlog.get_logger("runtime")


def tracing_of(settings: Settings) -> Tracing | None:
    """Return the tracing of a program that starts; None where it is off. It calls the function that
    the user has named to set up an SDK. Raises `SettingsError`; an error of that function is passed
    on unchanged.
    """
    if settings.traces == "off":
        return None
    try:
        from opentelemetry import trace  # noqa: PLC0415 - an extra

        from hookmill.instrumentation.tracing import Tracing  # noqa: PLC0415 - as above
    except ImportError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise SettingsError(
            [f"HOOKMILL_TRACES={settings.traces}: it needs OpenTelemetry: install hookmill[otel]"]
        ) from None
    if settings.traces_setup is not None:
        _call(settings.traces_setup)
    if type(trace.get_tracer_provider()) is trace.ProxyTracerProvider:
        log.warning(
            "traces are on, but no SDK of OpenTelemetry is set up yet: without one there is no "
            "span. Set HOOKMILL_TRACES_SETUP"
        )
    tracer = trace.get_tracer("hookmill")
    return Tracing(
        tracer,
        settings.prefix,
        is_joined=settings.traces == "joined",
        sample=settings.traces_sample,
    )


def _call(target: str) -> None:
    module, _, name = target.partition(":")
    try:
        function = getattr(load_module(module, target=target), name, None)
    except HandlersError as error:
        raise SettingsError([f"HOOKMILL_TRACES_SETUP: {error}"]) from None
    if not callable(function):
        raise SettingsError([f"HOOKMILL_TRACES_SETUP: {target!r}: {module} has no such function"])
    function()
