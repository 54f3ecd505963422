"""What a worker says of itself, and that it says nothing more after its stop."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from hookmill import Delivery, Handlers
from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError
from hookmill.message import Message
from hookmill.stream.facts import Heartbeat
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from tests.support import Server, eventually, message
from worker.app import Worker
from worker.consumption import Fault
from worker.heartbeat import HeartbeatWriter

StartWorker = Callable[..., Awaitable[Worker]]


@pytest.fixture
async def start_worker(settings: Callable[..., Settings]) -> AsyncIterator[StartWorker]:
    """Start workers: `await start_worker(handlers, lease=1)`; at the end they are stopped."""
    started: list[Worker] = []

    async def start(handlers: Handlers[Any], **options: Any) -> Worker:
        worker = Worker(settings(**options), handlers, None)
        started.append(worker)
        worker.start()
        return worker

    yield start
    for worker in started:
        if not worker.lanes.each[0].leases._stopped.is_set():
            await worker.stop(0)


@pytest.fixture
def heartbeats(stream: Producer) -> Heartbeats:
    return Heartbeats(stream.client, "main")


async def first(heartbeats: Heartbeats) -> Heartbeat:
    await eventually(heartbeats.read)
    (found,) = await heartbeats.read()
    return found


async def test_a_worker_says_who_it_is_and_what_it_can_handle(
    start_worker: StartWorker, heartbeats: Heartbeats
) -> None:
    handlers = Handlers()

    @handlers.on("order.*", name="orders")
    async def work(delivery: Delivery[Message]) -> None:
        pass

    handlers.ignore("ping")
    worker = await start_worker(handlers, lease=30, concurrency=20, threads=3)
    found = await first(heartbeats)

    assert (found.name, found.group) == (worker.consumer_name, "main")
    assert (found.host, found.pid) == (socket.gethostname(), os.getpid())
    assert found.version.split(".")[0].isdigit()
    assert (found.wire_versions, found.lease) == ((1, 2, 3), 30.0)
    assert (found.handlers, found.ignored) == ({"orders": ("order.*",)}, ("ping",))
    assert (found.concurrency, found.threads) == (20, 3)
    assert (found.free_slots, found.free_threads) == (20, 3)
    assert (found.held, found.oldest_held) == (0, None)


async def test_it_says_what_it_holds_and_what_is_free(
    stream: Producer, start_worker: StartWorker, heartbeats: Heartbeats
) -> None:
    handlers = Handlers()
    on_loop, in_thread = asyncio.Event(), threading.Event()

    @handlers.on("async")
    async def work(delivery: Delivery[Message]) -> None:
        await on_loop.wait()

    @handlers.on("plain")
    def plain(delivery: Delivery[Message]) -> None:
        in_thread.wait()

    await start_worker(handlers, lease=0.5, concurrency=20, threads=3)
    await stream.append([message(type="async"), message(type="async"), message(type="plain")])

    async def is_said(held: int) -> bool:
        found = await heartbeats.read()
        return bool(found) and found[0].held == held and found[0].free_threads == 3 - (held == 3)

    try:
        await eventually(lambda: is_said(3))
        found = await first(heartbeats)
        assert found.free_slots == 17
        assert found.oldest_held is not None

        async def is_older() -> bool:
            later = (await first(heartbeats)).oldest_held
            return later is not None and later >= (found.oldest_held or 0) + 0.2

        await eventually(is_older)
    finally:
        on_loop.set()
        in_thread.set()
    await eventually(lambda: is_said(0))
    assert (await first(heartbeats)).oldest_held is None


async def test_a_stop_removes_the_heartbeat_and_the_lease_number(
    stream: Producer, start_worker: StartWorker, heartbeats: Heartbeats
) -> None:
    worker = await start_worker(Handlers(), lease=60)
    keys = stream.partitions[0].of_group("main")
    await first(heartbeats)
    await eventually(lambda: stream.client.execute(0, "EXISTS", keys.lease_numbers))
    await worker.stop(0)
    for key in (keys.heartbeats, keys.heartbeat_times, keys.lease_numbers):
        assert await stream.client.execute(0, "EXISTS", key) == 0


class _Slow(Heartbeats):
    """Holds a write up until a test lets it go."""

    def prepare(self) -> None:
        self.is_under_way, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def write(self, heartbeat: Heartbeat) -> None:
        self.is_under_way.set()
        await self.may_go_on.wait()
        await super().write(heartbeat)


@pytest.fixture
async def slow_writer(
    stream: Producer, start_worker: StartWorker, heartbeats: Heartbeats
) -> tuple[_Slow, HeartbeatWriter]:
    worker = await start_worker(Handlers(), lease=60)
    await first(heartbeats)
    slow = _Slow(stream.client, "main")
    slow.prepare()
    about = Heartbeat(name="slow", lease=60)
    writer = HeartbeatWriter(slow, about, worker.lanes, worker._threads, worker.health)
    return slow, writer


async def test_a_write_under_way_is_removed_too_and_no_other_follows(
    slow_writer: tuple[_Slow, HeartbeatWriter], heartbeats: Heartbeats
) -> None:
    slow, writer = slow_writer
    writing = asyncio.create_task(writer.run_once())
    await slow.is_under_way.wait()
    stopping = asyncio.create_task(writer.stop())
    await asyncio.sleep(0)
    slow.may_go_on.set()
    await asyncio.gather(writing, stopping)
    assert await writer.run_once() == 1.0
    assert "slow" not in [one.name for one in await heartbeats.read()]


async def test_a_stop_does_not_wait_long_for_a_redis_that_does_not_answer(
    slow_writer: tuple[_Slow, HeartbeatWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, writer = slow_writer
    monkeypatch.setattr("worker.heartbeat.STOP_STEP_TIMEOUT", 0.05)
    writing = asyncio.create_task(writer.run_once())
    await slow.is_under_way.wait()
    await writer.stop()
    assert not writing.done()
    slow.may_go_on.set()
    await writing


async def test_a_worker_that_redis_left_alone_writes_again_when_it_is_back(
    own_server: Callable[..., Server], start_worker: StartWorker
) -> None:
    server = own_server()
    worker = await start_worker(Handlers(), redis_url=server.url, prefix="back", lease=1)
    heartbeats = Heartbeats(worker._client, "main")
    await first(heartbeats)
    server.kill()
    server.start()  # it has forgotten everything

    async def is_back() -> bool:
        with suppress(StreamUnavailableError):  # a connection from before
            return worker.consumer_name in [one.name for one in await heartbeats.read()]
        return False

    await eventually(is_back)


async def test_a_worker_that_gets_sick_says_so_at_once_and_takes_it_back(
    start_worker: StartWorker, heartbeats: Heartbeats
) -> None:
    worker = await start_worker(Handlers(), lease=600)
    await first(heartbeats)
    worker.lanes.each[0].consumption.fault = Fault("consumes_nothing", "it does nothing")
    await worker._heartbeats[0].run_once()
    found = await first(heartbeats)
    assert (found.sick, found.sick_why) == ("consumes_nothing", "it does nothing")
    worker.lanes.each[0].consumption.fault = None
    await worker._heartbeats[0].run_once()
    assert (await first(heartbeats)).sick == ""
