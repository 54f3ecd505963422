"""The receiver as a whole: its parts, and how it starts and stops."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog

from hookmill.config.settings import Settings
from hookmill.config.sources import Source
from hookmill.instrumentation.program import ProgramMetrics
from hookmill.runtime import process
from hookmill.runtime.admin_server import AdminServer
from hookmill.runtime.log_level_watch import PERIOD, LogLevelWatch
from hookmill.runtime.metrics_page import Collector, Prepare, metrics_page
from hookmill.stream.producer import Producer
from receiver.appender import Appender
from receiver.background import BackgroundTask
from receiver.certificate_memory import CertificateMemory
from receiver.certificates import Certificates
from receiver.drainer import Drainer
from receiver.health import Health
from receiver.http import HttpServer
from receiver.lane_appenders import LaneAppenders
from receiver.pinning import PinningWatch
from receiver.pipeline import Pipeline
from receiver.rates import ReceiverRates
from receiver.redaction_notes import RedactionNotes
from receiver.refused import RefusedKeeper
from receiver.responses import NO_SECRET
from receiver.source_table import Served
from receiver.spool import Spool
from receiver.spool_metrics import SpoolMetrics
from receiver.traces import DeliveryTraces
from receiver.wire_version import WireVersionWatch

if TYPE_CHECKING:
    from hookmill.instrumentation.tracing import Tracing

log = structlog.get_logger("receiver")


class Receiver:
    """`start` it, `quiet` it (so that the load balancer stops sending deliveries here), and `stop`
    it within the deadline of the settings.
    """

    def __init__(
        self,
        settings: Settings,
        sources: Iterable[Source],
        stream: Producer,
        certificates: Certificates | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._shutdown = settings.shutdown
        self._quiet_since: float | None = None
        timeout = settings.append_timeout
        self._spool = _spool_of(settings)
        self._drainer = Drainer(self._spool, stream, timeout) if self._spool else None
        self._pinning = PinningWatch(stream.client, settings.lease)
        traces = None if tracing is None else DeliveryTraces(tracing)
        self._appenders = [
            Appender(lane, timeout, self._spool, self._pinning.backlog_is_full, traces)
            for lane in stream.lanes
        ]
        self._appender = _as_one(self._appenders, stream.lanes, settings)
        write_in = self._appender.write_in
        self._wire_version = WireVersionWatch(stream.client, settings.lease, write_in)
        certificates = certificates or Certificates()
        refused = RefusedKeeper(stream.client, settings) if settings.keep_refused else None
        self._pipeline = Pipeline(settings, self._appender, certificates, traces, refused)
        for appender in self._appenders:
            appender.on_written = self._pipeline.metrics.accepted.written
        self._rates = ReceiverRates(stream.client, lambda: self._pipeline.metrics.rates)
        self._certificate_memory = CertificateMemory(stream.client, certificates)
        self._redaction_notes = RedactionNotes(stream.client)
        self._health = Health(stream, self._spool, timeout, self._remarks)
        self._log_level = _log_level_task(stream, settings)
        self._http = HttpServer(settings, self._pipeline, self._health)
        self._without_secret: tuple[str, ...] = ()
        self._replace_sources(sources, {})
        self._metrics: ProgramMetrics | None = None
        self._admin = self._admin_server(settings, stream)
        self.admin_port: int | None = None
        """The port of the admin address, once it is open; 0 where a supervisor has it."""

    def _admin_server(self, settings: Settings, stream: Producer) -> AdminServer | None:
        """Return the server of the admin address. Only where there is one, more is measured than
        counts of deliveries.
        """
        if settings.admin_port is None:
            return None
        counts = self._pipeline.metrics
        counts.backlog_limit = settings.backlog_messages, settings.backlog_bytes
        self._pipeline.time_deliveries()
        for appender in self._appenders:
            appender.on_append = counts.append_ended
        self._metrics = ProgramMetrics(
            stream.client, settings.lease, counts.flush, [lane.client for lane in stream.lanes]
        )
        collectors: list[Collector] = [counts, self._metrics]
        prepare: list[Prepare] = [self._metrics.prepare]
        if settings.spool:
            spooled = SpoolMetrics(settings.spool, settings.spool_limit)
            collectors.append(spooled)
            prepare.append(spooled.refresh)
        pages = {
            "/healthz": self._health.admin_alive,
            "/readyz": self._health.admin_ready,
            "/metrics": metrics_page(*collectors, prepare=tuple(prepare)),
        }
        return AdminServer(settings.admin_host, settings.admin_port, pages, "receiver")

    def serve(self, served: Served) -> None:
        """Serve these sources from the next request on."""
        self._without_secret = tuple(served.without_secret.values())
        self._replace_sources(served.sources, served.without_secret)
        self._pipeline.metrics.usable_secrets = served.usable

    def loaded(self, is_good: bool) -> None:  # noqa: FBT001 - it is the whole message
        """Note that sources and settings were loaded again, and whether all was well."""
        self._pipeline.metrics.reloaded(is_good=is_good, now=time.time())

    def _replace_sources(self, sources: Iterable[Source], without: Mapping[str, str]) -> None:
        sources = list(sources)
        self._http.replace_sources(sources, without)
        self._certificate_memory.replace_sources(sources)
        self._redaction_notes.replace_sources(sources)

    def _remarks(self) -> str:
        """Return what /readyz of the admin address says beside whether the receiver is ready."""
        lines = [
            f"source {name} has no usable secret: its deliveries get 503 {NO_SECRET.code}\n"
            for name in self._without_secret
        ]
        return "".join(lines) + self._pinning.remarks

    async def start(self) -> int:
        """Listen; return the port. Raise `SpoolError` if the spool cannot be opened, `OSError` if
        the port cannot be used, `SettingsError` if that of the admin address cannot.
        """
        if self._spool is not None and self._drainer is not None:
            await self._spool.open()
            self._drainer.start()
        self._redaction_notes.start()
        self._pinning.start()
        self._wire_version.start()
        self._log_level.start()
        self._certificate_memory.start()
        self._rates.start()
        if self._admin is not None:
            self.admin_port = await self._admin.start()
        if self._metrics is not None:
            self._metrics.start()
        return await self._http.listen()

    def quiet(self) -> None:
        """Deny readiness and close each connection after its next answer. Deliveries are still
        accepted.
        """
        self._quiet_since = self._quiet_since or time.monotonic()
        self._health.is_stopping = True
        self._http.is_quiet = True

    async def stop(self) -> None:
        """Stop listening, let the requests in flight finish, and close everything. They have what
        `quiet` has left of the deadline. A second call does nothing.
        """
        self.quiet()
        quiet_for = time.monotonic() - (self._quiet_since or 0.0)
        if cut_off := await self._http.stop(max(0.0, self._shutdown - quiet_for)):
            log.warning("requests cut off", count=cut_off)
        await self._pipeline.close()
        await self._certificate_memory.stop()
        await self._redaction_notes.stop()
        await self._rates.stop()
        await self._appender.close()
        await self._health.close()
        await self._pinning.stop()
        await self._wire_version.stop()
        await self._log_level.stop()
        if self._spool is not None and self._drainer is not None:
            await self._drainer.stop()
            await self._spool.close()
        if self._admin is not None:
            await self._admin.stop()
        if self._metrics is not None:
            await self._metrics.stop()


def _spool_of(settings: Settings) -> Spool | None:
    if not settings.spool:
        return None
    return Spool(settings.spool, settings.spool_limit, settings.partitions)


def _as_one(
    appenders: Sequence[Appender], lanes: Sequence[Producer], settings: Settings
) -> Appender | LaneAppenders:
    if len(appenders) == 1:
        return appenders[0]
    by_partition = {
        number: appender
        for appender, lane in zip(appenders, lanes, strict=True)
        for number in lane.client.numbers
    }
    return LaneAppenders(
        by_partition, most_waiting=settings.queue_messages, most_bytes=settings.queue_bytes
    )


def _log_level_task(stream: Producer, settings: Settings) -> BackgroundTask:
    name = process.consumer_name()
    watch = LogLevelWatch.of(stream.client, settings.log_level, name, "receiver")
    return BackgroundTask("log level", watch.run_once, PERIOD)
