"""The page /metrics in Prometheus' formats (needs the extra `metrics`).

What a program counts is a collector: an object whose `collect` yields metric families of
Prometheus' client. It is asked only when somebody asks for the page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

from hookmill.runtime.admin_request import ACCEPT, Answer, PageRefusal
from hookmill.runtime.admin_server import Page
from hookmill.runtime.logs import lost_lines

_NOT_INSTALLED = PageRefusal(501, "not_installed", "install hookmill[metrics] to see metrics here")

Prepare = Callable[[], Awaitable[object]]
"""Gathers what a collector shows; it is awaited before the page is made."""


class Collector(Protocol):
    """Something that yields metric families."""

    def collect(self) -> Iterator[Any]:
        """Yield the families as they are now."""


class LogMetrics:
    """The gauge that every program has: it tells of a full disk what the log cannot."""

    def collect(self) -> Iterator[Any]:
        """Yield the number of lost lines."""
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - an extra

        yield GaugeMetricFamily(
            "hookmill_lost_log_lines",
            "Log lines that could not be written, until one can be: then the log says how many.",
            value=lost_lines(),
        )


def metrics_page(*collectors: Collector, prepare: tuple[Prepare, ...] = ()) -> Page:
    """Return the page that shows these collectors; it answers 501 without the extra.

    Whoever asks chooses the format by `Accept`. Only OpenMetrics has exemplars.
    """
    try:
        import prometheus_client as prometheus  # noqa: PLC0415 - an extra
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415
    except ImportError:
        return _not_installed
    registry = prometheus.CollectorRegistry()
    for collector in (*collectors, LogMetrics()):
        registry.register(collector)

    async def page() -> Answer:
        for gather in prepare:
            await gather()
        try:
            encode, content_type = choose_encoder(ACCEPT.get())
        except Exception:  # noqa: BLE001 - what a stranger writes there may raise anything
            encode, content_type = choose_encoder("")
        return Answer(200, encode(registry), content_type)

    return page


async def _not_installed() -> Answer:
    return _NOT_INSTALLED.answer
