"""Counts what the receiver does, and shows it as Prometheus reads it (the extra `metrics`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any


class Metrics:
    """Counts per source: outcomes of deliveries, and which secret they were signed with.

    The latter tells an operator when the old secret of a rotation can go. Labels name where a
    secret stands, never the secret.
    """

    def __init__(self) -> None:
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._secrets: Counter[tuple[str, str]] = Counter()

    def know(self, source: str, secrets: Iterable[str]) -> None:
        """Show these secrets with a count, though it be zero: that is what is looked for."""
        for secret in secrets:
            self._secrets[source, secret] += 0

    def count(self, source: str, outcome: str) -> None:
        """Count a delivery: "accepted", or the code of its refusal."""
        self._outcomes[source, outcome] += 1

    def matched(self, source: str, secret: str) -> None:
        """Count a delivery that verified with this secret."""
        self._secrets[source, secret] += 1

    def render(self) -> tuple[bytes, str] | None:
        """Return the text and its content type; None where the extra is not installed."""
        try:
            import prometheus_client as prometheus  # noqa: PLC0415 - an extra
        except ImportError:
            return None
        registry = prometheus.CollectorRegistry()
        registry.register(self)
        return prometheus.generate_latest(registry), prometheus.CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Any]:
        """Give the counts as Prometheus' client wants them."""
        from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 - an extra

        outcomes = CounterMetricFamily(
            "hookmill_deliveries", "Deliveries by outcome.", labels=["source", "outcome"]
        )
        secrets = CounterMetricFamily(
            "hookmill_verified",
            "Deliveries by the secret that verified them.",
            labels=["source", "secret"],
        )
        for family, counts in ((outcomes, self._outcomes), (secrets, self._secrets)):
            for labels, number in sorted(counts.items()):
                family.add_metric(labels, number)
            yield family
