"""What the tests of the worker start with: pools, and attempts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hookmill import Handlers
from hookmill.runtime.tasks import cancel_and_wait, run_periodically
from hookmill.stream.consumer import Consumer
from hookmill.stream.producer import Producer
from hookmill.stream.takes import TAKE_BYTES
from tests.support import Program, Server
from tests.worker.attempts import Try
from tests.worker.pools import (
    FOR_EVER,
    MakePool,
    scripted,
)
from tests.worker.processes import WorkerProcesses
from worker import pool as pool_module
from worker import settler as settler_module
from worker.attempt import Attempter
from worker.pool import AttemptListener, Pool
from worker.slots import Slots
from worker.takeover import Takeover
from worker.threads import HandlerThreads


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "PAUSE", 0.02)
    monkeypatch.setattr(pool_module, "STOP_STEP_TIMEOUT", 0.15)
    monkeypatch.setattr(settler_module, "PAUSE", 0.02)


@pytest.fixture
async def make_pool(short_pauses: None) -> AsyncIterator[MakePool]:
    """Start a pool: `await make_pool(handlers, stream, concurrency=1)`. The end stops it."""
    pools: list[Pool] = []
    looking: list[asyncio.Task[None]] = []
    threads = HandlerThreads(4)

    async def make(
        handlers: Handlers[Any],
        stream: Producer | None = None,
        *,
        concurrency: int = 10,
        lease: float = FOR_EVER,
        consumer: Consumer | None = None,
        attempter: type[Attempter] = Attempter,
        start: bool = True,
        max_bytes: int = TAKE_BYTES,
        listeners: tuple[AttemptListener, ...] = (),
    ) -> Pool:
        if consumer is None:
            assert stream is not None
            consumer = scripted(stream, f"c{len(pools)}")
        takeover = Takeover(consumer, lease)
        pool = Pool(
            consumer,
            attempter(handlers, None, threads, grace=600, pauses=consumer.pauses),
            takeover,
            Slots(concurrency, max_bytes),
            listeners=listeners,
        )
        pools.append(pool)
        if start:
            await consumer.open()
            pool.start()
        if lease < FOR_EVER:
            looking.append(asyncio.create_task(run_periodically("takeover", takeover.look)))
        return pool

    yield make
    await cancel_and_wait(looking)
    for pool in pools:
        await pool.stop(0)
        await pool._consumer.close()
    threads.close()


@pytest.fixture
def threads() -> Iterator[HandlerThreads]:
    pool = HandlerThreads(2)
    yield pool
    pool.close()


@pytest.fixture
def handlers() -> Handlers[Any]:
    return Handlers()


@pytest.fixture
def attempt(handlers: Handlers[Any], threads: HandlerThreads) -> Try:
    return Try(handlers, threads)


@pytest.fixture
def processes(
    own_server: Callable[..., Server], start_program: Callable[..., Program], tmp_path: Path
) -> WorkerProcesses:
    return WorkerProcesses(own_server(), start_program, tmp_path)
