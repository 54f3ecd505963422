"""Logs when something blocks the event loop: which handler, for how long, and where it is.

A blocked loop starts no other message and notices no timeouts, so other handlers look slow.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable

import structlog

from worker.stacks import Run, stack_of_thread

log = structlog.get_logger("worker")

BLOCKED_AFTER = 2.0
"""Seconds after which a blocked event loop is logged."""

PERIOD = 0.5
"""Seconds between two signs of life of the event loop, and between two looks for them."""


class LoopWatch:
    """`start` it in the event loop, call `beat` regularly from there, `stop` it. `runs` returns the
    messages that run.
    """

    def __init__(self, runs: Callable[[], list[Run]]) -> None:
        self._runs = runs
        self._last_beat = 0.0
        self._looked = 0.0
        """When the thread looked last."""
        self._runs_since = 0.0
        """Since when the whole process has not stood still."""
        self._blocking = ""
        """What blocks the event loop, for a person."""
        self._is_reported = False
        self._stopped = threading.Event()
        # With a copy of our context, so that its log lines name the program, too.
        self._thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._watch,),
            name="loop watch",
            daemon=True,
        )

    def start(self) -> None:
        """Start the thread that watches."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._last_beat = self._looked = self._runs_since = time.monotonic()
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether the thread runs."""
        return self._thread.is_alive()

    @property
    def blocked_for(self) -> float:
        """For how many seconds the event loop has been blocked, while the process ran; 0 if it is
        not. Any thread may ask.
        """
        now = time.monotonic()
        if now - self._looked >= BLOCKED_AFTER:
            return 0.0  # the process stood still, and this thread is the first to run again
        seconds = now - max(self._last_beat, self._runs_since)
        return seconds if seconds >= BLOCKED_AFTER else 0.0

    @property
    def blocked_by(self) -> str:
        """What blocks the event loop, as far as it is known: " by handler X (message Y)"."""
        return self._blocking if self._is_reported else ""

    async def beat(self) -> float:
        """Note that the event loop is not blocked; return the seconds until the next call."""
        now = time.monotonic()
        if self._is_reported:
            self._is_reported = False
            seconds = round(now - self._last_beat, 1)
            log.warning("event loop no longer blocked", seconds=seconds)
        self._last_beat = now
        return PERIOD

    def stop(self) -> None:
        """End the thread soon."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(PERIOD):
            last, self._looked = self._looked, time.monotonic()
            # Where this thread did not run either, the whole process stood still, and not the loop.
            if self._looked - last >= BLOCKED_AFTER:
                self._runs_since = self._looked
            elif not self._is_reported:
                try:
                    self._look(self._looked - self._last_beat)
                except Exception:  # a failed look must not end the thread
                    log.exception("cannot say what blocks the event loop")

    def _look(self, seconds: float) -> None:
        if seconds < BLOCKED_AFTER:
            return
        task = asyncio.current_task(self._loop)
        run = next((run for run in self._runs() if run.task is task), None)
        about = {"id": run.message_id, "handler": run.handlers} if run else {}
        self._blocking = f" by handler {run.handlers} (message {run.message_id})" if run else ""
        if not run and task is not None:
            about = {"task": task.get_name()}
            self._blocking = f" by the task {task.get_name()}"
        self._is_reported = True
        stack = "\n".join(stack_of_thread(self._loop_thread))
        log.warning("event loop blocked", seconds=round(seconds, 1), stack=stack, **about)
