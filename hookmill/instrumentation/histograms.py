"""Histograms of our own, which cost a message a twentieth of those of Prometheus' client.

Only the event loop uses them. An exemplar names a trace that fell into a bucket; the last one is
kept.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
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
    """Counts values by the bounds of their buckets. The last bucket has no bound.

    A value is only put into a list, and many are counted at once by sorting them: that takes a
    quarter of the time. Whoever adds has to `flush` now and then.
    """

    __slots__ = ("_bounds", "_counts", "_exemplars", "_total", "_values", "add")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0
        self._exemplars: dict[int, tuple[str, float, float]] = {}
        self._values: list[float] = []
        self.add: Callable[[float], None] = self._values.append
        """Add a value. A negative one counts as 0: two clocks differed."""

    def observe(self, value: float, trace_id: str = "") -> None:
        """Add a value. With a trace it becomes the exemplar of its bucket."""
        self.add(value)
        if trace_id:
            self.exemplify(value, trace_id)

    def add_all(self, values: Iterable[float]) -> None:
        """Add values."""
        self._values.extend(values)

    def exemplify(self, value: float, trace_id: str) -> None:
        """Name the trace of a value that was added."""
        value = max(0.0, value)
        self._exemplars[bisect_left(self._bounds, value)] = trace_id, value, time.time()

    def flush(self) -> None:
        """Count what was added."""
        values = self._values
        if not values:
            return
        values.sort()
        below = bisect_left(values, 0.0)
        self._total += sum(values[below:])
        before = 0
        for number, bound in enumerate(self._bounds):
            until = bisect_right(values, bound, before)
            self._counts[number] += until - before
            before = until
        self._counts[-1] += len(values) - before
        values.clear()

    def buckets(self) -> list[Any]:
        """Return the buckets as Prometheus' client expects them."""
        from prometheus_client.core import Exemplar  # noqa: PLC0415 - an extra

        self.flush()
        bounds = [*map(repr, self._bounds), "+Inf"]
        buckets: list[Any] = [*zip(bounds, accumulate(self._counts), strict=True)]
        for number, (trace_id, value, at) in self._exemplars.items():
            buckets[number] = (*buckets[number], Exemplar({"trace_id": trace_id}, value, at))
        return buckets

    @property
    def total(self) -> float:
        """The sum of the values that were counted."""
        return self._total


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

    def flush(self) -> None:
        """Count what was added to any of them."""
        for each in self._by_values.values():
            each.flush()

    def family(self) -> Any:
        """Return all of them as Prometheus' client expects them."""
        from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415 - an extra

        found = HistogramMetricFamily(self._name, self._meaning, labels=list(self._labels))
        for values, each in sorted(self._by_values.items()):
            found.add_metric(values, each.buckets(), each.total)
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
