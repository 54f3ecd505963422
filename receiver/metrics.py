"""Counts deliveries, and gives the counts to the page /metrics of the admin address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class Metrics:
    """Counts, for each source, the results of its deliveries and the secrets that verified them.

    The latter tells an operator when the old secret of a rotation is no longer used. A label says
    where a secret is kept, never the secret itself.
    """

    def __init__(self) -> None:
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._secrets: Counter[tuple[str, str]] = Counter()
        self._connections: Counter[tuple[str]] = Counter()
        self.usable_secrets: Mapping[str, int] = {}
        """How many secrets of each source are usable now."""

    def connection_closed(self, why: str) -> None:
        """Count a connection that was closed because of its sender, or to make room."""
        self._connections[(why,)] += 1

    def add_secrets(self, source: str, secrets: Iterable[str]) -> None:
        """Show these secrets even while their counts are zero: an operator looks for the zero."""
        for secret in secrets:
            self._secrets[source, secret] += 0

    def count(self, source: str, outcome: str) -> None:
        """Count a delivery: "accepted", "answered", or the code of its refusal."""
        self._outcomes[source, outcome] += 1

    def verified(self, source: str, secret: str) -> None:
        """Count a delivery that was verified with this secret."""
        self._secrets[source, secret] += 1

    @property
    def outcomes(self) -> Mapping[tuple[str, str], int]:
        """How many deliveries of a source had which outcome."""
        return self._outcomes

    def collect(self) -> Iterator[Any]:
        """Yield the counts as Prometheus' client expects them."""
        from prometheus_client.core import (  # noqa: PLC0415 - an extra
            CounterMetricFamily,
            GaugeMetricFamily,
        )

        outcomes = CounterMetricFamily(
            "hookmill_deliveries", "Deliveries by outcome.", labels=["source", "outcome"]
        )
        secrets = CounterMetricFamily(
            "hookmill_verified",
            "Deliveries by the secret that verified them.",
            labels=["source", "secret"],
        )
        connections = CounterMetricFamily(
            "hookmill_connections_closed",
            "Connections that were closed to make room, or because of their sender.",
            labels=["reason"],
        )
        families: tuple[tuple[Any, Counter[Any]], ...] = (
            (outcomes, self._outcomes),
            (secrets, self._secrets),
            (connections, self._connections),
        )
        for family, counts in families:
            for labels, number in sorted(counts.items()):
                family.add_metric(labels, number)
            yield family
        usable = GaugeMetricFamily(
            "hookmill_usable_secrets",
            "Secrets that are usable now. At 0 the deliveries of the source get 503.",
            labels=["source"],
        )
        for source, number in sorted(self.usable_secrets.items()):
            usable.add_metric([source], number)
        yield usable
