"""Fills the stream with messages as receivers do, and measures a worker that handles them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import redis

from benchmarks.harness import SUBJECT, Bench, Program, chunks, cpu_seconds, peak_mb, round_trips
from benchmarks.peers.counting import BODY, order
from hookmill.message import PACKED_VERSION, WIRE_VERSIONS, Message
from hookmill.stream.client import Client
from hookmill.stream.facts import Heartbeat
from hookmill.stream.groups import Groups
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from tests.support import Server

PREFIX = "bench"
_APPENDED_BYTES = 8_000_000
"""Bytes of bodies that are appended at once."""

_BLOCK = (
    b"Content-Type: application/json\r\nUpstash-Message-Id: msg_%024d\r\n"
    b"Upstash-Retried: 0\r\nUser-Agent: Upstash-QStash"
)


class Worked(NamedTuple):
    """What handling the messages needed, of the worker and of Redis."""

    rate: float
    worker_us: float
    redis_us: float
    reads: float
    peak_mb: float


class Counted(msgspec.Struct):
    """What a worker measured: see `peers/counting.py`."""

    messages: int
    seconds: float
    cpu_seconds: float


def empty(server: Server) -> None:
    """Empty Redis, and leave a group with the heartbeat of a worker. Without one, receivers write
    in the version that release 0.1 reads.
    """
    with redis.Redis.from_url(server.url) as client:
        # Synchronously, so that nothing is left to be freed in the turn that is measured.
        client.execute_command("FLUSHALL SYNC")
    asyncio.run(_note_worker(server.url))


async def _note_worker(url: str) -> None:
    heartbeat = Heartbeat(name="bench", lease=3600.0, wire_versions=WIRE_VERSIONS)
    async with Client(url, PREFIX) as client:
        await Groups(client).make("main")
        await Heartbeats(client, "main").write(heartbeat)


def fill(
    server: Server, count: int, first: int = 0, partitions: int = 1, body_size: int = BODY
) -> None:
    """Append `count` messages with different IDs."""
    asyncio.run(_fill(server.url, first, count, partitions, body_size))


async def _fill(url: str, first: int, count: int, partitions: int, body_size: int) -> None:
    stream = Producer(Client(url, PREFIX, partitions=partitions, timeout=60.0))
    try:
        for numbers in chunks(count, max(1, min(500, _APPENDED_BYTES // body_size))):
            messages = [message(first + number, body_size) for number in numbers]
            await stream.append(messages, PACKED_VERSION)
    finally:
        await stream.client.close()


def message(number: int, body_size: int = BODY) -> Message:
    """Return the message that the receiver makes of a delivery of the benchmark."""
    return Message(
        id=f"msg_{number:024d}",
        source="qstash",
        type="order.paid",
        body=msgspec.json.encode(order(number, body_size)),
        received_ms=int(time.time() * 1000),
        header_block=_BLOCK % number,
    )


@contextmanager
def worker(
    bench: Bench,
    server: Server,
    handlers: str,
    messages: int,
    *,
    result: Path,
    core: int | None = SUBJECT,
    command: Sequence[str | Path] = (sys.executable, "-m", "hookmill", "worker"),
    **settings: str,
) -> Iterator[Program]:
    """Run a worker inside the block. `settings` are Hookmill's settings, in lower case."""
    result.unlink(missing_ok=True)
    env = {
        "REDIS_URL": server.url,
        "HOOKMILL_PREFIX": PREFIX,
        "BENCH_MESSAGES": str(messages),
        "BENCH_RESULT": str(result),
        **{f"HOOKMILL_{name.upper()}": value for name, value in settings.items()},
    }
    name = f"benchmarks.handlers:{handlers}"
    with bench.program(*command, name, core=core, env=env) as program:
        yield program


def work(bench: Bench, server: Server, handlers: str, messages: int, **settings: str) -> Worked:
    """Run one worker until it has handled `count` of the messages."""
    result = bench.folder / "result"
    return measured(
        server,
        result,
        lambda: worker(bench, server, handlers, messages, result=result, core=SUBJECT, **settings),
    )


def measured(
    server: Server, result: Path, start: Callable[[], AbstractContextManager[Program]]
) -> Worked:
    """Start a program that handles messages, and wait for the result that it writes."""
    with redis.Redis.from_url(server.url) as client:
        reads, used = round_trips(client), cpu_seconds(server.pid)
        with start() as program:
            program.wait_for(result.exists, timeout=120.0)
            peak = peak_mb(program.pid)
            counted = msgspec.json.decode(result.read_bytes(), type=Counted)
            reads, used = round_trips(client) - reads, cpu_seconds(server.pid) - used
    each = 1e6 / counted.messages
    return Worked(
        rate=counted.messages / counted.seconds,
        worker_us=counted.cpu_seconds * each,
        redis_us=used * each,
        reads=reads / counted.messages,
        peak_mb=peak,
    )
