"""Says in the log which workers run what is paused: those of an older release that started after
the pause, which nothing can keep from it.

Redis is asked only while something is paused.
"""

from __future__ import annotations

import structlog

from hookmill.stream.known_pauses import KnownPauses
from hookmill.stream.older_workers import OlderWorkers

log = structlog.get_logger("worker")


class HeedlessWorkers:
    """Call `look` regularly. `pauses` are those that this worker knows of."""

    def __init__(self, pauses: KnownPauses, workers: OlderWorkers) -> None:
        self._pauses = pauses
        self._workers = workers
        self._told: set[str] = set()

    async def look(self) -> None:
        """Name each such worker once, for as long as something is paused."""
        found = set(await self._workers.heedless()) if self._pauses.is_any else set()
        for name in sorted(found - self._told):
            log.warning("a worker of an older release runs what is paused: replace it", worker=name)
        self._told = found
