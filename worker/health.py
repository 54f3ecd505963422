"""Judges whether a worker is healthy: its loop turns, its tasks get on, its threads live, it
consumes.

An outage of Redis is no fault of the worker, and neither are a pause, a stop or full hands: whoever
restarts what is unhealthy must not end a whole fleet for them. Any thread may ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from worker.consumption import Fault
from worker.duties import Duties
from worker.loop_watch import LoopWatch
from worker.threads import HandlerThreads

MAX_BLOCKED = 10.0
"""Seconds for which the event loop may be blocked."""


class FindsFaults(Protocol):
    """A watch over what the worker does."""

    @property
    def fault(self) -> Fault | None:
        """What is wrong; None: nothing."""


class WorkerHealth:
    """The judgement of one worker. `ended_part` returns the name of a part of the worker that has
    ended by itself, "" if there is none.
    """

    def __init__(
        self,
        consumption: FindsFaults,
        threads: HandlerThreads,
        loop_watch: LoopWatch,
        duties: Duties,
        ended_part: Callable[[], str],
        *,
        max_blocked: float = MAX_BLOCKED,
    ) -> None:
        self._consumption = consumption
        self._threads = threads
        self._loop_watch = loop_watch
        self._duties = duties
        self._ended_part = ended_part
        self._max_blocked = max_blocked

    @property
    def fault(self) -> Fault | None:
        """What is wrong with the worker; None: it is healthy."""
        return self._blocked() or self._lost_part() or self.lasting_fault

    @property
    def lasting_fault(self) -> Fault | None:
        """What the worker itself can say of it in Redis: neither that its loop is blocked, nor that
        it ends. It costs next to nothing.
        """
        return self._consumption.fault or self._stuck() or self._duties.fault

    def blocked(self) -> Fault:
        """Say that the event loop does not answer, although that may not last long."""
        seconds, by = self._loop_watch.blocked_for, self._loop_watch.blocked_by
        return Fault(
            "loop_blocked",
            f"the event loop has been blocked for {seconds:.0f} s{by}: make what blocks it a plain "
            "`def` handler, which runs in a thread",
        )

    def _blocked(self) -> Fault | None:
        return self.blocked() if self._loop_watch.blocked_for >= self._max_blocked else None

    def _lost_part(self) -> Fault | None:
        part = self._ended_part()
        return (
            Fault("part_ended", f"the part {part} of the worker has ended by itself: restart it")
            if part
            else None
        )

    def _stuck(self) -> Fault | None:
        """Where only some threads are stuck, the others go on. The worker ends by itself at
        `HOOKMILL_STUCK_THREADS`; this is for where that is switched off.
        """
        if self._threads.free:
            return None
        stuck = len(self._threads.stuck())
        if stuck < self._threads.count:
            return None
        return Fault(
            "threads_stuck",
            f"all {stuck} threads are stuck in handlers that run beyond their timeout: restart the "
            "worker, and give what they wait for a timeout of its own",
        )
