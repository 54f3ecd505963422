"""The worker program: runs a `Worker` until a signal comes, or until a part of it fails.

On a signal it takes nothing more, finishes what runs within the deadline, and requeues the rest.
On SIGUSR1 it writes to standard error what runs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import structlog

from hookmill.config.settings import Settings, unknown_variables
from hookmill.errors import (
    GroupLostError,
    GroupRefusedError,
    HookmillError,
    SettingsError,
    StreamUnavailableError,
)
from hookmill.handlers import Handlers
from hookmill.runtime import process
from hookmill.runtime.tasks import cancel_and_wait, run_periodically
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.first_sights import FirstSights
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.upkeep import Upkeep
from worker.attempt import Attempter
from worker.dead_letter_bounds import Bounds, DeadLetterBounds
from worker.dead_watchers import DeadWatchers
from worker.delayed import Delayed
from worker.heartbeat import HeartbeatWriter, constant_part
from worker.janitor import Janitor
from worker.leases import LeaseKeeper, timeout_of
from worker.loop_watch import LoopWatch
from worker.opening import check_stream, client_of, makes_group
from worker.parts import first_to_end, watch_thread
from worker.pool import STOP_STEP_TIMEOUT, Pool
from worker.stacks import Run, what_runs
from worker.stuck_threads import watch_stuck_threads
from worker.takeover import Takeover
from worker.threads import HandlerThreads, ThreadCall
from worker.unknown_types import UnknownTypes
from worker.waiting import WaitingMover

log = structlog.get_logger("worker")

STOP_STEPS = 5.0
"""Seconds that the last steps of a stop may take together beyond `HOOKMILL_SHUTDOWN`, where Redis
does not answer. After that the process ends by force.
"""

CANCEL_TIMEOUT = 0.5
"""Seconds that a lifespan has to end after it was cancelled."""


class WorkerFailedError(HookmillError):
    """A part of the worker failed and the worker stopped: it has to be started again."""

    code = "worker_failed"


def run(settings: Settings, handlers: Handlers[Any]) -> None:
    """Handle messages until SIGTERM or SIGINT. Raises `WorkerFailedError`, and `SettingsError` if
    the consumer group cannot be used.
    """
    handlers.check()
    forced_end = process.ForcedEnd(settings.shutdown)
    forced_end.arm()
    process.run(_work_until_signalled(settings, handlers, forced_end))


async def _work_until_signalled(
    settings: Settings, handlers: Handlers[Any], forced_end: process.ForcedEnd
) -> None:
    for name in unknown_variables():
        log.warning("unknown setting", variable=name)
    worker: Worker | None = None
    loop = asyncio.get_running_loop()

    def write_what_runs() -> None:
        runs, calls = ([], []) if worker is None else worker.what_runs()
        process.write_to_stderr(what_runs(runs, calls, loop))

    async with AsyncExitStack() as stack:
        stop = await stack.enter_async_context(
            process.stop_signal(signal.SIGHUP, forced_end=forced_end)
        )
        stack.enter_context(process.on_signal_aside(signal.SIGUSR1, write_what_runs))
        lifespan = await stack.enter_async_context(AsyncExitStack())
        try:
            async with _interrupted_by(stop):
                resources = await _prepare(settings, handlers, lifespan)
        except _StoppedEarlyError:
            log.info("stopped before it began to work")
            forced_end.end_within(STOP_STEP_TIMEOUT, status=0)
            return
        worker = Worker(settings, handlers, resources)
        failed_part, ends = await _work(worker, settings, stop, forced_end)
        left = max(ends - time.monotonic() - 2 * CANCEL_TIMEOUT, STOP_STEP_TIMEOUT)
        # The lifespan may never end, and neither may threads that the user's code has started.
        forced_end.end_within(left + CANCEL_TIMEOUT, status=_status_of(worker, failed_part))
        await _close(lifespan, left)
    _end(worker, failed_part)


def _status_of(worker: Worker, failed_part: str) -> int:
    return 2 if worker.refusal else 1 if failed_part else 0


def _end(worker: Worker, failed_part: str) -> None:
    log.info("stopped")
    if failed_part and not worker.refusal:
        log.error("a part of the worker had ended by itself", part=failed_part)
    if worker.has_stragglers:
        # A handler that runs beyond the deadline would keep the process alive. Its message was
        # requeued, or another worker takes it over after its lease.
        os._exit(_status_of(worker, failed_part))
    if worker.refusal:
        raise SettingsError([str(worker.refusal)])
    if failed_part:
        raise WorkerFailedError(f"the worker's {failed_part} task ended by itself")


async def _prepare(settings: Settings, handlers: Handlers[Any], lifespan: AsyncExitStack) -> Any:
    """Check what may keep the worker from starting; return what the handlers' lifespan yields."""
    await check_stream(settings)
    if handlers.lifespan is None:
        return None
    return await lifespan.enter_async_context(handlers.lifespan())


class _StoppedEarlyError(Exception):
    """A signal asked to stop while the worker was starting."""


@asynccontextmanager
async def _interrupted_by(stop: asyncio.Event) -> AsyncIterator[None]:
    """Cancel this block when `stop` is set; it ends with `_StoppedEarlyError` then.

    The block stays in its task, because a lifespan has to end in the task in which it began.
    """
    task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]  # a coroutine has one

    async def interrupt() -> None:
        await stop.wait()
        task.cancel()

    interrupting = asyncio.create_task(interrupt(), name="start")
    try:
        yield
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        task.uncancel()
        raise _StoppedEarlyError from None
    finally:
        interrupting.cancel()


async def _work(
    worker: Worker, settings: Settings, stop: asyncio.Event, forced_end: process.ForcedEnd
) -> tuple[str, float]:
    """Run the worker until it is asked to stop or a part of it has ended. Return this part's name,
    and the monotonic time at which `HOOKMILL_SHUTDOWN` is over.
    """
    process.collect_garbage_less_often()
    forced_end.seconds = settings.shutdown + STOP_STEPS
    ended = worker.start()
    telling = asyncio.create_task(_tell_when_working(worker, settings), name="start")
    failed_part = await _stop_or_failure(stop, ended)
    telling.cancel()
    ends = time.monotonic() + settings.shutdown
    log.info("stopping")
    forced_end.start()
    await worker.stop(settings.shutdown)
    return failed_part, ends


async def _stop_or_failure(stop: asyncio.Event, ended: asyncio.Task[str]) -> str:
    """Wait for a signal or for the end of a part of the worker. Return the part's name; "" if there
    was a signal.
    """
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        return "main"  # a handler cancels every task that it finds
    finally:
        stopping.cancel()
    if ended.done():
        return "main" if ended.cancelled() else ended.result()
    return "" if stop.is_set() else "main"


async def _close(lifespan: AsyncExitStack, seconds: float) -> None:
    """End the lifespan of the handlers. Where it takes longer, it is cancelled."""
    try:
        async with asyncio.timeout(seconds) as timeout:
            await lifespan.aclose()
    except TimeoutError:
        if not timeout.expired():
            raise
        log.error("the lifespan did not end in time", seconds=round(seconds, 1))


async def _tell_when_working(worker: Worker, settings: Settings) -> None:
    await worker.opened.wait()
    log.info(
        "working", group=settings.group, consumer=worker.consumer_name,
        handlers=worker.handler_count, concurrency=settings.concurrency,
    )  # fmt: skip


class Worker:
    """A pool and its background tasks: `start`, `quiet`, `stop(deadline)`."""

    def __init__(self, settings: Settings, handlers: Handlers[Any], resources: Any) -> None:
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
            handlers, resources, self._threads, grace=settings.grace, look=unknown_types.look
        )
        takeover = Takeover(self._consumer, settings.lease)
        self._watchers = DeadWatchers(handlers, resources)
        self._pool = Pool(
            self._consumer, self._attempter, takeover, settings.concurrency, self._watchers,
            max_bytes=settings.take_bytes,
        )  # fmt: skip
        self._leases = self._lease_keeper(settings.lease)
        self._loop_watch = LoopWatch(self._pool.runs)
        about = constant_part(self.consumer_name, settings, handlers)
        self._heartbeat = HeartbeatWriter(heartbeats, about, self._pool, self._threads)
        self._periodic = {
            "delayed": Delayed(self._consumer).run_once,
            "first sights": unknown_types.forget_known,
            "heartbeat": self._heartbeat.run_once,
            "janitor": self._janitor(settings).run_once,
            "leases": self._leases.beat,
            "loop watch": self._loop_watch.beat,
            "takeover": takeover.look,
            "unstarted": self._pool.requeue_unstarted,
            "waiting": self._waiting_mover(settings, heartbeats).run_once,
        }
        self._tasks: list[asyncio.Task[Any]] = []

    def _lease_keeper(self, lease: float) -> LeaseKeeper:
        consumer, pool = self._consumer, self._pool
        leases = consumer.leases(timeout_of(lease))
        return LeaseKeeper(leases, pool.held, lease, lambda: consumer.in_use(lease), pool.settling)

    def _new_consumer(self, settings: Settings) -> Consumer:
        return Consumer(
            self._client,
            settings.group,
            self.consumer_name,
            dedup_window=settings.dedup_window,
            makes_group=makes_group(settings),
        )

    def _waiting_mover(self, settings: Settings, heartbeats: Heartbeats) -> WaitingMover:
        rest, name = self._pool.rest, self.consumer_name
        return WaitingMover(self._threads, heartbeats, rest, name, settings.lease)

    def _janitor(self, settings: Settings) -> Janitor:
        letters = DeadLetters(self._client, settings.group, drains=True)
        bounds = DeadLetterBounds(letters, Bounds.of(settings))
        return Janitor(self._upkeep, settings.retention, bounds)

    def start(self) -> asyncio.Task[str]:
        """Begin to take messages, as soon as Redis is available.

        Return a task that ends when a part of the worker has ended by itself; its result is the
        part's name. The worker must stop then, because it would only look alive.
        """
        self._leases.start()
        self._loop_watch.start()
        parts = {
            "settler watch": self._pool.watch_settler(),
            "stuck threads": watch_stuck_threads(self._threads, self._stuck_limit),
            "leases thread": watch_thread(self._leases.is_alive),
            "loop watch thread": watch_thread(self._loop_watch.is_alive),
        }
        parts |= {name: run_periodically(name, once) for name, once in self._periodic.items()}
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
        self._ended.cancel()
        await self._pool.stop(deadline)
        await self._heartbeat.stop()
        await cancel_and_wait(self._tasks)
        self._loop_watch.stop()
        await asyncio.to_thread(self._leases.stop)
        with suppress(StreamUnavailableError, GroupLostError, TimeoutError):
            async with asyncio.timeout(STOP_STEP_TIMEOUT):
                await self._upkeep.retire(0, self.consumer_name)
        self._threads.close()
        await self._consumer.close()
        await self._client.close()

    def what_runs(self) -> tuple[list[Run], list[ThreadCall]]:
        """Return the messages and the plain functions that run. Any thread may call it."""
        return self._pool.runs(), self._threads.running()

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
