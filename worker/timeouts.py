"""Timeouts for handlers: like `asyncio.timeout`, but with one timer for many calls.

Calls with the same timeout expire in the order in which they began. So they share a queue and one
timer, because a timer for each call costs as much as a short handler.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


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


class Timeout:
    """Cancels the task that entered it when the time is over; that task gets a `TimeoutError`.

    `has_expired` is true as well where the task swallowed the cancellation and went on.
    """

    __slots__ = ("_cancellations", "_queue", "_task", "due", "has_expired")

    def __init__(self, queue: _Queue) -> None:
        self._queue = queue
        self.has_expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task(self._queue.loop)
        if task is None:
            raise RuntimeError("a timeout needs a task that it can cancel")
        self._task = task
        self._cancellations = task.cancelling()
        self.due = self._queue.enter(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._queue.leave(self)
        if not self.has_expired:
            return
        is_cancelled_by_others = self._task.uncancel() > self._cancellations
        if isinstance(error, TimeoutError) or (
            isinstance(error, asyncio.CancelledError) and not is_cancelled_by_others
        ):
            seconds = self._queue.seconds
            raise TimeoutError(f"ran longer than its timeout of {seconds:g} s") from error

    def expire(self) -> None:
        """Cancel the task, because its time is over."""
        self.has_expired = True
        self._task.cancel()


class _Queue:
    """The running timeouts of the same duration, the oldest first, and their timer."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.loop = asyncio.get_running_loop()
        """Kept, because asking for it is a system call."""
        self._running: dict[Timeout, None] = {}
        self._has_timer = False

    def enter(self, timeout: Timeout) -> float:
        """Add a timeout; return when it expires, by the loop's clock."""
        due = self.loop.time() + self.seconds
        self._running[timeout] = None
        if not self._has_timer:
            self._has_timer = True
            self.loop.call_at(due, self._expire_due)
        return due

    def leave(self, timeout: Timeout) -> None:
        """Remove a timeout, expired or not."""
        self._running.pop(timeout, None)

    def _expire_due(self) -> None:
        """Expire what is due, and set the timer for the next one."""
        self._has_timer = False
        for timeout in list(self._running):
            if timeout.due > self.loop.time():
                self._has_timer = True
                self.loop.call_at(timeout.due, self._expire_due)
                break
            del self._running[timeout]
            timeout.expire()
