"""The lanes of a worker as one: what they hold, whether the worker can take, and what is wrong.

A worker is well as long as one of its lanes can take. What is wrong with another one is told by the
number of its partition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hookmill.errors import GroupRefusedError, StreamUnavailableError
from hookmill.stream.facts import Heartbeat
from worker.consumption import Fault
from worker.instruments import WorkerCounts
from worker.lane import WorkerLane
from worker.stacks import Run
from worker.threads import HandlerThreads


class Lanes:
    """All lanes of a worker; there is at least one. Any thread may read the properties."""

    def __init__(self, lanes: Sequence[WorkerLane], threads: HandlerThreads) -> None:
        self.each = tuple(lanes)
        self._threads = threads
        self._pools = [lane.pool for lane in lanes]
        self.opened = lanes[0].pool.opened if len(lanes) == 1 else asyncio.Event()
        """Set when the consumer group was opened in one lane at least."""

    async def watch_opening(self) -> None:
        """Set `opened` when that is so."""
        waiting = [asyncio.create_task(pool.opened.wait()) for pool in self._pools]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            self.opened.set()
        finally:
            for task in waiting:
                task.cancel()

    # --- what they hold ----------------------------------------------------------------------

    @property
    def held(self) -> int:
        """How many messages are held."""
        return sum(len(pool.held) for pool in self._pools)

    @property
    def oldest_held(self) -> float | None:
        """For how many seconds the oldest of them has been held; None if none is."""
        return max((age for pool in self._pools if (age := pool.oldest_held)), default=None)

    @property
    def free_slots(self) -> int:
        """How many more messages may begin now."""
        return max(pool.free_slots for pool in self._pools)

    @property
    def is_idle(self) -> bool:
        """Whether no message is running."""
        return all(pool.is_idle for pool in self._pools)

    def runs(self) -> list[Run]:
        """Return the messages that run. Any thread may call it."""
        return [run for pool in self._pools for run in pool.runs()]

    def counts(self) -> WorkerCounts:
        """Return what is counted anyway, of all lanes together."""
        pools, takeovers = self._pools, [lane.takeover for lane in self.each]
        return WorkerCounts(
            duplicates=sum(pool.duplicates for pool in pools),
            late_outcomes=sum(pool.late_outcomes for pool in pools),
            taken_over=sum(one.taken_over for one in takeovers),
            recovered=sum(one.recovered for one in takeovers),
            suspects=sum(pool.suspects for pool in pools),
            waiting_for_thread=len(self._threads.waiting()),
        )

    # --- what is wrong -----------------------------------------------------------------------

    @property
    def cannot_take(self) -> bool:
        """Whether the last try to take messages failed, in every lane."""
        return all(pool.cannot_take for pool in self._pools)

    @property
    def take_error(self) -> str:
        """Why it failed, in one of them."""
        return next((pool.take_error for pool in self._pools if pool.cannot_take), "")

    @property
    def troubles(self) -> dict[str, str]:
        """Why lanes take nothing now, by the numbers of their partitions. Where there is only one
        lane, that is said of the worker itself.
        """
        if len(self.each) == 1:
            return {}
        return {str(lane.partition): why for lane in self.each if (why := lane.trouble)}

    @property
    def fault(self) -> Fault | None:
        """What the watch over one of the lanes has found; None: nothing is wrong."""
        found = ((lane, fault) for lane in self.each if (fault := lane.consumption.fault))
        lane, fault = next(found, (None, None))
        if lane is None or fault is None or len(self.each) == 1:
            return fault
        return fault._replace(detail=f"partition {lane.partition}: {fault.detail}")

    @property
    def refusal(self) -> GroupRefusedError | None:
        """Why the consumer group cannot be used, if that is so."""
        return next((pool.refusal for pool in self._pools if pool.refusal), None)

    # --- what they do together ---------------------------------------------------------------

    @property
    def answered_at(self) -> float:
        """When Redis answered last a look at what waits, in any lane (monotonic seconds)."""
        return max(lane.consumption.answered_at for lane in self.each)

    async def ask(self) -> None:
        """Ask Redis in all lanes; return when one has answered. Raise `StreamUnavailableError` if
        none can.
        """
        asking = {asyncio.create_task(lane.consumption.ask()) for lane in self.each}
        try:
            failed: BaseException | None = None
            while asking:
                done, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if (failed := task.exception()) is None:
                        return
        finally:
            for task in asking:
                task.cancel()
        raise failed or StreamUnavailableError("there is no lane")

    async def read(self) -> tuple[Heartbeat, ...]:
        """Return the heartbeats of the group's workers, as a lane tells that can take: all workers
        write theirs in every lane.
        """
        well = (lane for lane in self.each if not lane.trouble)
        return await next(well, self.each[0]).heartbeats.read()

    async def rest(self, seconds: float) -> None:
        """Take nothing for so many seconds, in any lane."""
        well = [pool for pool in self._pools if not pool.cannot_take] or self._pools
        await asyncio.gather(*(pool.rest(seconds) for pool in well))
