"""One of the processes that a supervisor keeps running, whichever process that is now.

One that dies is started again, after a pause that grows. One that leaves by itself, because it
alone got a signal, has a successor at once, on the same listening sockets.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import structlog

from hookmill.runtime.child_process import ChildProcess
from hookmill.runtime.shared_port import SharedPort

log = structlog.get_logger("supervisor")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds until a process that died is started again: at first, and at most. Each death doubles
them.
"""

STEADY = 30.0
"""Seconds of work after which a death counts as the first one again."""

START_TIMEOUT = 60.0
"""Seconds in which a successor has to be ready. Otherwise the old process stays."""

TOLD_TOGETHER = 0.3
"""Seconds until the successor of a process that leaves: a stop may have been meant for all."""

ASK_AGAIN_AFTER = 0.5
"""Seconds between two questions to a process that is leaving."""

SETTINGS_FAULT = 2
"""The exit status of a program that would not work if it were started again."""


class Seat:
    """`keep` it until `stopping` is set. A process that stops has `end_within` seconds for that."""

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        port: SharedPort | None,
        end_within: float,
        stopping: asyncio.Event,
    ) -> None:
        self.number = number
        self._command, self._port, self._end_within = command, port, end_within
        self._stopping = stopping
        self._sockets: list[socket.socket] = []
        self.child: ChildProcess | None = None
        self.started: list[ChildProcess] = []
        """All processes that have not ended, also those that are leaving."""
        self.on_end: Callable[[ChildProcess], None] = lambda _: None
        """Called with each process that has ended by itself."""
        self.ask_before_end: Callable[[ChildProcess], Awaitable[object]] = _nothing
        """Called with a process that is to end, before it is told and until it has ended."""
        self.deaths = 0
        """How many processes have ended that nobody had asked to."""
        self._failures = 0
        self._leaving: set[asyncio.Task[None]] = set()
        self.was_ready = asyncio.Event()
        self._replace, self._exchanged = asyncio.Event(), asyncio.Event()

    @property
    def is_failing(self) -> bool:
        """Whether its processes die again and again."""
        return self._failures > 2 and not self.is_ready

    @property
    def is_ready(self) -> bool:
        """Whether its process does its work."""
        child = self.child
        return child is not None and child.ready.is_set() and not child.ended.is_set()

    def look_whether_they_ended(self) -> None:
        """Note the ends of processes."""
        for child in tuple(self.started):
            child.look_whether_it_ended()
            if child.ended.is_set():
                self.started.remove(child)

    async def keep(self) -> None:
        """Keep a process running until the supervisor stops."""
        child = None if self._stopping.is_set() else self._start()
        while not self._stopping.is_set():
            if child is not None:
                await _first_of(child.ended, child.leaving, self._replace, self._stopping)
            if self._stopping.is_set():
                break
            if child is None or child.ended.is_set():
                await self._pause_after(child)
                child = None if self._stopping.is_set() else self._start()
            elif child.leaving.is_set():
                child = await self._follow(child)
            else:
                child = await self._exchange(child)
            self.child = child
        self.leave_port()

    async def replace(self) -> bool:
        """Put a new process in the place of the one that runs, which goes when the new one is
        ready. Return whether that was done.
        """
        old = self.child
        if old is None or not self.is_ready:
            if old is not None:
                old.stop()  # when it has ended, another is started
            return True
        self._exchanged.clear()
        self._replace.set()
        await _first_of(self._exchanged, self._stopping)
        if self.child is old:
            return False
        await self.see_off(old)
        return True

    async def see_off(self, child: ChildProcess) -> None:
        """Have a process stop, by force if it takes too long."""
        await self.ask_before_end(child)
        child.stop()
        try:
            async with asyncio.timeout(self._end_within):
                while not child.ended.is_set():
                    await self.ask_before_end(child)
                    await _within(ASK_AGAIN_AFTER, child.ended)
        except TimeoutError:
            log.error("a process did not stop in time: killed", process=self.number, pid=child.pid)
            child.kill()
            await child.ended.wait()

    def leave_port(self) -> None:
        """Close the listening sockets that are held for this process."""
        if self._port is not None:
            self._port.give_up(self._sockets)
            self._sockets = []

    def _start(self) -> ChildProcess | None:
        """Start a process; None: the system does not let us."""
        try:
            if self._port is not None and not self._sockets:
                self._sockets = self._port.open()
            child = ChildProcess(
                self.number, self._command, self._sockets, self._end_within, self.was_ready.set
            )
        except OSError as error:
            log.error("a process cannot be started", process=self.number, error=str(error))
            return None
        self.started.append(child)
        self.child = child
        return child

    async def _pause_after(self, child: ChildProcess | None) -> None:
        """Wait before a process is started in the place of one that has ended; not where `replace`
        has ended it. None: the last one could not be started.
        """
        self.leave_port()  # so that connections find the others
        if child is not None and child.is_asked_to_stop:
            return
        since = None if child is None else child.ready_since
        if since is not None and time.monotonic() - since > STEADY:
            self._failures = 0
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._failures)
        self._failures += 1
        if child is not None:
            self.deaths += 1
            self.on_end(child)
            if self._stopping.is_set():
                return
            log.error(
                "a process has ended: starting it again",
                process=self.number, pid=child.pid, **_how(child), seconds=pause,
            )  # fmt: skip
        await _within(pause, self._stopping)

    async def _follow(self, child: ChildProcess) -> ChildProcess | None:
        """Start the successor of a process that leaves by itself."""
        await _within(TOLD_TOGETHER, self._stopping)
        if self._stopping.is_set():
            return child
        log.info("a process was told to stop: starting another", process=self.number, pid=child.pid)
        seeing_off = asyncio.create_task(self.see_off(child))
        self._leaving.add(seeing_off)
        seeing_off.add_done_callback(self._leaving.discard)
        return self._start()

    async def _exchange(self, child: ChildProcess) -> ChildProcess | None:
        """Start a process, and return it when it is ready; otherwise return the old one."""
        successor = self._start()
        self.child = child
        if successor is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(START_TIMEOUT):
                    await _first_of(successor.ready, successor.ended, child.ended, self._stopping)
            if successor.ready.is_set() or child.ended.is_set():
                self.child = child = successor
            elif not self._stopping.is_set():
                log.error(
                    "a new process does not begin to work: the old one stays",
                    process=self.number, pid=successor.pid, **_how(successor),
                )  # fmt: skip
                successor.stop()
                successor.kill()
        self._replace.clear()
        self._exchanged.set()
        return child


async def _nothing(_: ChildProcess) -> None:
    """Ask nothing."""


def _how(child: ChildProcess) -> dict[str, Any]:
    """Return how a process has ended, as fields of a log line."""
    if child.status is None:
        return {}
    if child.status >= 0:
        return {"status": child.status}
    with suppress(ValueError):
        return {"signal": signal.Signals(-child.status).name}
    return {"signal": str(-child.status)}


async def _first_of(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait so many seconds, or until the event is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
