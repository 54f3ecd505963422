"""Starts program 2 and ends it on a signal: take nothing more, finish, hand back the rest."""

from __future__ import annotations

import asyncio
import os
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
from worker.pool import LAST_STEP, Pool
from worker.takeover import Takeover

log = structlog.get_logger("worker")


class WorkerFailedError(HookmillError):
    """A part of the worker ended by itself; the worker stopped, to be started again."""

    code = "worker_failed"


def run(settings: Settings, handlers: Handlers[Any]) -> None:
    """Work until SIGTERM or SIGINT."""
    handlers.check()
    process.run(_work_until_signalled(settings, handlers))


async def _work_until_signalled(settings: Settings, handlers: Handlers[Any]) -> None:
    for name in unknown_variables():
        log.warning("unknown setting", variable=name)
    async with AsyncExitStack() as stack:
        stop = await stack.enter_async_context(process.stop_signal())
        await _agree(settings)
        resources = None
        if handlers.lifespan is not None:
            resources = await stack.enter_async_context(handlers.lifespan())
        worker = Worker(settings, handlers, resources)
        process.spare_the_collector()
        ended = worker.start()
        log.info(
            "working", group=settings.group, consumer=worker.consumer, handlers=len(handlers),
            concurrency=settings.concurrency,
        )  # fmt: skip
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        fault = ended.result() if ended.done() else ""
        log.info("stopping")
        await worker.stop(settings.shutdown)
    log.info("stopped")
    if fault:
        log.error("a part of the worker had ended by itself", part=fault)
    if worker.has_stragglers:
        # A handler beyond the deadline would keep the process for as long as it likes; its
        # message has been handed back, or is taken over when its lease is over.
        os._exit(1 if fault else 0)
    if fault:
        raise WorkerFailedError(f"the worker's {fault} task ended by itself")


async def _agree(settings: Settings) -> None:
    """Refuse to start where the stream was made with another number of partitions."""
    async with _client_of(settings) as client:
        try:
            await client.agree()
        except PartitionsError as error:
            raise SettingsError([str(error)]) from None
        except StreamUnavailableError:
            pass  # the pool waits for it, and asks again


def _client_of(settings: Settings) -> Client:
    return Client(settings.need_redis_url(), settings.prefix, partitions=settings.partitions)


class Worker:
    """Program 2: a pool and its background duties. start, quiet, stop(deadline)."""

    def __init__(self, settings: Settings, handlers: Handlers[Any], resources: Any) -> None:
        self.consumer = process.consumer_name()
        self._client = _client_of(settings)
        self._group = Consumer(
            self._client, settings.group, self.consumer, dedup_window=settings.dedup_window
        )
        self._upkeep = Upkeep(self._client, settings.group)
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="handler")
        self._attempter = Attempter(handlers, resources, self._threads, grace=settings.grace)
        takeover = Takeover(self._group, settings.lease)
        self._pool = Pool(self._group, self._attempter, takeover, settings.concurrency)
        self._leases = LeaseKeeper(self._group.leases(), self._pool.in_hand, settings.lease)
        self._duties = {
            "delayed": Delayed(self._group).turn,
            "janitor": Janitor(self._upkeep, settings.retention).turn,
            "leases": self._leases.beat,
            "takeover": takeover.keep_in_touch,
        }
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self) -> asyncio.Task[str]:
        """Begin to take, as soon as Redis is there.

        Returns a task that ends when a part of the worker has ended by itself, with the part's
        name: a worker that only seems alive is worse than none.
        """
        self._leases.start()
        duties = [
            asyncio.create_task(run_periodically(name, turn), name=name)
            for name, turn in self._duties.items()
        ]
        self._ended = asyncio.create_task(_first_to_end([self._pool.start(), *duties]))
        self._tasks = [self._ended, *duties]
        return self._ended

    async def quiet(self) -> None:
        """Take nothing more; what is in hand goes on."""
        self._ended.cancel()  # from here on the pool ends because it is asked to
        await self._pool.quiet()

    async def stop(self, deadline: float) -> None:
        """Finish within `deadline` seconds, hand back the rest, leave nothing behind."""
        self._ended.cancel()
        await self._pool.stop(deadline)
        await cancel_and_wait(self._tasks)
        await asyncio.to_thread(self._leases.stop)
        with suppress(StreamUnavailableError, GroupLostError, TimeoutError):
            async with asyncio.timeout(LAST_STEP):
                await self._upkeep.retire(0, self.consumer)
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._group.close()
        await self._client.close()

    @property
    def has_stragglers(self) -> bool:
        """Whether a handler is still running although everything else has ended: in a thread,
        which cannot be stopped, or by swallowing its cancellation.
        """
        return self._attempter.has_busy_threads or not self._pool.is_idle


async def _first_to_end(tasks: list[asyncio.Task[None]]) -> str:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return ", ".join(task.get_name() for task in done)
