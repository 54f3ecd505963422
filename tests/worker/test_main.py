"""A whole worker in this process: it starts, becomes quiet, stops, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis
import structlog

from hookmill import Delivery, Handlers, Retry
from hookmill.config.settings import Settings
from hookmill.message import Message
from hookmill.stream.groups import Groups
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.support import Server, Stream, eventually, message
from worker import delayed, janitor
from worker.app import Worker

MakeSettings = Callable[..., Settings]
StartWorker = Callable[..., Awaitable[Worker]]


@pytest.fixture
async def start_worker(settings: MakeSettings) -> AsyncIterator[StartWorker]:
    """Start workers: `await start_worker(handlers, lease=1)`; at the end they are stopped."""
    started: list[Worker] = []

    async def start(handlers: Handlers[Any], resources: Any = None, **options: Any) -> Worker:
        worker = Worker(settings(**options), handlers, resources)
        started.append(worker)
        worker.start()
        return worker

    yield start
    for worker in started:
        if not worker.lanes.each[0].leases._stopped.is_set():
            await worker.stop(0)


def consumers(client: redis.Redis, stream: Producer) -> set[str]:
    keys = stream.partitions[0].of_group("main")
    return {
        row["name"].decode()
        for key in (keys.stream, keys.again)
        for row in client.xinfo_consumers(key, "main")
    }


async def test_a_worker_handles_and_leaves_nothing_behind(
    stream: Producer, start_worker: StartWorker, redis_client: redis.Redis
) -> None:
    handlers = Handlers()
    ran: Counter[str] = Counter()

    @handlers.on("async")
    async def on_the_loop(delivery: Delivery[Message]) -> None:
        ran["async"] += 1

    @handlers.on("plain")
    def in_a_thread(delivery: Delivery[Message]) -> None:
        ran["plain"] += 1

    worker = await start_worker(handlers)
    await stream.append([message(type="async"), message(type="plain")])
    await eventually(lambda: ran == {"async": 1, "plain": 1})
    assert consumers(redis_client, stream) == {worker.consumer_name}
    await worker.stop(5)
    assert consumers(redis_client, stream) == set()
    assert not worker.has_stragglers


async def test_delayed_messages_run_leases_are_kept_and_the_stream_is_trimmed(
    stream: Producer,
    start_worker: StartWorker,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(janitor, "PERIOD", 0.02)
    monkeypatch.setattr(delayed, "LONGEST_PAUSE", 0.02)
    handlers = Handlers()
    attempts = []
    go_on = asyncio.Event()

    @handlers.on("*")
    async def work(delivery: Delivery[Message]) -> None:
        attempts.append(delivery.attempt)
        if len(attempts) == 1:
            raise Retry(after=0.05)
        await go_on.wait()

    keys = stream.partitions[0].of_group("main")
    await start_worker(handlers, lease=0.5)
    await eventually(lambda: redis_client.get(keys.low_water) == b"0-0")  # the janitor has run
    await stream.append([message()])
    await eventually(lambda: len(attempts) == 2)
    rows: Any = redis_client.xpending_range(keys.again, "main", "-", "+", 10)
    (held,) = rows
    redis_client.xclaim(keys.again, "main", held["consumer"], 0, [held["message_id"]], idle=9000)
    await eventually(lambda: silent_for(redis_client, keys.again) < 9000)
    go_on.set()
    await eventually(lambda: not redis_client.xlen(keys.again))
    assert attempts == [1, 1]


def silent_for(client: redis.Redis, key: str) -> int:
    rows: Any = client.xpending_range(key, "main", "-", "+", 10)
    return int(rows[0]["time_since_delivered"])


async def test_a_quiet_worker_finishes_what_it_has_and_takes_nothing_more(
    stream: Producer, start_worker: StartWorker, redis_client: redis.Redis
) -> None:
    handlers = Handlers()
    ran = []
    go_on = asyncio.Event()

    @handlers.on("*")
    async def work(delivery: Delivery[Message]) -> None:
        ran.append(delivery.id)
        await go_on.wait()

    worker = await start_worker(handlers)
    await stream.append([message(id="first")])
    await eventually(lambda: ran)
    await worker.quiet()
    await stream.append([message(id="second")])
    go_on.set()
    await worker.stop(5)
    assert ran == ["first"]
    summary: Any = redis_client.xpending(stream.partitions[0].stream, "main")
    assert summary["pending"] == 0


async def test_a_worker_takes_over_what_another_left(
    stream: Producer, start_worker: StartWorker, redis_client: redis.Redis
) -> None:
    handlers = Handlers()
    ran: Counter[str] = Counter()

    @handlers.on("*")
    async def work(delivery: Delivery[Message]) -> None:
        ran[delivery.id] += 1

    worker = await start_worker(handlers, lease=0.5)
    await eventually(lambda: redis_client.exists(stream.partitions[0].stream))
    await worker.quiet()
    await stream.append([message(id="m")])
    redis_client.xreadgroup("main", "dead", {stream.partitions[0].stream: ">"})
    await start_worker(handlers, lease=0.5)
    await eventually(lambda: ran["m"])
    await eventually(
        lambda: redis_client.xpending(stream.partitions[0].stream, "main")["pending"] == 0
    )
    assert ran == {"m": 1}


async def test_a_worker_starts_before_redis_does(
    own_server: Callable[..., Server], settings: MakeSettings, stream: Producer
) -> None:
    server = own_server()
    server.kill()
    handlers = Handlers()
    ran = []

    @handlers.on("*")
    async def work(delivery: Delivery[Message]) -> None:
        ran.append(delivery.id)

    worker = Worker(settings(redis_url=server.url), handlers, None)
    with structlog.testing.capture_logs() as logs:
        worker.start()
        await eventually(lambda: any(line["event"].startswith("cannot take") for line in logs))
    server.start()
    late = Stream(server.url, stream.partitions[0].base.split(":")[0])
    await late.append([message(id="m")])
    await eventually(lambda: ran == ["m"])
    await worker.stop(5)
    await late.close()


async def test_a_group_that_comes_later_gets_all_that_is_retained_and_none_takes_from_another(
    stream: Producer, start_worker: StartWorker, redis_client: redis.Redis
) -> None:
    ran: dict[str, Counter[str]] = {"search": Counter(), "cdn": Counter()}

    def noting(group: str) -> Handlers[Any]:
        handlers = Handlers()

        @handlers.on("*")
        async def note(delivery: Delivery[Message]) -> None:
            ran[group][delivery.id] += 1
            if group == "cdn" and delivery.attempt == 1:
                raise ValueError("not at the first try")

        return handlers

    sent = [message(id=f"m{n}") for n in range(20)]
    await Groups(stream.client).add("search", "beginning")
    await start_worker(noting("search"), group="search", retention=3600)
    await stream.append(sent[:10])
    await eventually(lambda: len(ran["search"]) == 10)
    await Upkeep(stream.client, "main").trim(3600)

    await Groups(stream.client).add("cdn", "beginning")
    await start_worker(noting("cdn"), group="cdn", retention=3600)
    await stream.append(sent[10:])
    once, twice = ({message.id: times for message in sent} for times in (1, 2))
    await eventually(lambda: ran == {"search": once, "cdn": twice}, timeout=30)
    await eventually(
        lambda: (
            not any(
                redis_client.xpending(key, group)["pending"]
                for group in ran
                for key in (stream.partitions[0].stream, stream.partitions[0].of_group(group).again)
            )
        )
    )
