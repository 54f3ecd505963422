"""Fixtures: running receivers, what they stored, what they logged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import redis
import structlog
from structlog.testing import capture_logs

from hookmill.config.settings import Settings
from hookmill.config.sources import Source, sources_of
from hookmill.runtime import admin_server
from hookmill.stream.producer import Producer
from receiver import app, appender, drainer, health, pipeline
from receiver import http as http_module
from receiver.app import Receiver
from receiver.main import stream_of
from receiver.spool import Spool
from tests.receiver.appending import PATIENT
from tests.receiver.serving import (
    KEYS,
    LIMIT,
    Running,
    StartAt,
    StartReceiver,
    Stored,
    Wire,
    lingering,
)
from tests.receiver.spools import MIB, OpenSpool
from tests.support import Server, Stream, eventually, message

if TYPE_CHECKING:
    from tests.receiver.certificate_servers import World


@pytest.fixture
def settings(settings: Callable[..., Settings]) -> Callable[..., Settings]:
    """Settings with an admin address."""
    return lambda **fields: settings(**{"admin_port": 0, **fields})


@pytest.fixture
async def start_at(monkeypatch: pytest.MonkeyPatch, prefix: str) -> AsyncIterator[StartAt]:
    """Start a receiver with these settings, on this stream or on one of its own, and stop it at the
    end: before what is under the prefix is deleted, because its last counts are written then.
    """
    # Shorter than in production: the server reads on from a refused sender, and would notice late
    # that it has hung up.
    monkeypatch.setattr(http_module, "_LINGER", 0.2)
    started: list[Receiver] = []
    opened: list[Producer] = []

    async def start(
        settings: Settings, stream: Producer | None = None, sources: list[Source] | None = None
    ) -> Running:
        if stream is None:
            stream = stream_of(settings)
            opened.append(stream)
        sources = sources_of(settings) if sources is None else sources
        receiver = Receiver(settings, sources, stream)
        started.append(receiver)
        port = await receiver.start()
        return Running(receiver, port, {source.name: source for source in sources})

    yield start
    for receiver in started:
        await receiver.stop()
    await eventually(lambda: not lingering(), what="the server to stop lingering")
    for stream in opened:
        await stream.client.close()


@pytest.fixture
def start(settings: Callable[..., Settings], stream: Producer, start_at: StartAt) -> StartReceiver:
    """Start a receiver on the test's own prefix, with both senders."""

    async def start_one(**fields: Any) -> Running:
        given = {**KEYS, "body_limit": LIMIT, **fields}
        return await start_at(settings(**given), stream)

    return start_one


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


@pytest.fixture
def stored(redis_client: redis.Redis, prefix: str) -> Stored:
    """Read the entries of the stream, oldest first."""

    def entries() -> list[dict[bytes, bytes]]:
        found: Any = redis_client.xrange(f"{prefix}:{{0}}:stream")
        return [fields for _, fields in found]

    return entries


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[Running], Awaitable[Wire]]]:
    opened: list[Wire] = []

    async def connect_to(running: Running) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", running.port))
        opened.append(wire)
        return wire

    yield connect_to
    for wire in opened:
        wire.writer.close()


@pytest.fixture
def lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[list[dict[str, Any]]]:
    """Our own log lines, without those of the admin address. The limits that earlier tests have
    reached are reset.
    """
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    monkeypatch.setattr(admin_server, "log", structlog.wrap_logger(None, wrapper_class=silent))
    for module in (app, appender, drainer, health, pipeline):
        monkeypatch.setattr(module, "log", structlog.get_logger("receiver"))
    logging.getLogger("receiver.http").filters.clear()
    with capture_logs() as captured:
        yield captured  # type: ignore[misc] # an event is a mutable mapping, here always a dict


@pytest.fixture
async def patient(server: Server, prefix: str) -> AsyncIterator[Producer]:
    """A stream with a long timeout. Its script is loaded in the server already."""
    opened = Stream(server.url, prefix, timeout=PATIENT)
    await opened.append([message(id="warm-up")])
    await opened.client.execute(0, "DEL", opened.partitions[0].stream)
    yield opened
    await opened.close()


@pytest.fixture
async def open_spool(tmp_path: Path) -> AsyncIterator[OpenSpool]:
    """Open the test's file. Each opened spool acts as a process of its own."""
    opened: list[Spool] = []

    async def open_one(limit: int = 64 * MIB, path: Path = tmp_path / "spool.db") -> Spool:
        spool = Spool(path, limit)
        opened.append(spool)
        await spool.open()
        return spool

    yield open_one
    for spool in opened:
        await spool.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """The HTTPS servers of the senders that publish their certificates."""
    from tests.receiver.certificate_servers import (  # noqa: PLC0415 - it makes keys, which takes long
        World,
    )

    made = World(tmp_path)
    await made.serve()
    yield made
    await made.close()
