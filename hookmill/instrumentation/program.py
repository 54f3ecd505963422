"""The metrics that both programs have: of the groups, of Redis, and of their own event loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hookmill.instrumentation.group_metrics import GroupMetrics, Look
from hookmill.instrumentation.loop_lag import LoopLag
from hookmill.instrumentation.server_metrics import ServerMetrics
from hookmill.stream.client import Client


class ProgramMetrics:
    """A collector; `start` it, and `stop` it. `client` is the program's own, whose round trips are
    counted. `look` asks about the groups, with a client of its own: it must not be slowed by it.
    """

    def __init__(self, client: Client, look: Look, lease: float) -> None:
        self._groups = GroupMetrics(look, lease)
        self._lag = LoopLag()
        self._parts = (self._groups, ServerMetrics(client), self._lag)

    def start(self) -> None:
        """Begin to measure, in the event loop."""
        self._lag.start()

    async def stop(self) -> None:
        """End what is under way. A second call does nothing."""
        self._lag.stop()
        await self._groups.close()

    async def prepare(self) -> None:
        """Ask Redis if that is due, before the page is made."""
        await self._groups.refresh()

    def collect(self) -> Iterator[Any]:
        """Yield the metrics of all parts."""
        for part in self._parts:
            yield from part.collect()
