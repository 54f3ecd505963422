"""Runs handlers that are plain functions, in threads, which cannot be stopped.

It knows which thread runs which message since when, so that this can be asked at any time.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import structlog

from hookmill.handlers import Handler

log = structlog.get_logger("worker")


class ThreadCall:
    """A call of a plain function: for which handler and message, in which thread, since when.

    `thread` is the thread's identifier, and 0 while the call waits for a thread. `began` is in
    monotonic seconds.
    """

    __slots__ = ("began", "handler", "message_id", "thread")

    def __init__(self, handler: Handler, message_id: str) -> None:
        self.handler = handler
        self.message_id = message_id
        self.thread = 0
        self.began = 0.0

    def run(self, function: Callable[[], Any]) -> None:
        """Call a plain function in its thread, and refuse what no plain function may do."""
        self.began = time.monotonic()
        self.thread = threading.get_ident()
        try:
            returned = function()
        except StopIteration as error:  # a future cannot hold it, so the attempt would never end
            raise RuntimeError("the handler raised StopIteration") from error
        if inspect.isawaitable(returned):
            if inspect.iscoroutine(returned):
                returned.close()
            raise TypeError("the handler returned an awaitable: declare it with `async def`")


class HandlerThreads:
    """Runs calls in the threads of an executor. Only the event loop may use it."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._calls: dict[Future[Any], ThreadCall] = {}

    @property
    def are_busy(self) -> bool:
        """Whether a plain function is running; its thread cannot be stopped."""
        return bool(self.running())

    def running(self) -> list[ThreadCall]:
        """Return the calls that have a thread."""
        return [call for future, call in list(self._calls.items()) if future.running()]

    async def run(self, handler: Handler, message_id: str, function: Callable[[], Any]) -> None:
        """Run a plain function. Beyond its timeout it keeps its slot and its lease, because its
        thread cannot be stopped and another worker would run the message a second time.
        """
        call = ThreadCall(handler, message_id)
        future = self._executor.submit(contextvars.copy_context().run, call.run, function)
        self._calls[future] = call
        future.add_done_callback(self._forget)
        running = asyncio.wrap_future(future)
        try:
            done, _ = await asyncio.wait({running}, timeout=handler.timeout)
            if not done and future.running():
                log.warning("handler overruns its timeout in a thread", handler=handler.name)
            elif not done:
                log.warning("handler waits for a thread: give it more", handler=handler.name)
            await running
        finally:
            # A running thread cannot be stopped, but a function still in the queue must not begin.
            future.cancel()
            running.cancel()
            # An error holds this frame, and these variables hold the error: a cycle that would keep
            # the message in memory.
            del future, running

    def _forget(self, future: Future[Any]) -> None:
        self._calls.pop(future, None)
