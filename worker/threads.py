"""Runs handlers that are plain functions, in threads, which cannot be stopped.

It knows which thread runs which message since when, and which messages wait for a thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import structlog

from hookmill.handlers import Handler
from hookmill.message import Progress

log = structlog.get_logger("worker")


class ThreadCall:
    """A call of a plain function: for which handler and message, in which thread, since when.

    `thread` is the thread's identifier, and 0 while the call waits for a thread. `began` is in
    monotonic seconds.
    """

    __slots__ = ("_awaited", "began", "handler", "is_given_up", "message_id", "thread")

    def __init__(self, handler: Handler, message_id: str) -> None:
        self.handler = handler
        self.message_id = message_id
        self.thread = 0
        self.began = 0.0
        self.is_given_up = False
        self._awaited: asyncio.Future[Any] | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether it has had a thread for longer than its handler's timeout."""
        return self.thread != 0 and time.monotonic() - self.began > self.handler.timeout

    def give_up(self) -> None:
        """Have its attempt fail, although the function goes on. Its end changes nothing then."""
        self.is_given_up = True
        if self._awaited is not None:
            self._awaited.cancel()

    async def wait(self, future: Future[Any]) -> None:
        """Wait for the function's end, in the event loop. Raises what the function raised."""
        self._awaited = asyncio.wrap_future(future)
        try:
            await asyncio.wait({self._awaited}, timeout=self.handler.timeout)
            if not self._awaited.done():
                log.warning("handler overruns its timeout in a thread", handler=self.handler.name)
            await self._awaited
        except asyncio.CancelledError:
            if not self.is_given_up:
                raise
            limit = self.handler.timeout
            raise TimeoutError(
                f"timeout in a thread: it ran longer than its timeout of {limit:g} s, "
                "and its worker was ended"
            ) from None
        finally:
            self._awaited.cancel()
            # An error holds this frame, and these hold the error: a cycle that would keep the
            # message in memory.
            self._awaited = None
            del future

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


class WaitingMessage:
    """A message that waits for a thread, since when in monotonic seconds.

    `turn` becomes None when it has its turn, and what it is to be requeued with when it has none.
    """

    __slots__ = ("handler", "progress", "since", "turn")

    def __init__(self, handler: Handler, progress: Progress) -> None:
        self.handler = handler
        self.progress = progress
        self.since = time.monotonic()
        self.turn: asyncio.Future[Progress | None] = asyncio.get_running_loop().create_future()


class HandlerThreads:
    """`count` threads, and the messages that wait for one. Only the event loop may use it, but
    any thread may call `running`.

    A message has its turn first (`wait_for_turn`, `end_turn`), and runs its function within it. So
    a middleware begins only where there is a thread.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="handler")
        self._calls: dict[Future[Any], ThreadCall] = {}
        self._turns = 0
        self._left_running: set[Future[Any]] = set()
        """Functions that still run although the turn of their message has ended."""
        self._waiting: dict[WaitingMessage, None] = {}
        self.ran_moved_at = -math.inf
        """When a message that another worker had requeued for these threads last came (monotonic
        seconds).
        """

    @property
    def usable(self) -> int:
        """How many threads there are, without those that nobody waits for any more."""
        return self.count - len(self._left_running)

    @property
    def free(self) -> int:
        """How many messages could have their turn now."""
        return max(0, self.usable - self._turns)

    def running(self) -> list[ThreadCall]:
        """Return the calls that have a thread."""
        return [call for future, call in list(self._calls.items()) if future.running()]

    def stuck(self) -> list[ThreadCall]:
        """Return the calls that have had a thread for longer than their handler's timeout."""
        return [call for call in self.running() if call.is_stuck]

    def waiting(self) -> list[WaitingMessage]:
        """Return the messages that wait for a thread, the oldest first."""
        return list(self._waiting)

    def requeue(self, waiting: WaitingMessage, progress: Progress) -> None:
        """Have a message requeued with this progress, unless it has its turn by now."""
        if waiting in self._waiting:
            del self._waiting[waiting]
            waiting.turn.set_result(progress)

    def requeue_waiting(self) -> None:
        """Have every message requeued that waits for a thread, because this worker stops."""
        for waiting in self.waiting():
            self.requeue(waiting, waiting.progress)

    async def wait_for_turn(self, handler: Handler, progress: Progress) -> Progress | None:
        """Wait for a free thread. None means that the message has its turn, and that `end_turn` has
        to be called; otherwise it is to be requeued with what is returned.
        """
        if progress.moved_ms:
            self.ran_moved_at = time.monotonic()
        if self.free and not self._waiting:
            self._turns += 1
            return None
        waiting = WaitingMessage(handler, progress)
        self._waiting[waiting] = None
        try:
            done, _ = await asyncio.wait({waiting.turn}, timeout=handler.timeout)
            if not done:
                log.warning("handler waits for a thread: give it more", handler=handler.name)
            return await asyncio.shield(waiting.turn)
        except BaseException:
            if waiting.turn.done() and waiting.turn.result() is None:
                self.end_turn()
            raise
        finally:
            self._waiting.pop(waiting, None)

    def end_turn(self) -> None:
        """End a turn: the next message may have one."""
        self._turns -= 1
        self._give_turns()

    async def run(self, handler: Handler, message_id: str, function: Callable[[], Any]) -> None:
        """Run a plain function. Beyond its timeout it keeps its slot and its lease, because its
        thread cannot be stopped and another worker would run the message a second time.
        """
        call = ThreadCall(handler, message_id)
        future = self._executor.submit(contextvars.copy_context().run, call.run, function)
        self._calls[future] = call
        future.add_done_callback(self._forget)
        try:
            await call.wait(future)
        finally:
            # A running thread cannot be stopped, but a function still in the queue must not begin.
            if not future.cancel():
                self._leave_running(future)
            del future  # see `ThreadCall.wait`

    def close(self) -> None:
        """Start no more functions. Those that run go on."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _give_turns(self) -> None:
        for waiting in list(self._waiting):
            if not self.free:
                return
            del self._waiting[waiting]
            self._turns += 1
            waiting.turn.set_result(None)

    def _leave_running(self, future: Future[Any]) -> None:
        loop = asyncio.get_running_loop()

        def when_done(done: Future[Any]) -> None:  # in the thread
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._left_ended, done)

        if not future.done():
            self._left_running.add(future)
            future.add_done_callback(when_done)

    def _left_ended(self, future: Future[Any]) -> None:
        self._left_running.discard(future)
        self._give_turns()

    def _forget(self, future: Future[Any]) -> None:
        self._calls.pop(future, None)
