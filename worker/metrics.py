"""What the page /metrics of a worker shows: gauges that are read when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hookmill.stream.facts import Heartbeat

_GAUGES: dict[str, tuple[str, Callable[[Heartbeat], float]]] = {
    "held_messages": (
        "Messages that the worker holds, from their take to their settlement.",
        lambda now: now.held,
    ),
    "oldest_held_seconds": (
        "Seconds for which it has held the oldest of them; 0 if it holds none.",
        lambda now: now.oldest_held or 0,
    ),
    "free_slots": ("Messages that may begin now.", lambda now: now.free_slots),
    "slots": ("Messages that it handles at the same time.", lambda now: now.concurrency),
    "free_threads": (
        "Threads that are free for handlers that are a plain `def`.",
        lambda now: now.free_threads,
    ),
    "threads": ("Threads that it has for them.", lambda now: now.threads),
    "uptime_seconds": ("Seconds since it started.", lambda now: now.uptime),
}


class WorkerMetrics:
    """Gauges of one worker. `look` returns the worker's heartbeat as it is now, and None while the
    worker starts.
    """

    def __init__(self, look: Callable[[], Heartbeat | None]) -> None:
        self._look = look

    def collect(self) -> Iterator[Any]:
        """Yield the gauges as Prometheus' client expects them."""
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - an extra

        now = self._look()
        if now is None:
            return
        for name, (meaning, value) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"hookmill_worker_{name}", meaning, labels=["group"])
            gauge.add_metric([now.group], value(now))
            yield gauge
