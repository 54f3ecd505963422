"""Calls the functions of `@handlers.on_dead` after a dead letter is stored, at most once for each.

They are only told: their errors are logged and change nothing. Few are called at a time, and few
dead letters wait for them, because very many messages can die at once, each with a large body.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import structlog

from hookmill.error_text import text_of
from hookmill.errors import WireVersionError
from hookmill.handlers import DeadWatcher, Handlers
from hookmill.message import GivenUp, Message, about_of
from hookmill.runtime import logs
from hookmill.stream.entries import Entry
from worker.outcome import DeadLettered

log = structlog.get_logger("worker")

TIMEOUT = 30.0
"""Seconds that one call may take."""

CANCEL_TIMEOUT = 1.0
"""Seconds that a call may take to end after its cancellation."""

AT_ONCE = 8
"""Calls that run at the same time; of plain functions, as many threads."""

MAX_WAITING, MAX_WAITING_BYTES = 1000, 16 * 1024 * 1024
"""Calls that may wait, and the bytes of their messages. Beyond that a call is left out."""


class DeadWatchers:
    """Calls the functions that watch for dead letters. Only the event loop may use it.

    `resources` is what the handlers' lifespan yields.
    """

    def __init__(self, handlers: Handlers[Any], resources: Any) -> None:
        self._watchers = handlers.dead_watchers
        self._resources = resources
        self._waiting: deque[tuple[DeadWatcher, GivenUp]] = deque()
        self._waiting_bytes = 0
        self._running: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="on_dead")
        self._in_threads: set[Future[Any]] = set()

    @property
    def has_stragglers(self) -> bool:
        """Whether a call still runs after `drain`: in a thread, which cannot be stopped, or because
        it swallowed its cancellation.
        """
        return bool(self._running) or any(future.running() for future in list(self._in_threads))

    def call_for(self, entry: Entry, outcome: DeadLettered) -> Callable[[], None] | None:
        """Return what to call when this dead letter is stored; None if no function watches."""
        return functools.partial(self._tell, entry, outcome) if self._watchers else None

    async def drain(self, seconds: float) -> None:
        """Wait until all calls have ended, but not longer. Those that have not are given up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._running:
                    await asyncio.wait(self._running)
        if self._running:
            _warn("on_dead did not end", calls=len(self._running) + len(self._waiting))
            self._waiting.clear()
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running, timeout=CANCEL_TIMEOUT)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _tell(self, entry: Entry, outcome: DeadLettered) -> None:
        given_up = given_up_of(entry, outcome)
        size = _size_of(given_up)
        for watcher in self._watchers:
            if self._is_full(size):
                _warn("on_dead not called: too many wait", function=watcher.name)
                continue
            self._waiting.append((watcher, given_up))
            self._waiting_bytes += size
            self._start_calls()

    def _is_full(self, size: int) -> bool:
        """Return whether no more may wait. One that is larger than the limit waits alone."""
        if not self._waiting:
            return False
        too_many = len(self._waiting) >= MAX_WAITING
        return too_many or self._waiting_bytes + size > MAX_WAITING_BYTES

    def _start_calls(self) -> None:
        while self._waiting and len(self._running) < AT_ONCE:
            watcher, given_up = self._waiting.popleft()
            self._waiting_bytes -= _size_of(given_up)
            task = asyncio.create_task(self._call(watcher, given_up), name="on_dead")
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start_calls()

    async def _call(self, watcher: DeadWatcher, given_up: GivenUp) -> None:
        logs.bind_message(given_up.message_id, given_up.source, given_up.type)
        rest = (self._resources,) if watcher.takes_resources else ()
        call = functools.partial(watcher.function, given_up, *rest)
        try:
            async with asyncio.timeout(TIMEOUT):
                returned = call() if watcher.is_async else await self._in_thread(call)
                if inspect.isawaitable(returned):
                    await returned
        except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns no message
            _warn("on_dead failed", function=watcher.name, error=text_of(error))

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        context = contextvars.copy_context()
        future = self._threads.submit(context.run, _without_stop_iteration, call)
        self._in_threads.add(future)
        future.add_done_callback(self._in_threads.discard)
        return await asyncio.wrap_future(future)


def _warn(event: str, **facts: Any) -> None:
    # A log that cannot be written (a full disk, a closed pipe) must not stop the worker.
    with suppress(OSError, ValueError):
        log.warning(event, **facts)


def given_up_of(entry: Entry, outcome: DeadLettered) -> GivenUp:
    """Return what a function that watches for dead letters is told about one."""
    message: Message | None = None
    with suppress(WireVersionError):
        message = Message.from_fields(entry.fields)
    about = about_of(entry.fields)
    return GivenUp(
        message=message,
        message_id=entry.fields.get(b"id", b"").decode("utf-8", "replace"),
        source=about.source,
        type=about.type,
        handler=outcome.progress.handler,
        attempts=outcome.progress.attempts,
        reason=outcome.reason,
        error=outcome.error,
    )


def _size_of(given_up: GivenUp) -> int:
    message = given_up.message
    return 0 if message is None else len(message.body) + len(message.header_block)


def _without_stop_iteration(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except StopIteration as error:  # a future cannot hold it, so the call would never end
        raise RuntimeError("the function raised StopIteration") from error
