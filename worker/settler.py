"""Writes settlements to Redis in batches: one round trip takes all that wait at its start.

Each message is still settled on its own. While Redis is unavailable, settlements are kept and tried
again. A worker that dies before they are written loses acknowledgements, but no messages: another
worker runs these messages again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from hookmill.errors import GroupLostError, GroupRefusedError, StreamUnavailableError
from hookmill.runtime.log_pace import LogPace
from hookmill.runtime.tasks import cancel_and_wait
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import EntryRef, Settlement
from worker.traces import AttemptTraces

log = structlog.get_logger("worker")

BATCH = 500
"""The most settlements in one round trip."""

BATCH_BYTES = 4 * 1024 * 1024
"""The most bytes of follow-ups in one round trip; a single settlement may have more. There is a
limit, because Redis copies them in one go, and serves nobody else meanwhile.
"""

PAUSE = 0.5
"""Seconds between tries while Redis is unavailable."""


class Settler:
    """Queues settlements and writes them; calls `settled` with each written batch.

    Only the event loop may use it.
    """

    def __init__(
        self,
        consumer: Consumer,
        settled: Callable[[list[Settlement]], None],
        traces: AttemptTraces | None = None,
    ) -> None:
        self._consumer = consumer
        self._traces = traces
        self._settled = settled
        self._queue: list[Settlement] = []
        self._log_pace = LogPace()
        self._flushing: asyncio.Task[None] | None = None
        self._has_died = asyncio.Event()
        self.late_outcomes = 0
        """How many outcomes were dropped because another worker had their messages by then."""
        self._when_stored: dict[EntryRef, Callable[[], None]] = {}

    def put(self, settlement: Settlement, when_stored: Callable[[], None] | None = None) -> None:
        """Write this with the next round trip.

        `when_stored` is called at most once: when it is known that this settlement was written. It
        is not called if another worker has taken the entry over, nor if the reply was lost.
        """
        self._queue.append(settlement)
        if when_stored is not None:
            self._when_stored[settlement.ref] = when_stored
        if self._flushing is None:
            self._start_flush()

    @property
    def cannot_write(self) -> bool:
        """Whether the last try to write failed, so that it is tried again."""
        return self._log_pace.has_failed

    @property
    def first_waiting(self) -> EntryRef | None:
        """The entry that has waited longest to be settled; None if none waits."""
        return self._queue[0].ref if self._queue else None

    def waiting(self) -> set[EntryRef]:
        """Return the entries that are not known to be settled. Any thread may call it."""
        return {settlement.ref for settlement in self._queue.copy()}

    async def watch(self) -> None:
        """Return when writing has ended by itself, although something was left to write."""
        await self._has_died.wait()

    async def drain(self) -> None:
        """Return when all that was put is written."""
        while self._queue or self._flushing is not None:
            await asyncio.wait({self._flushing or self._start_flush()})

    async def stop(self) -> None:
        """Give up what is not written yet: other workers take these messages over and run them."""
        if self._flushing is not None:
            await cancel_and_wait([self._flushing])
        if self._queue:
            log.error("stopped with outcomes that are not written", messages=len(self._queue))

    def _start_flush(self) -> asyncio.Task[None]:
        self._flushing = asyncio.create_task(self._flush(), name="settler")
        self._flushing.add_done_callback(self._flushed)
        return self._flushing

    def _flushed(self, task: asyncio.Task[None]) -> None:
        # Not in `_flush`, because a task that is cancelled before its first step runs no code.
        self._flushing = None
        if task.cancelled() or task.exception() is not None:
            self._has_died.set()
        elif self._queue:
            self._start_flush()

    async def _flush(self) -> None:
        while self._queue:
            batch = self._queue[: self._batch_size()]
            if self._traces is None:
                late = await self._write(batch)
            else:
                late = await self._write_traced(batch, self._traces)
            del self._queue[: len(batch)]
            self._settled(batch)
            if self._when_stored:
                self._tell_stored(batch, late)
            if late:
                self.late_outcomes += len(late)
                log.warning("dropped late outcomes: another worker has them", entries=late)

    def _tell_stored(self, batch: list[Settlement], late: list[str]) -> None:
        for settlement in batch:
            when_stored = self._when_stored.pop(settlement.ref, None)
            if when_stored is not None and settlement.ref.id not in late:
                when_stored()

    def _batch_size(self) -> int:
        """Return how many settlements of the queue go with the next round trip: at least 1."""
        size = 0
        for number, settlement in enumerate(self._queue[:BATCH]):
            if settlement.follow_ups:
                size += settlement.written_bytes
            if size > BATCH_BYTES:
                return max(1, number)
        return BATCH

    async def _write_traced(self, batch: list[Settlement], traces: AttemptTraces) -> list[str]:
        """Do what `_write` does, in a span where attempts of the batch are recorded."""
        span = traces.settling(batch)
        try:
            return await self._write(batch)
        finally:
            traces.settled(span)

    async def _write(self, batch: list[Settlement]) -> list[str]:
        """Write a batch, however often that takes; return the IDs of entries that are not ours."""
        while True:
            try:
                late = await self._consumer.settle(batch)
            except GroupLostError:
                if not await self._reopen():
                    log.warning("outcomes dropped: the group was dropped", outcomes=len(batch))
                    return [settlement.ref.id for settlement in batch]
            except StreamUnavailableError as error:
                if self._log_pace.failed():
                    log.warning(
                        "cannot settle, trying again",
                        waiting=len(self._queue),
                        error=str(error),
                        **self._log_pace.failures,
                    )
            except Exception:  # whatever the error is, the outcomes are kept
                log.exception("settling failed, trying again", waiting=len(self._queue))
            else:
                self._log_pace.succeeded()
                return late
            await asyncio.sleep(PAUSE)

    async def _reopen(self) -> bool:
        """Open the group again; return False if that is not allowed, because it was dropped."""
        try:
            await self._consumer.open()
        except GroupRefusedError:
            return False
        except (GroupLostError, StreamUnavailableError) as error:
            log.warning("cannot open the consumer group again", error=str(error))
        return True
