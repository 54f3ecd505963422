"""Writes the worker's heartbeat: who it is, what it can handle, and what it holds.

The event loop writes it, because a worker whose loop is blocked must not look well. Its leases are
renewed by a thread, so it keeps its messages meanwhile.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
import time
from contextlib import suppress
from importlib.metadata import version
from typing import Any, Protocol

import msgspec

from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError
from hookmill.handlers import Handlers
from hookmill.message import WIRE_VERSIONS
from hookmill.runtime.logs import program_name
from hookmill.stream.facts import Heartbeat
from hookmill.stream.heartbeats import Heartbeats
from worker.consumption import Fault
from worker.health import WorkerHealth
from worker.pool import STOP_STEP_TIMEOUT
from worker.threads import HandlerThreads
from worker.waiting import PERIOD_AFTER_MOVE


class Work(Protocol):
    """What a worker has in hand, as a heartbeat says it. `troubles` are those of single lanes."""

    @property
    def held(self) -> int: ...  # noqa: D102 - the docstring of the class says it

    @property
    def oldest_held(self) -> float | None: ...  # noqa: D102

    @property
    def free_slots(self) -> int: ...  # noqa: D102

    @property
    def troubles(self) -> dict[str, str]: ...  # noqa: D102


class HeartbeatWriter:
    """Call `run_once` regularly from the event loop, and `stop` at the end. `constant` is what does
    not change while the worker runs.
    """

    def __init__(
        self,
        heartbeats: Heartbeats,
        constant: Heartbeat,
        work: Work,
        threads: HandlerThreads,
        health: WorkerHealth,
    ) -> None:
        self._health = health
        self._written: tuple[str, ...] = ("",)
        """What the last heartbeat said that is wrong: a code, and partitions."""
        self._heartbeats = heartbeats
        self._constant = constant
        self._work = work
        self._threads = threads
        self._started = time.monotonic()
        self._due = 0.0
        self.written_at = -math.inf
        """When Redis took the last heartbeat (monotonic seconds)."""
        self._writing = asyncio.Lock()
        self._is_stopped = False

    async def run_once(self) -> float:
        """Write the heartbeat if it is due; return the seconds until the next call. It is due every
        third of a lease, so that two in a row may fail before it ends.

        While other workers move messages to this one, each call writes it, because they look how
        many free threads it has left. It is written at once, too, where the worker gets sick, or
        can take from a partition no longer.
        """
        third, now = self._constant.lease / 3, time.monotonic()
        fault = self._health.lasting_fault
        wrong = "" if fault is None else fault.code, *self._work.troubles
        is_due = now >= self._due or wrong != self._written
        if is_due or now - self._threads.ran_moved_at < third:
            async with self._writing:
                if not self._is_stopped:
                    await self._heartbeats.write(self._says(fault))
                    self._written, self.written_at = wrong, time.monotonic()
            self._due = time.monotonic() + third
        return min(PERIOD_AFTER_MOVE, max(0.0, self._due - time.monotonic()))

    async def stop(self) -> None:
        """Remove the heartbeat and write no more. If Redis is away, it expires by itself."""
        self._is_stopped = True
        with suppress(StreamUnavailableError, TimeoutError):
            # A write that is under way must not arrive behind the removal.
            async with asyncio.timeout(STOP_STEP_TIMEOUT), self._writing:
                await self._heartbeats.remove(self._constant.name)

    def now(self) -> Heartbeat:
        """Return what the heartbeat would say now, also of a blocked event loop."""
        return self._says(self._health.fault)

    def _says(self, fault: Fault | None) -> Heartbeat:
        work, oldest = self._work, self._work.oldest_held
        return msgspec.structs.replace(
            self._constant,
            uptime=round(time.monotonic() - self._started, 1),
            held=work.held,
            oldest_held=None if oldest is None else round(oldest, 1),
            free_slots=max(0, work.free_slots),
            free_threads=self._threads.free,
            troubles=work.troubles,
            stuck_threads=len(self._threads.stuck()),
            sick="" if fault is None else fault.code,
            sick_why="" if fault is None else fault.detail,
        )


def constant_part(name: str, settings: Settings, handlers: Handlers[Any]) -> Heartbeat:
    """Return what does not change in a worker's heartbeat."""
    return Heartbeat(
        name=name,
        program=program_name(),
        host=socket.gethostname(),
        pid=os.getpid(),
        version=version("hookmill"),
        group=settings.group,
        wire_versions=WIRE_VERSIONS,
        handlers={handler.name: handler.patterns for handler in handlers},
        aliases={alias: handler.name for handler in handlers for alias in handler.aliases},
        ignored=handlers.ignored,
        can=("pause", "replay", "stacks"),
        concurrency=settings.concurrency,
        threads=settings.threads,
        lease=settings.lease,
    )
