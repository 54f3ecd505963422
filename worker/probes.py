"""What the admin address of a worker answers, from the start of the process to its end.

It answers from a thread of its own: a worker whose event loop is blocked says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError
from hookmill.printable import printable
from hookmill.runtime.admin_request import Answer, PageRefusal
from hookmill.runtime.admin_server import ADMIN_OPEN
from hookmill.runtime.admin_thread import AdminThread, in_program
from hookmill.runtime.metrics_page import metrics_page
from hookmill.stream.facts import Heartbeat
from worker.app import Worker
from worker.instruments import StartedInstruments
from worker.metrics import WorkerMetrics

log = structlog.get_logger("worker")

ANSWER_WITHIN = 0.9
"""Seconds that the event loop has to answer /readyz: probes wait for a second by default."""

REDIS_WITHIN = 0.6
"""Seconds that Redis has to answer meanwhile."""

METRICS_WITHIN = 4.0
"""Seconds that the event loop has to make /metrics. Beyond that it is blocked, and another thread
may read what it counts.
"""

FRESH = 2.0
"""Seconds for which an answer of Redis says that it answers."""

STARTING = PageRefusal(503, "starting", "the worker has not begun to work")


class Probes:
    """The pages of a worker. Until `worker` is set, it is starting."""

    def __init__(self) -> None:
        self.worker: Worker | None = None

    async def alive(self) -> Answer:
        """Answer /healthz: whether the worker has to be restarted. Any thread may ask."""
        worker = self.worker
        fault = None if worker is None or worker.is_stopping else worker.health.fault
        if fault is not None:
            return PageRefusal(503, fault.code, fault.detail).answer
        return Answer(200, b"ok\n")

    async def ready(self) -> Answer:
        """Answer /readyz: the worker takes messages of its group, and Redis answers."""
        worker, now = self.worker, self._now()
        if worker is None or now is None:
            return STARTING.answer
        refusal = self._not_ready(worker, now.lease) or await _redis_silent(worker)
        if refusal is not None:
            return refusal.answer
        text = f"ready: group {now.group}, {now.held} held, {now.free_slots} free slots\n"
        for partition, why in now.troubles.items():
            text += f"not from partition {partition}: {printable(why)}\n"
        return Answer(200, text.encode())

    @staticmethod
    def _not_ready(worker: Worker, lease: float) -> PageRefusal | None:
        if worker.is_stopping:
            return PageRefusal(503, "stopping", "the worker is stopping")
        if not worker.opened.is_set():
            return PageRefusal(503, "group_not_open", "the consumer group could not be opened yet")
        if (fault := worker.health.fault) is not None:
            return PageRefusal(503, fault.code, fault.detail)
        if worker.lanes.cannot_take:
            detail = f"messages cannot be taken from Redis now: {worker.lanes.take_error}"
            return PageRefusal(503, "stream_unavailable", detail)
        if time.monotonic() - worker.heartbeat_written_at > lease:
            return PageRefusal(
                503, "stream_unavailable", "Redis took no heartbeat within the last lease"
            )
        return None

    async def blocked(self) -> Answer:
        """Answer in place of /readyz while the event loop is blocked. Any thread may ask."""
        if self.worker is None:
            return STARTING.answer
        fault = self.worker.health.blocked()
        return PageRefusal(503, fault.code, fault.detail).answer

    def _now(self) -> Heartbeat | None:
        return None if self.worker is None else self.worker.heartbeat_now()

    @asynccontextmanager
    async def served(self, settings: Settings) -> AsyncIterator[None]:
        """Answer at the admin address of the settings, if they give one. Raise `SettingsError` if
        its port cannot be used.
        """
        if settings.admin_port is None:
            yield
            return
        started = StartedInstruments(lambda: self.worker)
        shown = WorkerMetrics(self._now), started
        metrics = metrics_page(*shown, prepare=(started.prepare,))
        pages = {
            "/healthz": self.alive,
            "/readyz": in_program(self.ready, ANSWER_WITHIN, self.blocked),
            # Beside a blocked loop nothing can be asked of Redis, but what was counted can be read.
            "/metrics": in_program(metrics, METRICS_WITHIN, metrics_page(*shown)),
        }
        server = AdminThread(settings.admin_host, settings.admin_port, pages, "worker")
        port = await server.start()
        if port:
            log.info(ADMIN_OPEN, host=settings.admin_host, port=port)
        try:
            yield
        finally:
            await server.stop()


async def _redis_silent(worker: Worker) -> PageRefusal | None:
    """Say that Redis does not answer. It is asked, unless it has answered just now."""
    answered = max(worker.lanes.answered_at, worker.heartbeat_written_at)
    if time.monotonic() - answered <= FRESH:
        return None
    try:
        async with asyncio.timeout(REDIS_WITHIN):
            await worker.lanes.ask()
    except TimeoutError:
        return PageRefusal(
            503, "stream_unavailable", f"Redis did not answer within {REDIS_WITHIN:g} s"
        )
    except StreamUnavailableError as error:
        return PageRefusal(503, "stream_unavailable", str(error))
    return None
