"""The worker as a whole: its lanes, its background tasks, and how they start and stop."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

from hookmill.config.settings import Settings
from hookmill.errors import GroupLostError, GroupRefusedError, StreamUnavailableError
from hookmill.handlers import Handlers
from hookmill.runtime import process
from hookmill.runtime.log_level_watch import LogLevelWatch
from hookmill.runtime.tasks import cancel_and_wait, run_periodically
from hookmill.stream.client import Client
from hookmill.stream.facts import Heartbeat
from hookmill.stream.rates import RateHistory
from worker.dead_watchers import DeadWatchers
from worker.duties import Duties
from worker.health import WorkerHealth
from worker.heartbeat import HeartbeatWriter, constant_part
from worker.instruments import Instruments, WorkerCounts
from worker.lane import Shared, WorkerLane
from worker.lanes import Lanes
from worker.loop_watch import LoopWatch
from worker.opening import client_of
from worker.parts import ended, first_to_end, watch_thread
from worker.pool import STOP_STEP_TIMEOUT, AttemptCounter
from worker.rates import WorkerRates
from worker.slots import Slots
from worker.stacks import Run, stack_of_task, what_runs_briefly
from worker.stuck_threads import watch_stuck_threads
from worker.threads import HandlerThreads, ThreadCall
from worker.unmatched import UnmatchedTypes
from worker.waiting import WaitingMover

if TYPE_CHECKING:
    from hookmill.instrumentation.tracing import Tracing


class Worker:
    """Pools and their background tasks: `start`, `quiet`, `stop(deadline)`."""

    def __init__(
        self,
        settings: Settings,
        handlers: Handlers[Any],
        resources: Any,
        tracing: Tracing | None = None,
    ) -> None:
        self.consumer_name = process.consumer_name()
        self.handler_count = len(handlers)
        self._client = client_of(settings)
        self._clients = self._client.lanes() if self._client.is_cluster else [self._client]
        self._threads = HandlerThreads(settings.threads)
        self._stuck_limit = settings.stuck_limit
        self.instruments = self._instruments_of(settings, handlers)
        self._watchers = DeadWatchers(handlers, resources)
        # Rates and levels of logs are not about a partition: they lie in the first one.
        self._rates = WorkerRates(RateHistory(self._clients[0]), settings.group)
        shared = self._shared(settings, handlers, resources, tracing)
        lanes = [self._lane_of(client, shared) for client in self._clients]
        self.lanes = Lanes(lanes, self._threads)
        self._loop_watch = LoopWatch(self.lanes.runs)
        self._tasks: list[asyncio.Task[Any]] = []
        self._aside: list[asyncio.Task[None]] = []
        self._duties = Duties(lambda name: stack_of_task(name, self._tasks))
        self.health = WorkerHealth(
            self.lanes, self._threads, self._loop_watch, self._duties, lambda: ended(self._tasks)
        )
        about = constant_part(self.consumer_name, settings, handlers)
        self._heartbeats = [
            HeartbeatWriter(lane.heartbeats, about, self.lanes, self._threads, self.health)
            for lane in self.lanes.each
        ]
        self._periodic = self._periodic_tasks(settings)
        self.is_stopping = False
        """Whether `stop` was called."""

    def _shared(
        self, settings: Settings, handlers: Handlers[Any], resources: Any, tracing: Tracing | None
    ) -> Shared:
        """Return what all lanes share."""
        counters: tuple[AttemptCounter, ...] = (self._rates.settled,)
        if self.instruments is not None:
            counters += (self.instruments.messages.settled,)
        return Shared(
            self.consumer_name, settings, handlers, resources, self._threads,
            Slots(settings.concurrency, settings.take_bytes), self._watchers,
            UnmatchedTypes(handlers), counters, tracing, self._stacks,
        )  # fmt: skip

    def _periodic_tasks(self, settings: Settings) -> dict[str, Callable[[], Awaitable[float]]]:
        """Return what the worker as a whole does regularly; each lane has more."""
        first, name, lanes = self._clients[0], self.consumer_name, self.lanes
        levels = LogLevelWatch.of(first, settings.log_level, name, "worker")
        waiting = WaitingMover(self._threads, lanes, lanes.rest, name, settings.lease)
        return {
            "log level": levels.run_once,
            "loop watch": self._loop_watch.beat,
            "rates": self._rates.run_once,
            "waiting": waiting.run_once,
        }

    def _lane_of(self, client: Client, shared: Shared) -> WorkerLane:
        """Make a lane. Where there are several, its lines of the log say of which partition."""
        context = contextvars.copy_context()
        if len(self._clients) > 1:
            numbers = ", ".join(map(str, client.numbers))
            context.run(structlog.contextvars.bind_contextvars, partition=numbers)
        return context.run(WorkerLane, client, shared)

    def _stacks(self) -> str:
        return what_runs_briefly(*self.what_runs(), self._loop)

    def _instruments_of(self, settings: Settings, handlers: Handlers[Any]) -> Instruments | None:
        """Return what measures; None where nobody can ask for it."""
        if settings.admin_port is None:
            return None
        names = [handler.name for handler in handlers]
        return Instruments(settings, names, self._client, self._counts, self._clients)

    def _counts(self) -> WorkerCounts:
        return self.lanes.counts()

    def start(self) -> asyncio.Task[str]:
        """Begin to take messages, as soon as Redis is available.

        Return a task that ends when a part of the worker has ended by itself; its result is the
        part's name. The worker must stop then, because it would only look alive.
        """
        self._loop = asyncio.get_running_loop()
        self._loop_watch.start()
        if self.instruments is not None:
            self.instruments.start()
        parts: dict[str, Coroutine[Any, Any, None]] = {
            "stuck threads": watch_stuck_threads(self._threads, self._stuck_limit),
            "loop watch thread": watch_thread(self._loop_watch.is_alive),
            "duties": run_periodically("duties", self._duties.look),
        }
        parts |= {
            name: run_periodically(name, once, self._duties.of(name))
            for name, once in self._periodic.items()
        }
        tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]
        pools = []
        for lane, heartbeat in zip(self.lanes.each, self._heartbeats, strict=True):
            pool, others = lane.start({"heartbeat": heartbeat.run_once}, self._duties)
            pools.append(pool)
            tasks += others
        self._ended = asyncio.create_task(first_to_end([*pools, *tasks]), name="watch")
        self._tasks = [self._ended, *tasks]
        if len(pools) > 1:
            opening = asyncio.create_task(self.lanes.watch_opening(), name="opening")
            self._aside = [opening]
        return self._ended

    async def quiet(self) -> None:
        """Take nothing more; messages that run go on."""
        self._ended.cancel()  # from now on the pool ends on request, which is no failure
        await asyncio.gather(*(lane.pool.quiet() for lane in self.lanes.each))

    async def stop(self, deadline: float) -> None:
        """Finish within `deadline` seconds, requeue the rest, and close all connections.

        The lanes do each step at the same time: one whose server does not answer holds up no other.
        """
        self.is_stopping = True
        self._ended.cancel()
        ends = time.monotonic() + deadline
        await asyncio.gather(*(lane.pool.stop(deadline) for lane in self.lanes.each))
        await self._watchers.drain(max(ends - time.monotonic(), STOP_STEP_TIMEOUT))
        await asyncio.gather(*(heartbeat.stop() for heartbeat in self._heartbeats))
        await cancel_and_wait([*self._tasks, *self._aside])
        self._loop_watch.stop()
        await asyncio.gather(self._flush_rates(), *(lane.leave() for lane in self.lanes.each))
        self._threads.close()
        if self.instruments is not None:
            await self.instruments.stop()
        for lane in self.lanes.each:
            await lane.close()
        await self._client.close()

    async def _flush_rates(self) -> None:
        with suppress(StreamUnavailableError, GroupLostError, TimeoutError):
            async with asyncio.timeout(STOP_STEP_TIMEOUT):
                await self._rates.flush()

    def what_runs(self) -> tuple[list[Run], list[ThreadCall]]:
        """Return the messages and the plain functions that run. Any thread may call it."""
        return self.lanes.runs(), self._threads.running()

    def heartbeat_now(self) -> Heartbeat:
        """Return what the heartbeat would say now."""
        return self._heartbeats[0].now()

    @property
    def heartbeat_written_at(self) -> float:
        """When Redis took the last heartbeat, in any lane (monotonic seconds); before the first one
        -inf.
        """
        return max(heartbeat.written_at for heartbeat in self._heartbeats)

    @property
    def opened(self) -> asyncio.Event:
        """Set when the consumer group was opened for the first time: from then on it works."""
        return self.lanes.opened

    @property
    def refusal(self) -> GroupRefusedError | None:
        """Why the consumer group cannot be used, if that is what ended the worker."""
        return self.lanes.refusal

    @property
    def has_stragglers(self) -> bool:
        """Whether a handler still runs after `stop`: in a thread, which cannot be stopped, or
        because it swallowed its cancellation.
        """
        return (
            bool(self._threads.running()) or self._watchers.has_stragglers or not self.lanes.is_idle
        )
