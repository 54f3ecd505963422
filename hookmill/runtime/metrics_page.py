"""The page /metrics in Prometheus' format (needs the extra `metrics`).

What a program counts is a collector: an object whose `collect` yields metric families of
Prometheus' client. It is asked only when somebody asks for the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from hookmill.runtime.admin_request import Answer, PageRefusal
from hookmill.runtime.admin_server import Page
from hookmill.runtime.logs import lost_lines

_NOT_INSTALLED = PageRefusal(501, "not_installed", "install hookmill[metrics] to see metrics here")


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


def metrics_page(*collectors: Collector) -> Page:
    """Return the page that shows these collectors; it answers 501 without the extra."""
    try:
        import prometheus_client as prometheus  # noqa: PLC0415 - an extra
    except ImportError:
        return _not_installed
    registry = prometheus.CollectorRegistry()
    for collector in (*collectors, LogMetrics()):
        registry.register(collector)

    async def page() -> Answer:
        return Answer(200, prometheus.generate_latest(registry), prometheus.CONTENT_TYPE_LATEST)

    return page


async def _not_installed() -> Answer:
    return _NOT_INSTALLED.answer
