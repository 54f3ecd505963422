"""Ends what runs longer than its timeout.

Calls with the same timeout come due in the order in which they began, so they stand in one line
and share a timer: one for each call costs as much as a short handler does.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Timeouts:
    """Gives out limits. Only one event loop may use it."""

    def __init__(self) -> None:
        self._lines: dict[float, _Line] = {}

    def of(self, seconds: float) -> Limit:
        """Return a limit for what is about to run: `with limits.of(30) as limit: await ...`."""
        line = self._lines.get(seconds)
        if line is None:
            line = self._lines[seconds] = _Line(seconds)
        return Limit(line)


class Limit:
    """Cancels the task that entered it when its time is over, and makes a TimeoutError of that."""

    __slots__ = ("_cancellings", "_line", "_task", "due", "has_expired")

    def __init__(self, line: _Line) -> None:
        self._line = line
        self.has_expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task(self._line.loop)
        if task is None:
            raise RuntimeError("a limit needs a task that it can cancel")
        self._task = task
        self._cancellings = task.cancelling()
        self.due = self._line.enter(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._line.leave(self)
        if not self.has_expired:
            return
        is_cancelled_by_others = self._task.uncancel() > self._cancellings
        if isinstance(error, TimeoutError) or (
            isinstance(error, asyncio.CancelledError) and not is_cancelled_by_others
        ):
            seconds = self._line.seconds
            raise TimeoutError(f"ran longer than its timeout of {seconds:g} s") from error

    def expire(self) -> None:
        """Cancel the task, whose time is over."""
        self.has_expired = True
        self._task.cancel()


class _Line:
    """The limits of one length, the oldest first, and their timer."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.loop = asyncio.get_running_loop()
        """Kept, for to ask for it costs a system call."""
        self._limits: dict[Limit, None] = {}
        self._is_timed = False

    def enter(self, limit: Limit) -> float:
        due = self.loop.time() + self.seconds
        self._limits[limit] = None
        if not self._is_timed:
            self._is_timed = True
            self.loop.call_at(due, self._look)
        return due

    def leave(self, limit: Limit) -> None:
        self._limits.pop(limit, None)

    def _look(self) -> None:
        """End what is due, and come back when the next is."""
        self._is_timed = False
        for limit in list(self._limits):
            if limit.due > self.loop.time():
                self._is_timed = True
                self.loop.call_at(limit.due, self._look)
                break
            del self._limits[limit]
            limit.expire()
