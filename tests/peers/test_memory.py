"""Redis and the receiver hold what is unfinished, and hardly more."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
import redis

from hookmill import Delivery, Handlers, Message, Retry
from hookmill.handlers import Backoff
from hookmill.stream.consumer import Consumer
from hookmill.stream.groups import Groups
from hookmill.stream.producer import Producer
from tests.peers.deliveries import http_client, order, post, receiving
from tests.peers.view import View
from tests.peers.work import (
    LONG,
    MakeSettings,
    StartProgram,
    Work,
    die,
    environment,
    names,
    send,
    working,
)
from tests.support import CURRENT_KEY, Server, eventually
from worker import delayed, janitor


@pytest.fixture(autouse=True)
def busy_janitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the janitor do in moments what it does in hours."""
    monkeypatch.setattr(janitor, "PERIOD", 0.02)
    monkeypatch.setattr(delayed, "LONGEST_PAUSE", 0.02)


async def test_what_is_acknowledged_leaves_the_stream(
    stream: Producer, settings: MakeSettings, view: View, redis_client: redis.Redis, prefix: str
) -> None:
    """safe-global/safe-decoder-service#329: 761,008 acknowledged entries, 199.7 MB, in four days.

    ag2ai/faststream#2232 and dapr/components-contrib#1436, #3100 report the same.
    """
    one, two = Work(), Work()
    await Groups(stream.client).add("other", "beginning")
    async with (
        working(settings(), one.handlers),
        working(settings(group="other"), two.handlers),
    ):
        for start in range(0, 2000, 500):
            await send(stream, *names(500, start), body=b"x" * 1000)
        await view.drained()
        await View(redis_client, prefix, "other").drained()
        await eventually(lambda: not view.stored(), what="an empty stream")
    assert one.done == two.done == Counter(names(2000))


def lasting(view: View, prefix: str) -> dict[str, int]:
    """The bytes of each key that never expires."""
    sizes = {}
    for key in view.client.scan_iter(f"{prefix}:*", count=1000):
        size = view.client.memory_usage(key, samples=0)
        if size is not None and view.client.ttl(key) == -1:
            sizes[key.decode()] = size
    return sizes


async def test_nothing_that_never_expires_grows_with_what_was_handled(
    stream: Producer, settings: MakeSettings, view: View, prefix: str
) -> None:
    """safe-global/safe-decoder-service#329: the stream was the one key without an expiry.

    Each message here is fanned out, fails, waits, and runs again: every kind of key is used.
    """
    handlers = Handlers()
    ran: Counter[str] = Counter()

    @handlers.on("*", backoff=Backoff(first=0))
    async def fails_once(delivery: Delivery[Message]) -> None:
        if delivery.attempt == 1:
            raise ValueError("not today")
        ran[delivery.id] += 1

    @handlers.on("*")
    async def asks_once(delivery: Delivery[Message]) -> None:
        asked[delivery.id] += 1
        if asked[delivery.id] == 1:
            raise Retry(after=0.05)
        ran[delivery.id] += 1

    asked: Counter[str] = Counter()
    sizes = []
    async with working(settings(dedup_window=2), handlers):
        for start in range(0, 1200, 200):
            await send(stream, *names(200, start), body=b"x" * 1000)
            await view.drained()
            await eventually(lambda: not view.stored(), what="an empty stream")
            sizes.append(lasting(view, prefix))
    assert ran == Counter(names(1200) * 2)
    # Each round brought and finished 200 kB; what stays is some empty keys.
    assert max(sum(size.values()) for size in sizes) < 10_000, sizes


async def test_consumers_of_workers_that_came_and_went_do_not_pile_up(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """Of streaq, taskiq-redis, FastStream, repid and docket none ever removes a consumer.

    Bogdanp/dramatiq#401: workers that were stopped stay in the list.
    """
    for number in range(10):
        work = Work()
        async with working(settings(lease=LONG), work.handlers) as worker:
            await send(stream, f"m{number}")
            await view.drained()
            assert view.consumers() == {worker.consumer_name}
            await worker.stop(5)
        assert view.consumers() == set()


async def test_consumers_of_workers_that_were_killed_go_when_they_hold_nothing_more(
    stream: Producer,
    settings: MakeSettings,
    start_program: StartProgram,
    tmp_path: Path,
    server: Server,
    prefix: str,
    view: View,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same, where the worker had no chance to tidy up."""
    monkeypatch.setattr(janitor, "CONSUMER_IDLE", 0.2)
    await send(stream, *names(3))
    die(start_program, tmp_path, environment(server, prefix), "after take")
    (killed,) = view.consumers()
    work = Work()
    async with working(settings(lease=0.5), work.handlers):
        await eventually(lambda: killed not in view.consumers(), what="its consumer to go")
        await view.drained()
    assert work.done == Counter(names(3))


async def test_messages_that_were_deleted_under_a_dead_worker_do_not_stay_pending(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """redis/redis#5718, #10756: what is deleted from a stream stays in the pending list."""
    gone = Consumer(stream.client, "main", "gone", dedup_window=3600)
    await gone.open()
    await send(stream, *names(3))
    for entry in (await gone.take(3)).entries[:2]:
        view.client.xdel(view.stream, entry.ref.id)
    await gone.close()
    work = Work()
    async with working(settings(lease=0.5), work.handlers):
        await view.drained()
    assert work.done == Counter(["m2"])


async def test_a_receiver_whose_redis_is_slow_holds_no_more_than_it_may(
    settings: MakeSettings, view: View
) -> None:
    """svix-bridge, in its source: an unbounded queue and an unbounded wait before the stream."""
    configured = settings(
        qstash_current_signing_key=CURRENT_KEY, queue_messages=5, append_timeout=30
    )
    async with receiving(configured) as url, http_client() as http:
        view.client.client_pause(30_000, all=False)
        try:
            held = [asyncio.create_task(post(http, url, order(n))) for n in range(50)]
            await eventually(lambda: sum(task.done() for task in held) == 45)
        finally:
            view.client.client_unpause()
        answers = Counter(answer.status for answer in await asyncio.gather(*held))
    assert answers == {200: 5, 503: 45}
    assert len(view.stored()) == 5
