"""The worker as a whole: a pool, its background tasks, and how they start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hookmill.config.settings import Settings
from hookmill.errors import GroupLostError, GroupRefusedError, StreamUnavailableError
from hookmill.handlers import Handlers
from hookmill.runtime import process
from hookmill.runtime.log_level_watch import LogLevelWatch
from hookmill.runtime.tasks import cancel_and_wait, run_periodically
from hookmill.stream.attempts import HistoryBounds
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.dead_reasons import DeadReasons
from hookmill.stream.facts import Heartbeat
from hookmill.stream.first_sights import FirstSights
from hookmill.stream.first_waiting import FirstWaiting
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.older_workers import OlderWorkers
from hookmill.stream.rates import RateHistory
from hookmill.stream.upkeep import Upkeep
from worker.attempt import Attempter
from worker.consumption import Consumption, patience_for
from worker.dead_letter_bounds import Bounds, DeadLetterBounds
from worker.dead_watchers import DeadWatchers
from worker.delayed import Delayed
from worker.duties import Duties
from worker.health import WorkerHealth
from worker.heartbeat import HeartbeatWriter, constant_part
from worker.heedless import HeedlessWorkers
from worker.instruments import Instruments, WorkerCounts
from worker.janitor import Janitor
from worker.leases import LeaseKeeper, timeout_of
from worker.loop_watch import LoopWatch
from worker.opening import client_of, makes_group
from worker.parts import ended, first_to_end, watch_thread
from worker.pool import STOP_STEP_TIMEOUT, AttemptCounter, Pool
from worker.rates import WorkerRates
from worker.stacks import Run, stack_of_task, what_runs_briefly
from worker.stuck_threads import watch_stuck_threads
from worker.takeover import Takeover
from worker.threads import HandlerThreads, ThreadCall
from worker.traces import AttemptTraces
from worker.unknown_types import UnknownTypes
from worker.waiting import WaitingMover

if TYPE_CHECKING:
    from hookmill.instrumentation.tracing import Tracing


class Worker:
    """A pool and its background tasks: `start`, `quiet`, `stop(deadline)`."""

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
        self._consumer = self._new_consumer(settings)
        self._upkeep = Upkeep(self._client, settings.group)
        self._threads = HandlerThreads(settings.threads)
        self._stuck_limit = settings.stuck_limit
        heartbeats = Heartbeats(self._client, settings.group)
        sights = FirstSights(self._client, settings.group)
        unknown_types = UnknownTypes(sights, heartbeats, handlers)
        self._attempter = Attempter(
            handlers, resources, self._threads, grace=settings.grace, look=unknown_types.look,
            pauses=self._consumer.pauses,
        )  # fmt: skip
        self._takeover = Takeover(self._consumer, settings.lease)
        self.instruments = self._instruments_of(settings, handlers)
        self._watchers = DeadWatchers(handlers, resources)
        self._rates = WorkerRates(RateHistory(self._client), settings.group)
        self._pool = self._make_pool(settings, tracing)
        self._leases = self._lease_keeper(settings.lease)
        self._loop_watch = LoopWatch(self._pool.runs)
        self.consumption = self._consumption(settings)
        self._tasks: list[asyncio.Task[Any]] = []
        self._duties = Duties(lambda name: stack_of_task(name, self._tasks))
        self.health = self._health()
        about = constant_part(self.consumer_name, settings, handlers)
        self._heartbeat = HeartbeatWriter(heartbeats, about, self._pool, self._threads, self.health)
        self._periodic = self._periodic_tasks(settings, heartbeats, unknown_types)
        self.is_stopping = False
        """Whether `stop` was called."""

    def _make_pool(self, settings: Settings, tracing: Tracing | None) -> Pool:
        instruments = self.instruments
        counters: tuple[AttemptCounter, ...] = (self._rates.settled,)
        if instruments is not None:
            counters += (instruments.messages.settled,)
        traces = None if tracing is None else AttemptTraces(tracing, self.consumer_name)
        pool = Pool(
            self._consumer,
            self._attempter,
            self._takeover,
            settings.concurrency,
            self._watchers,
            max_bytes=settings.take_bytes,
            traces=traces,
        )
        pool.counters = counters
        return pool

    def _periodic_tasks(
        self, settings: Settings, heartbeats: Heartbeats, unknown_types: UnknownTypes
    ) -> dict[str, Callable[[], Awaitable[float]]]:
        levels = LogLevelWatch.of(self._client, settings.log_level, self.consumer_name, "worker")
        return {
            "log level": levels.run_once,
            "consumption": self.consumption.run_once,
            "delayed": Delayed(self._consumer).run_once,
            "first sights": unknown_types.forget_known,
            "heartbeat": self._heartbeat.run_once,
            "janitor": self._janitor(settings).run_once,
            "leases": self._leases.beat,
            "loop watch": self._loop_watch.beat,
            "rates": self._rates.run_once,
            "takeover": self._takeover.look,
            "unstarted": self._pool.requeue_unstarted,
            "waiting": self._waiting_mover(settings, heartbeats).run_once,
        }

    def _lease_keeper(self, lease: float) -> LeaseKeeper:
        consumer, pool = self._consumer, self._pool
        leases = consumer.leases(timeout_of(lease))
        return LeaseKeeper(
            leases, pool.held, lease, lambda: consumer.in_use(lease), pool.settling, self._stacks
        )

    def _stacks(self) -> str:
        return what_runs_briefly(*self.what_runs(), self._loop)

    def _consumption(self, settings: Settings) -> Consumption:
        waiting = FirstWaiting(self._client, settings.group)
        return Consumption(
            self._pool,
            waiting,
            is_paused=lambda: self.is_paused,
            patience=patience_for(settings.take_bytes),
        )

    def _health(self) -> WorkerHealth:
        watch, duties = self._loop_watch, self._duties
        return WorkerHealth(
            self.consumption, self._threads, watch, duties, lambda: ended(self._tasks)
        )

    def _instruments_of(self, settings: Settings, handlers: Handlers[Any]) -> Instruments | None:
        """Return what measures; None where nobody can ask for it."""
        if settings.admin_port is None:
            return None
        names = [handler.name for handler in handlers]
        return Instruments(settings, names, self._client, self._counts)

    def _counts(self) -> WorkerCounts:
        pool, takeover = self._pool, self._takeover
        return WorkerCounts(
            pool.duplicates, pool.late_outcomes, takeover.taken_over, takeover.recovered,
            pool.suspects, len(self._threads.waiting()),
        )  # fmt: skip

    def _new_consumer(self, settings: Settings) -> Consumer:
        return Consumer(
            self._client,
            settings.group,
            self.consumer_name,
            dedup_window=settings.dedup_window,
            makes_group=makes_group(settings),
            history=HistoryBounds(settings.history, settings.history_bytes),
        )

    def _waiting_mover(self, settings: Settings, heartbeats: Heartbeats) -> WaitingMover:
        rest, name = self._pool.rest, self.consumer_name
        return WaitingMover(self._threads, heartbeats, rest, name, settings.lease)

    def _janitor(self, settings: Settings) -> Janitor:
        letters = DeadLetters(self._client, settings.group, drains=True)
        bounds = DeadLetterBounds(letters, Bounds.of(settings))
        older = OlderWorkers(self._client, settings.group, settings.lease)
        heedless = HeedlessWorkers(self._consumer.pauses, older)
        reasons = DeadReasons(self._client, settings.group)
        return Janitor(self._upkeep, settings.retention, bounds, heedless, reasons)

    def start(self) -> asyncio.Task[str]:
        """Begin to take messages, as soon as Redis is available.

        Return a task that ends when a part of the worker has ended by itself; its result is the
        part's name. The worker must stop then, because it would only look alive.
        """
        self._loop = asyncio.get_running_loop()
        self._leases.start()
        self._loop_watch.start()
        if self.instruments is not None:
            self.instruments.start()
        parts = {
            "settler watch": self._pool.watch_settler(),
            "stuck threads": watch_stuck_threads(self._threads, self._stuck_limit),
            "leases thread": watch_thread(self._leases.is_alive),
            "loop watch thread": watch_thread(self._loop_watch.is_alive),
            "duties": run_periodically("duties", self._duties.look),
        }
        parts |= {
            name: run_periodically(name, once, self._duties.of(name))
            for name, once in self._periodic.items()
        }
        tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]
        self._ended = asyncio.create_task(first_to_end([self._pool.start(), *tasks]), name="watch")
        self._tasks = [self._ended, *tasks]
        return self._ended

    async def quiet(self) -> None:
        """Take nothing more; messages that run go on."""
        self._ended.cancel()  # from now on the pool ends on request, which is no failure
        await self._pool.quiet()

    async def stop(self, deadline: float) -> None:
        """Finish within `deadline` seconds, requeue the rest, and close all connections."""
        self.is_stopping = True
        self._ended.cancel()
        await self._pool.stop(deadline)
        await self._heartbeat.stop()
        await cancel_and_wait(self._tasks)
        self._loop_watch.stop()
        await asyncio.to_thread(self._leases.stop)
        with suppress(StreamUnavailableError, GroupLostError, TimeoutError):
            async with asyncio.timeout(STOP_STEP_TIMEOUT):
                await self._rates.flush()
                await self._upkeep.retire(0, self.consumer_name)
        self._threads.close()
        if self.instruments is not None:
            await self.instruments.stop()
        await self._consumer.close()
        await self._client.close()

    def what_runs(self) -> tuple[list[Run], list[ThreadCall]]:
        """Return the messages and the plain functions that run. Any thread may call it."""
        return self._pool.runs(), self._threads.running()

    def heartbeat_now(self) -> Heartbeat:
        """Return what the heartbeat would say now."""
        return self._heartbeat.now()

    @property
    def heartbeat_written_at(self) -> float:
        """When Redis took the last heartbeat (monotonic seconds); before the first one -inf."""
        return self._heartbeat.written_at

    @property
    def cannot_take(self) -> bool:
        """Whether the last try to take messages failed."""
        return self._pool.cannot_take

    @property
    def take_error(self) -> str:
        """Why it failed."""
        return self._pool.take_error

    @property
    def is_paused(self) -> bool:
        """Whether all of the group is paused, so that taking nothing is right."""
        return self._consumer.pauses.is_all

    @property
    def opened(self) -> asyncio.Event:
        """Set when the consumer group was opened for the first time: from then on it works."""
        return self._pool.opened

    @property
    def refusal(self) -> GroupRefusedError | None:
        """Why the consumer group cannot be used, if that is what ended the worker."""
        return self._pool.refusal

    @property
    def has_stragglers(self) -> bool:
        """Whether a handler still runs after `stop`: in a thread, which cannot be stopped, or
        because it swallowed its cancellation.
        """
        return (
            bool(self._threads.running()) or self._watchers.has_stragglers or not self._pool.is_idle
        )
