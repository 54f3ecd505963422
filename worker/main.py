"""The worker program: runs a `Worker` until a signal comes, or until a part of it fails.

On a signal it takes nothing more, finishes what runs within the deadline, and requeues the rest.
On SIGUSR1 it writes to standard error what runs.
"""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from typing import Any

import structlog

from hookmill.config.settings import Settings, unknown_variables
from hookmill.errors import (
    GroupLostError,
    HookmillError,
    PartitionsError,
    SettingsError,
    StreamUnavailableError,
)
from hookmill.handlers import Handlers
from hookmill.runtime import process
from hookmill.runtime.tasks import cancel_and_wait, run_periodically
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.upkeep import Upkeep
from worker.attempt import Attempter
from worker.delayed import Delayed
from worker.janitor import Janitor
from worker.leases import LeaseKeeper
from worker.pool import STOP_STEP_TIMEOUT, Pool
from worker.stacks import what_runs
from worker.takeover import Takeover

log = structlog.get_logger("worker")


class WorkerFailedError(HookmillError):
    """A part of the worker failed and the worker stopped: it has to be started again."""

    code = "worker_failed"


def run(settings: Settings, handlers: Handlers[Any]) -> None:
    """Handle messages until SIGTERM or SIGINT. Raises `WorkerFailedError`."""
    handlers.check()
    process.run(_work_until_signalled(settings, handlers))


async def _work_until_signalled(settings: Settings, handlers: Handlers[Any]) -> None:
    for name in unknown_variables():
        log.warning("unknown setting", variable=name)
    async with AsyncExitStack() as stack:
        stop = await stack.enter_async_context(process.stop_signal(signal.SIGHUP))
        await _check_partitions(settings)
        resources = None
        if handlers.lifespan is not None:
            resources = await stack.enter_async_context(handlers.lifespan())
        worker = Worker(settings, handlers, resources)
        process.collect_garbage_less_often()
        stack.enter_context(process.on_signal_aside(signal.SIGUSR1, worker.write_what_runs))
        ended = worker.start()
        log.info(
            "working", group=settings.group, consumer=worker.consumer_name, handlers=len(handlers),
            concurrency=settings.concurrency,
        )  # fmt: skip
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        failed_part = ended.result() if ended.done() else ""
        log.info("stopping")
        await worker.stop(settings.shutdown)
    log.info("stopped")
    if failed_part:
        log.error("a part of the worker had ended by itself", part=failed_part)
    if worker.has_stragglers:
        # A handler that runs beyond the deadline would keep the process alive. Its message was
        # requeued, or another worker takes it over after its lease.
        os._exit(1 if failed_part else 0)
    if failed_part:
        raise WorkerFailedError(f"the worker's {failed_part} task ended by itself")


async def _check_partitions(settings: Settings) -> None:
    """Refuse to start if the stream exists with another number of partitions."""
    async with _client_of(settings) as client:
        try:
            await client.agree_on_partitions()
        except PartitionsError as error:
            raise SettingsError([str(error)]) from None
        except StreamUnavailableError:
            pass  # the pool waits for Redis, and checks again


def _client_of(settings: Settings) -> Client:
    return Client(settings.need_redis_url(), settings.prefix, partitions=settings.partitions)


class Worker:
    """A pool and its background tasks: `start`, `quiet`, `stop(deadline)`."""

    def __init__(self, settings: Settings, handlers: Handlers[Any], resources: Any) -> None:
        self.consumer_name = process.consumer_name()
        self._client = _client_of(settings)
        self._consumer = Consumer(
            self._client, settings.group, self.consumer_name, dedup_window=settings.dedup_window
        )
        self._upkeep = Upkeep(self._client, settings.group)
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="handler")
        self._attempter = Attempter(handlers, resources, self._threads, grace=settings.grace)
        takeover = Takeover(self._consumer, settings.lease)
        self._pool = Pool(self._consumer, self._attempter, takeover, settings.concurrency)
        self._leases = LeaseKeeper(self._consumer.leases(), self._pool.held, settings.lease)
        self._periodic = {
            "delayed": Delayed(self._consumer).run_once,
            "janitor": Janitor(self._upkeep, settings.retention).run_once,
            "leases": self._leases.beat,
            "takeover": takeover.keep_in_touch,
        }
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self) -> asyncio.Task[str]:
        """Begin to take messages, as soon as Redis is available.

        Return a task that ends when a part of the worker has ended by itself; its result is the
        part's name. The worker must stop then, because it would only look alive.
        """
        self._loop = asyncio.get_running_loop()
        self._leases.start()
        periodic = [
            asyncio.create_task(run_periodically(name, run_once), name=name)
            for name, run_once in self._periodic.items()
        ]
        self._ended = asyncio.create_task(_first_to_end([self._pool.start(), *periodic]))
        self._tasks = [self._ended, *periodic]
        return self._ended

    async def quiet(self) -> None:
        """Take nothing more; messages that run go on."""
        self._ended.cancel()  # from now on the pool ends on request, which is no failure
        await self._pool.quiet()

    async def stop(self, deadline: float) -> None:
        """Finish within `deadline` seconds, requeue the rest, and close all connections."""
        self._ended.cancel()
        await self._pool.stop(deadline)
        await cancel_and_wait(self._tasks)
        await asyncio.to_thread(self._leases.stop)
        with suppress(StreamUnavailableError, GroupLostError, TimeoutError):
            async with asyncio.timeout(STOP_STEP_TIMEOUT):
                await self._upkeep.retire(0, self.consumer_name)
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._consumer.close()
        await self._client.close()

    def write_what_runs(self) -> None:
        """Write to standard error which messages, tasks and threads run, and where they are. Any
        thread may call it.
        """
        text = what_runs(self._pool.runs(), self._attempter.calls(), self._loop)
        process.write_to_stderr(text)

    @property
    def has_stragglers(self) -> bool:
        """Whether a handler still runs after `stop`: in a thread, which cannot be stopped, or
        because it swallowed its cancellation.
        """
        return self._attempter.has_busy_threads or not self._pool.is_idle


async def _first_to_end(tasks: list[asyncio.Task[None]]) -> str:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return ", ".join(task.get_name() for task in done)
