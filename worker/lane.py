"""A lane of a worker: all that it needs to work on the partitions that can fail together.

On one server there is one lane. In a cluster each partition is one: what happens to its server
touches no message of another lane. Lanes share the slots, the threads and the budget of bytes.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from hookmill.config.settings import Settings
from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.handlers import Handlers
from hookmill.runtime.tasks import run_periodically
from hookmill.stream.attempts import HistoryBounds
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.dead_reasons import DeadReasons
from hookmill.stream.first_sights import FirstSights
from hookmill.stream.first_waiting import FirstWaiting
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.older_workers import OlderWorkers
from hookmill.stream.upkeep import Upkeep
from worker.attempt import Attempter
from worker.consumption import Consumption, patience_for
from worker.dead_letter_bounds import Bounds, DeadLetterBounds
from worker.dead_watchers import DeadWatchers
from worker.delayed import Delayed
from worker.duties import OF_PARTITION, Duties
from worker.heedless import HeedlessWorkers
from worker.janitor import Janitor
from worker.leases import LeaseKeeper, timeout_of
from worker.opening import makes_group
from worker.parts import watch_thread
from worker.pool import STOP_STEP_TIMEOUT, AttemptCounter, Pool
from worker.slots import Slots
from worker.takeover import Takeover
from worker.threads import HandlerThreads
from worker.traces import AttemptTraces
from worker.unknown_types import UnknownTypes
from worker.unmatched import UnmatchedTypes

if TYPE_CHECKING:
    from hookmill.instrumentation.tracing import Tracing


class Shared(NamedTuple):
    """What the lanes of a worker share. `consumer` is the worker's name."""

    consumer: str
    settings: Settings
    handlers: Handlers[Any]
    resources: Any
    threads: HandlerThreads
    slots: Slots
    watchers: DeadWatchers
    unmatched: UnmatchedTypes
    counters: tuple[AttemptCounter, ...]
    tracing: Tracing | None
    stacks: Callable[[], str]


class WorkerLane:
    """One lane: `start` it, have its `pool` stopped, then `leave`. It closes its client.

    The log lines of a lane have the context variables that are bound when it is made.
    """

    def __init__(self, client: Client, shared: Shared) -> None:
        settings = shared.settings
        self.client = client
        self.partition = client.numbers[0]
        """The first of its partitions; in a cluster the only one."""
        self._suffix = OF_PARTITION + str(self.partition) if client.is_cluster else ""
        self.consumer = Consumer(
            client,
            settings.group,
            shared.consumer,
            dedup_window=settings.dedup_window,
            makes_group=makes_group(settings),
            history=HistoryBounds(settings.history, settings.history_bytes),
        )
        self.heartbeats = Heartbeats(client, settings.group)
        self.takeover = Takeover(self.consumer, settings.lease)
        sights = FirstSights(client, settings.group)
        self._unknown_types = UnknownTypes(sights, self.heartbeats, shared.handlers)
        self._name = shared.consumer
        self._upkeep = Upkeep(client, settings.group)
        self.pool = self._make_pool(shared)
        self.leases = self._lease_keeper(settings.lease, shared.stacks)
        self.consumption = Consumption(
            self.pool,
            FirstWaiting(client, settings.group),
            is_paused=lambda: self.consumer.pauses.is_all,
            patience=patience_for(settings.take_bytes),
        )
        self._periodic: dict[str, Callable[[], Awaitable[float]]] = {
            "consumption": self.consumption.run_once,
            "delayed": Delayed(self.consumer).run_once,
            "first sights": self._unknown_types.forget_known,
            "janitor": self._janitor(settings).run_once,
            "leases": self.leases.beat,
            "takeover": self.takeover.look,
            "unstarted": self.pool.requeue_unstarted,
        }
        self._context = contextvars.copy_context()

    def _make_pool(self, shared: Shared) -> Pool:
        # Pauses and first sights are known of the lane's own partitions.
        attempter = Attempter(
            shared.handlers, shared.resources, shared.threads, grace=shared.settings.grace,
            look=self._unknown_types.look, pauses=self.consumer.pauses, unmatched=shared.unmatched,
        )  # fmt: skip
        traces = None
        if shared.tracing is not None:
            traces = AttemptTraces(shared.tracing, shared.consumer, self.client.numbers)
        pool = Pool(
            self.consumer,
            attempter,
            self.takeover,
            shared.slots,
            shared.watchers,
            traces=traces,
        )
        pool.counters = shared.counters
        return pool

    def _lease_keeper(self, lease: float, stacks: Callable[[], str]) -> LeaseKeeper:
        consumer, pool = self.consumer, self.pool
        leases = consumer.leases(timeout_of(lease))
        return LeaseKeeper(
            leases, pool.held, lease, lambda: consumer.in_use(lease), pool.settling, stacks
        )

    def _janitor(self, settings: Settings) -> Janitor:
        letters = DeadLetters(self.client, settings.group, drains=True)
        bounds = Bounds.of(settings).share(len(self.client.numbers), self.client.total)
        older = OlderWorkers(self.client, settings.group, settings.lease)
        return Janitor(
            self._upkeep,
            settings.retention,
            DeadLetterBounds(letters, bounds),
            HeedlessWorkers(self.consumer.pauses, older),
            DeadReasons(self.client, settings.group),
        )

    def start(
        self, more: Mapping[str, Callable[[], Awaitable[float]]], duties: Duties
    ) -> tuple[asyncio.Task[None], list[asyncio.Task[Any]]]:
        """Begin to take messages. Return the tasks that do all of it, the pool's first, with those
        that do `more` regularly. When one of them ends, the lane only looks alive.
        """
        return self._context.run(self._start, more, duties)

    def _start(
        self, more: Mapping[str, Callable[[], Awaitable[float]]], duties: Duties
    ) -> tuple[asyncio.Task[None], list[asyncio.Task[Any]]]:
        self.leases.start()
        parts = {
            "settler watch": self.pool.watch_settler(),
            "leases thread": watch_thread(self.leases.is_alive),
        }
        for name, once in {**self._periodic, **more}.items():
            parts[name] = run_periodically(name, once, duties.of(name + self._suffix))
        tasks = [
            asyncio.create_task(part, name=name + self._suffix) for name, part in parts.items()
        ]
        pool = self.pool.start()
        pool.set_name(pool.get_name() + self._suffix)
        return pool, tasks

    async def leave(self) -> None:
        """End what keeps what is held, and forget this worker in Redis, if that answers."""
        await asyncio.to_thread(self.leases.stop)
        with suppress(StreamUnavailableError, GroupLostError, TimeoutError):
            async with asyncio.timeout(STOP_STEP_TIMEOUT):
                await self._upkeep.retire(0, self._name)

    async def close(self) -> None:
        """Close all connections."""
        await self.consumer.close()
        await self.client.close()

    @property
    def trouble(self) -> str:
        """Why this lane takes nothing now; "": nothing keeps it from that."""
        if not self.pool.opened.is_set():
            return "the consumer group could not be opened yet"
        if self.pool.cannot_take:
            return f"messages cannot be taken from Redis now: {self.pool.take_error}"
        return ""
