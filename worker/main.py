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
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from hookmill.config.settings import Settings, unknown_variables
from hookmill.config.sources import window_faults
from hookmill.errors import HookmillError, SettingsError
from hookmill.handlers import Handlers
from hookmill.instrumentation.trace_setup import tracing_of
from hookmill.runtime import process, supervised
from worker.app import Worker
from worker.opening import check_stream
from worker.pool import STOP_STEP_TIMEOUT
from worker.probes import Probes
from worker.stacks import what_runs

if TYPE_CHECKING:
    from hookmill.instrumentation.tracing import Tracing

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
    the consumer group cannot be used, or if the duplicate window is too short for a source.
    """
    handlers.check()
    if faults := window_faults(settings):
        raise SettingsError(faults)
    tracing = tracing_of(settings)
    forced_end = process.ForcedEnd(settings.shutdown)
    forced_end.arm()
    process.run(_work_until_signalled(settings, handlers, forced_end, tracing))


async def _work_until_signalled(
    settings: Settings,
    handlers: Handlers[Any],
    forced_end: process.ForcedEnd,
    tracing: Tracing | None = None,
) -> None:
    for name in unknown_variables():
        log.warning("unknown setting", variable=name)
    probes = Probes()
    loop = asyncio.get_running_loop()

    def write_what_runs() -> None:
        runs, calls = ([], []) if probes.worker is None else probes.worker.what_runs()
        process.write_to_stderr(what_runs(runs, calls, loop))

    async with AsyncExitStack() as stack:
        stop = await stack.enter_async_context(
            process.stop_signal(signal.SIGHUP, forced_end=forced_end)
        )
        stack.enter_context(process.on_signal_aside(signal.SIGUSR1, write_what_runs))
        await stack.enter_async_context(probes.served(settings))
        lifespan = await stack.enter_async_context(AsyncExitStack())
        try:
            async with _interrupted_by(stop):
                resources = await _prepare(settings, handlers, lifespan)
        except _StoppedEarlyError:
            log.info("stopped before it began to work")
            forced_end.end_within(STOP_STEP_TIMEOUT, status=0)
            return
        worker = probes.worker = Worker(settings, handlers, resources, tracing)
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
    supervised.say_ready()
