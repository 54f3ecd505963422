"""Histograms of our own: a count for each bucket, which is found by bisection.

Prometheus' client finds a bucket by a walk and locks twice, which costs twice as much. Only the
event loop uses them. An exemplar names a trace that fell into a bucket; the last one is kept.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

FAST = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Bounds in seconds for what has to be quick: a request, a round trip to Redis."""

RUNNING = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Bounds in seconds for a handler."""

WAITING = (
    0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0,
    604800.0,
)  # fmt: skip
"""Bounds in seconds for what may wait for days."""

SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
"""Bounds for the messages of a batch."""


class Histogram:
    """Counts values by the bounds of their buckets. The last bucket has no bound."""

    __slots__ = ("_bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, tuple[str, float, float]] = {}
        """By bucket: the trace, the value, and when it was observed (Unix seconds)."""

    def observe(self, value: float, trace_id: str = "") -> None:
        """Count a value. With a trace it becomes the exemplar of its bucket."""
        bucket = bisect_left(self._bounds, value)
        self.counts[bucket] += 1
        self.total += value
        if trace_id:
            self.exemplars[bucket] = trace_id, value, time.time()


class Histograms:
    """A family of histograms that differ by their labels. `labels` are the labels' names."""

    def __init__(
        self, name: str, meaning: str, bounds: tuple[float, ...], labels: tuple[str, ...] = ()
    ) -> None:
        self._name, self._meaning, self._bounds, self._labels = name, meaning, bounds, labels
        self._by_values: dict[tuple[str, ...], Histogram] = {}

    def of(self, *values: str) -> Histogram:
        """Return the histogram with these values of the labels; it is shown from now on."""
        found = self._by_values.get(values)
        if found is None:
            found = self._by_values[values] = Histogram(self._bounds)
        return found

    def family(self) -> Any:
        """Return all of them as Prometheus' client expects them."""
        from prometheus_client.core import (  # noqa: PLC0415 - an extra
            Exemplar,
            HistogramMetricFamily,
        )

        found = HistogramMetricFamily(self._name, self._meaning, labels=list(self._labels))
        bounds = [*map(repr, self._bounds), "+Inf"]
        for values, each in sorted(self._by_values.items()):
            buckets: list[Any] = [*zip(bounds, accumulate(each.counts), strict=True)]
            for number, (trace_id, value, at) in each.exemplars.items():
                exemplar = Exemplar({"trace_id": trace_id}, value, at)
                buckets[number] = (*buckets[number], exemplar)
            found.add_metric(values, buckets, each.total)
        return found


def gauge(name: str, meaning: str, value: float | None) -> Any:
    """Return one gauge without labels as Prometheus' client expects it; None: it shows nothing."""
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - an extra

    return GaugeMetricFamily(name, meaning, value=value)


def labelled(kind: str, name: str, meaning: str, labels: Iterable[str], rows: Any) -> Any:
    """Return counters or gauges (`kind`) with labels; `rows` are values of the labels, and a
    number, or None for what is not known and so not shown.
    """
    from prometheus_client.core import (  # noqa: PLC0415 - an extra
        CounterMetricFamily,
        GaugeMetricFamily,
    )

    made = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    family = made(name, meaning, labels=list(labels))
    for values, number in rows:
        if number is not None:
            family.add_metric(values, number)
    return family
