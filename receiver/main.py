"""Starts the receiver, and stops it on a signal."""

from __future__ import annotations

import structlog

from hookmill.config.settings import Settings, unknown_variables
from hookmill.config.sources import Source, sources_of
from hookmill.errors import (
    NotDurableError,
    PartitionsError,
    SettingsError,
    StreamUnavailableError,
)
from hookmill.instrumentation.trace_setup import tracing_of
from hookmill.runtime import open_files, process, supervised
from hookmill.runtime.admin_server import ADMIN_OPEN
from hookmill.runtime.spool_file import SpoolError
from hookmill.signatures.qstash import QStash
from hookmill.stream.client import Client
from hookmill.stream.facts import Backlog
from hookmill.stream.lane_producers import LaneProducers
from hookmill.stream.producer import Producer
from hookmill.stream.reply_errors import AccessRefusedError
from hookmill.stream.rights import check_rights
from receiver.app import Receiver
from receiver.drain_wait import DrainWait
from receiver.reloader import Reloader

log = structlog.get_logger("receiver")


def run(settings: Settings) -> None:
    """Receive until SIGTERM or SIGINT."""
    process.run(receive(settings))


async def receive(settings: Settings) -> None:
    """Receive until a signal asks to stop. Raise `SettingsError` if the settings cannot be used."""
    sources = sources_of(settings)
    if not sources:
        raise SettingsError(
            ["there is no source: set QSTASH_CURRENT_SIGNING_KEY or MARBLE_WEBHOOK_SECRET"]
        )
    if settings.admin_port and settings.admin_port == settings.port:
        raise SettingsError(
            ["HOOKMILL_ADMIN_PORT and PORT are the same: senders would reach the admin address"]
        )
    _warn(settings, sources)
    _allow_connections(settings)
    stream = stream_of(settings)
    receiver = Receiver(settings, sources, stream, tracing=tracing_of(settings))
    reloader = Reloader(settings, sources, receiver.serve, on_load=receiver.loaded)
    reloader.serve()
    drain = DrainWait(settings.drain)
    async with process.stop_signal(hurry=drain.end) as stop, process.on_hangup(reloader.ask):
        try:
            await _check_stream(stream, settings)
            port = await _start(receiver, settings)
            reloader.start()
            process.collect_garbage_less_often()
            if receiver.admin_port:
                log.info(ADMIN_OPEN, host=settings.admin_host, port=receiver.admin_port)
            log.info("receiving", port=port, paths=[source.path for source in sources])
            supervised.say_ready()
            await stop.wait()
            await _leave(receiver, drain)
        finally:
            await reloader.stop()
            await receiver.stop()
            await stream.close()
    log.info("stopped")


async def _leave(receiver: Receiver, drain: DrainWait) -> None:
    """Deny readiness, and go on accepting deliveries until load balancers send none here."""
    receiver.quiet()
    if drain.seconds:
        log.info("not ready any more, still accepting deliveries", seconds=drain.seconds)
        await drain.wait()
    log.info("stopping")


def _warn(settings: Settings, sources: list[Source]) -> None:
    """Log what is unsafe or useless in the settings."""
    for name in unknown_variables():
        log.warning("unknown setting", variable=name)
    if settings.public_url is None and any(isinstance(s.scheme, QStash) for s in sources):
        log.warning(
            "HOOKMILL_PUBLIC_URL is not set: a token made for another URL with the same "
            "signing keys would be accepted"
        )
    if settings.development:
        log.warning(
            "HOOKMILL_DEVELOPMENT is set: public development keys, with which anyone can sign, are "
            "not refused. Unset it in production",
            host=settings.host,
        )


def _allow_connections(settings: Settings) -> None:
    """Raise the limit of open files as far as possible. Say so if that is too little."""
    open_files.raise_limit(settings.connections)
    files = open_files.limit()
    allowed = open_files.allowed_connections(settings.connections, files)
    if allowed < (settings.connections or open_files.FEW):
        log.warning(
            "the limit of open files is low: raise the hard limit (ulimit -Hn, LimitNOFILE)",
            open_files=files, connections=allowed,
        )  # fmt: skip


def stream_of(settings: Settings) -> Producer:
    """Make the stream that the settings ask for."""
    client = Client(
        settings.need_redis_url(),
        settings.prefix,
        partitions=settings.partitions,
        timeout=settings.append_timeout,
        url_file=settings.redis_url_file,
    )
    kind = LaneProducers if client.is_cluster else Producer
    return kind(
        client,
        durability=settings.durability,
        limit=Backlog(settings.backlog_messages, settings.backlog_bytes),
    )


async def _check_stream(stream: Producer, settings: Settings) -> None:
    """Raise `SettingsError` if this Redis can never do what the settings ask for."""
    try:
        await check_rights(stream.client, "receiver")
        await stream.probe()
    except PartitionsError as error:
        raise SettingsError([str(error)]) from None
    except NotDurableError as error:
        if settings.durability == "aof":  # a level that needs replicas may be reached later
            raise SettingsError([f"HOOKMILL_DURABILITY=aof: {error}"]) from None
    except AccessRefusedError as error:
        raise SettingsError([f"{settings.redis_variable}: {error}"]) from None
    except StreamUnavailableError as error:
        # The append checks again before it accepts a message.
        then = "503" if settings.spool is None else "the spool"
        log.warning("Redis cannot be used yet", deliveries_get=then, error=str(error))


async def _start(receiver: Receiver, settings: Settings) -> int:
    try:
        return await receiver.start()
    except SpoolError as error:
        raise SettingsError([f"HOOKMILL_SPOOL: {error}"]) from None
    except OSError as error:
        raise SettingsError(
            [f"cannot listen on {settings.host}, port {settings.port}: {error.strerror or error}"]
        ) from None
