"""Starts program 2 and ends it on a signal: take nothing more, finish, hand back the rest."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from typing import Any

import structlog

from hookmill import process
from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.handlers import Handlers
from hookmill.settings import Settings, unknown_variables
from hookmill.stream import Group, Stream
from worker.attempt import Attempter
from worker.delayed import Delayed
from worker.duty import repeat
from worker.janitor import Janitor
from worker.leases import LeaseKeeper
from worker.pool import Pool
from worker.takeover import Takeover

log = structlog.get_logger("worker")


def run(settings: Settings, handlers: Handlers[Any]) -> None:
    """Work until SIGTERM or SIGINT."""
    process.run(_work_until_signalled(settings, handlers))


async def _work_until_signalled(settings: Settings, handlers: Handlers[Any]) -> None:
    for name in unknown_variables():
        log.warning("unknown setting", variable=name)
    async with AsyncExitStack() as stack:
        stop = await stack.enter_async_context(process.stop_signal())
        resources = None
        if handlers.lifespan is not None:
            resources = await stack.enter_async_context(handlers.lifespan())
        worker = Worker(settings, handlers, resources)
        worker.start()
        log.info(
            "working", group=settings.group, consumer=worker.consumer, handlers=len(handlers),
            concurrency=settings.concurrency,
        )  # fmt: skip
        await stop.wait()
        log.info("stopping")
        await worker.stop(settings.shutdown)
    log.info("stopped")
    if worker.has_busy_threads:
        # A plain function beyond the deadline would keep the process for as long as it likes;
        # its message has been handed back.
        os._exit(0)


class Worker:
    """Program 2: a pool and its background duties. start, quiet, stop(deadline)."""

    def __init__(self, settings: Settings, handlers: Handlers[Any], resources: Any) -> None:
        self.consumer = process.consumer_name()
        self._stream = Stream(settings.need_redis_url(), settings.prefix)
        self._group = Group(
            self._stream, settings.group, self.consumer, dedup_window=settings.dedup_window
        )
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="handler")
        self._attempter = Attempter(handlers, resources, self._threads, grace=settings.grace)
        takeover = Takeover(self._group, settings.lease)
        self._pool = Pool(self._group, self._attempter, takeover, settings.concurrency)
        self._leases = LeaseKeeper(self._group.leases(), self._pool.in_hand, settings.lease)
        self._duties = {
            "delayed": Delayed(self._group).turn,
            "janitor": Janitor(self._stream, self._group, settings.retention).turn,
            "leases": self._leases.beat,
        }
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to take, as soon as Redis is there."""
        self._leases.start()
        self._tasks = [
            asyncio.create_task(repeat(name, turn), name=name)
            for name, turn in self._duties.items()
        ]
        self._pool.start()

    async def quiet(self) -> None:
        """Take nothing more; what is in hand goes on."""
        await self._pool.quiet()

    async def stop(self, deadline: float) -> None:
        """Finish within `deadline` seconds, hand back the rest, leave nothing behind."""
        await self._pool.stop(deadline)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._leases.stop)
        with suppress(StreamUnavailableError, GroupLostError):
            await self._group.retire(0, self.consumer)
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._group.close()
        await self._stream.close()

    @property
    def has_busy_threads(self) -> bool:
        """Whether a plain function is still running although everything else has ended."""
        return self._attempter.has_busy_threads
