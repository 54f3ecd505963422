"""What a program's metrics say of Redis: how often it was asked, and how often it was connected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hookmill.instrumentation.histograms import labelled
from hookmill.stream.client import Client


class ServerMetrics:
    """Counters of the connections of these clients."""

    def __init__(self, *clients: Client) -> None:
        self._clients = clients

    def collect(self) -> Iterator[Any]:
        """Yield the counters."""
        counts = [each for client in self._clients for each in client.counts()]
        for name, meaning, number in (
            ("round_trips", "Round trips to Redis.", sum(each.round_trips for each in counts)),
            ("connects", "Tries to connect to Redis.", sum(each.connects for each in counts)),
            (
                "failures",
                "Round trips to Redis that brought no reply, and tries to connect that failed.",
                sum(each.failures for each in counts),
            ),
        ):
            yield labelled("counter", f"hookmill_redis_{name}", meaning, (), [((), number)])
