"""The metrics that both programs have: of the groups, of Redis, and of their own event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hookmill.instrumentation.group_metrics import ASK_TIMEOUT, GroupMetrics
from hookmill.instrumentation.loop_lag import LoopLag
from hookmill.instrumentation.server_metrics import ServerMetrics
from hookmill.stream.client import Client
from hookmill.stream.inspector import Inspector


class ProgramMetrics:
    """A collector; `start` it, and `stop` it. `client` is that of the whole stream; its round trips
    and those of the `lanes` are counted. The groups are asked for over connections of its own.
    `lease` is in seconds. `flush` is called four times a second: it counts what the program has
    added to its histograms.
    """

    def __init__(
        self,
        client: Client,
        lease: float,
        flush: Callable[[], None] = lambda: None,
        lanes: Iterable[Client] = (),
    ) -> None:
        self._client = client.with_timeout(ASK_TIMEOUT)
        inspector = Inspector(self._client)
        self._groups = GroupMetrics(inspector.groups, lease, inspector.unseen)
        self._lag = LoopLag(flush)
        self._parts = (self._groups, ServerMetrics(*dict.fromkeys((client, *lanes))), self._lag)

    def start(self) -> None:
        """Begin to measure, in the event loop."""
        self._lag.start()

    async def stop(self) -> None:
        """End what is under way, and close the connections. A second call does nothing."""
        self._lag.stop()
        await self._groups.close()
        await self._client.close()

    async def prepare(self) -> None:
        """Ask Redis if that is due, before the page is made."""
        await self._groups.refresh()

    def collect(self) -> Iterator[Any]:
        """Yield the metrics of all parts."""
        for part in self._parts:
            yield from part.collect()
