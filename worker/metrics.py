"""What the page /metrics of a worker shows: gauges that are read when somebody asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from hookmill.instrumentation.histograms import labelled
from hookmill.stream.facts import Heartbeat

_GAUGES: dict[str, tuple[str, Callable[[Heartbeat], float | None]]] = {
    "healthy": (
        "1: the worker is healthy, as /healthz says. 0: it has to be started again.",
        lambda now: 0 if now.sick else 1,
    ),
    "stuck_threads": (
        "Threads that run a plain function beyond the timeout of its handler.",
        lambda now: now.stuck_threads,
    ),
    "held_messages": (
        "Messages that the worker holds, from their take to their settlement.",
        lambda now: now.held,
    ),
    "oldest_held_timestamp_seconds": (
        "Since when it has held the oldest of them. Absent: it holds none.",
        lambda now: None if now.oldest_held is None else time.time() - now.oldest_held,
    ),
    "free_slots": ("Messages that may begin now.", lambda now: now.free_slots),
    "slots": ("Messages that it handles at the same time.", lambda now: now.concurrency),
    "free_threads": (
        "Threads that are free for handlers that are a plain `def`.",
        lambda now: now.free_threads,
    ),
    "threads": ("Threads that it has for them.", lambda now: now.threads),
}


class WorkerMetrics:
    """Gauges of one worker. `look` returns the worker's heartbeat as it is now, and None while the
    worker starts.
    """

    def __init__(self, look: Callable[[], Heartbeat | None]) -> None:
        self._look = look

    def collect(self) -> Iterator[Any]:
        """Yield the gauges as Prometheus' client expects them."""
        now = self._look()
        if now is None:
            return
        for name, (meaning, value) in _GAUGES.items():
            rows = [((now.group,), value(now))]
            yield labelled("gauge", f"hookmill_worker_{name}", meaning, ("group",), rows)
        yield labelled(
            "gauge",
            "hookmill_worker_partition_away",
            "1: the worker takes nothing from this partition of a cluster now. Absent: it does.",
            ("group", "partition"),
            [((now.group, number), 1) for number in now.troubles],
        )
