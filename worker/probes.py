"""What the admin address of a worker answers, from the start of the process to its end.

Nothing is asked of Redis for it: the heartbeat and the takes tell whether Redis answers.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from hookmill.config.settings import Settings
from hookmill.runtime.admin_request import Answer, PageRefusal
from hookmill.runtime.admin_server import ADMIN_OPEN, AdminServer
from hookmill.runtime.metrics_page import metrics_page
from hookmill.stream.facts import Heartbeat
from worker.app import Worker
from worker.instruments import StartedInstruments
from worker.metrics import WorkerMetrics

log = structlog.get_logger("worker")


class Probes:
    """The pages of a worker. Until `worker` is set, it is starting."""

    def __init__(self) -> None:
        self.worker: Worker | None = None

    async def alive(self) -> Answer:
        """Answer /healthz: the event loop is not blocked."""
        return Answer(200, b"ok\n")

    async def ready(self) -> Answer:
        """Answer /readyz: the worker takes messages of its group, and Redis answers."""
        worker, now = self.worker, self._now()
        if worker is None or now is None:
            return PageRefusal(503, "starting", "the worker has not begun to work").answer
        if worker.is_stopping:
            return PageRefusal(503, "stopping", "the worker is stopping").answer
        if not worker.opened.is_set():
            return PageRefusal(
                503, "group_not_open", "the consumer group could not be opened yet"
            ).answer
        if worker.cannot_take:
            return PageRefusal(
                503, "stream_unavailable", "messages cannot be taken from Redis now"
            ).answer
        if time.monotonic() - worker.heartbeat_written_at > now.lease:
            return PageRefusal(
                503, "stream_unavailable", "Redis took no heartbeat within the last lease"
            ).answer
        text = f"ready: group {now.group}, {now.held} held, {now.free_slots} free slots\n"
        return Answer(200, text.encode())

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
        metrics = metrics_page(WorkerMetrics(self._now), started, prepare=(started.prepare,))
        pages = {"/healthz": self.alive, "/readyz": self.ready, "/metrics": metrics}
        server = AdminServer(settings.admin_host, settings.admin_port, pages)
        port = await server.start()
        log.info(ADMIN_OPEN, host=settings.admin_host, port=port)
        try:
            yield
        finally:
            await server.stop()
