"""Timeouts for handlers: like `asyncio.timeout`, but with one timer for many calls.

Calls with the same timeout expire in the order in which they began. So they share a queue and one
timer, because a timer for each call costs as much as a short handler.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import msgspec


class Timeouts:
    """Makes timeouts. Only one event loop may use it."""

    def __init__(self) -> None:
        self._queues: dict[float, _Queue] = {}

    def of(self, seconds: float) -> Timeout:
        """Return a timeout for one call: `with timeouts.of(30) as timeout: await ...`."""
        queue = self._queues.get(seconds)
        if queue is None:
            queue = self._queues[seconds] = _Queue(seconds)
        return Timeout(queue)


class Timeout(msgspec.Struct, eq=False):
    """Cancels the task that entered it when the time is over; that task gets a `TimeoutError`.

    `has_expired` is true as well where the task swallowed the cancellation and went on.
    """

    queue: _Queue
    due: float = 0.0
    has_expired: bool = False
    task: asyncio.Task[Any] | None = None
    cancellations: int = 0

    def __enter__(self) -> Self:
        queue = self.queue
        self.task = task = asyncio.current_task(queue.loop)
        if task is None:
            raise RuntimeError("a timeout needs a task that it can cancel")
        self.cancellations = task.cancelling()
        self.due = due = queue.loop.time() + queue.seconds
        queue.running[self] = None
        if not queue.has_timer:
            queue.set_timer(due)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.queue.running.pop(self, None)  # it is not there if it has expired
        if not self.has_expired or self.task is None:
            return
        is_cancelled_by_others = self.task.uncancel() > self.cancellations
        if isinstance(error, TimeoutError) or (
            isinstance(error, asyncio.CancelledError) and not is_cancelled_by_others
        ):
            seconds = self.queue.seconds
            raise TimeoutError(f"ran longer than its timeout of {seconds:g} s") from error

    def expire(self) -> None:
        """Cancel the task, because its time is over."""
        self.has_expired = True
        if self.task is not None:
            self.task.cancel()


class _Queue:
    """The running timeouts of the same duration, the oldest first, and their timer."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.loop = asyncio.get_running_loop()
        """Kept, because asking for it is a system call."""
        self.running: dict[Timeout, None] = {}
        self.has_timer = False

    def set_timer(self, due: float) -> None:
        """Look at this time, by the loop's clock, for what has expired."""
        self.has_timer = True
        self.loop.call_at(due, self._expire_due)

    def _expire_due(self) -> None:
        """Expire what is due, and set the timer for the next one."""
        self.has_timer = False
        for timeout in list(self.running):
            if timeout.due > self.loop.time():
                self.set_timer(timeout.due)
                break
            del self.running[timeout]
            timeout.expire()
