"""Settles in batches: what finished while one round trip was under way goes with the next.

Each message still succeeds or fails for itself. While Redis is away outcomes are kept and tried
again; a worker that dies with them loses acknowledgements, never messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.runtime.tasks import cancel_and_wait
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import EntryRef, Settlement

log = structlog.get_logger("worker")

BATCH = 500
"""Settlements in one round trip at most."""

BATCH_BYTES = 4 * 1024 * 1024
"""Bytes of follow-ups in one round trip, unless a single settlement has more: Redis refuses a
command of 1 GB, and a batch that cannot be sent in time would be tried for ever.
"""

PAUSE = 0.5
"""Seconds between tries while Redis is away."""


class Settler:
    """Takes settlements and writes them down; calls `settled` with the entries that are over.

    Only the event loop touches its queue.
    """

    def __init__(self, group: Consumer, settled: Callable[[list[EntryRef]], None]) -> None:
        self._group = group
        self._settled = settled
        self._queue: list[Settlement] = []
        self._flushing: asyncio.Task[None] | None = None

    def put(self, settlement: Settlement) -> None:
        """Have this written with the next round trip."""
        self._queue.append(settlement)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())

    async def drain(self) -> None:
        """Return when everything is written."""
        while self._flushing is not None:
            await asyncio.shield(self._flushing)

    async def stop(self) -> None:
        """Give up what is still unwritten: others take those messages over and run them again."""
        if self._flushing is not None:
            await cancel_and_wait([self._flushing])
            log.error("unsettled at the end", messages=len(self._queue))

    async def _flush(self) -> None:
        try:
            while self._queue:
                batch = self._queue[: self._batch_size()]
                late = await self._write(batch)
                del self._queue[: len(batch)]
                self._settled([settlement.ref for settlement in batch])
                if late:
                    log.warning("dropped late outcomes: another worker has them", entries=late)
        finally:
            self._flushing = None

    def _batch_size(self) -> int:
        """Return how many of the queue's first settlements go in one round trip, 1 or more."""
        size = 0
        for number, settlement in enumerate(self._queue[:BATCH]):
            for follow_up in settlement.follow_ups:
                size += sum(map(len, follow_up.fields.values()))
            if size > BATCH_BYTES:
                return max(1, number)
        return BATCH

    async def _write(self, batch: list[Settlement]) -> list[str]:
        while True:
            try:
                return await self._group.settle(batch)
            except GroupLostError:
                await self._reopen()
            except StreamUnavailableError as error:
                log.warning(
                    "cannot settle, trying again", waiting=len(self._queue), error=str(error)
                )
            except Exception:  # whatever it is, the outcomes are not given up
                log.exception("settling failed, trying again", waiting=len(self._queue))
            await asyncio.sleep(PAUSE)

    async def _reopen(self) -> None:
        try:
            await self._group.open()
        except StreamUnavailableError as error:
            log.warning("cannot open the consumer group anew", error=str(error))
