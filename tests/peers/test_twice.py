"""Cases in which others run a message twice: reclaims, full slots, blocked loops, delays."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import redis

from hookmill import Delivery, Handlers, Message, Retry
from hookmill.stream.consumer import Consumer
from hookmill.stream.producer import Producer
from tests.peers.view import View
from tests.peers.work import Work, Workers, names, on_one_server, send
from tests.support import Program, Server, Stream, eventually, message, wait_until

OpenGroup = Callable[..., Awaitable[Consumer]]


# --- reclaimed while it runs ----------------------------------------------------------------


async def test_what_many_workers_take_over_at_the_same_time_runs_once(
    stream: Producer, open_group: OpenGroup, workers: Workers, view: View
) -> None:
    """taskiq-python/taskiq-redis#123: two workers pass a lock's check together, and both run what
    each reclaims.
    """
    gone = await open_group("gone")
    await send(stream, *names(200))
    assert len((await gone.take(200)).entries) == 200
    work = Work(held=True)
    for _ in range(4):
        workers.start(work.handlers, concurrency=50)
    await eventually(lambda: work.running == 200)
    work.go_on.set()
    await view.drained()
    assert work.began == Counter(names(200))


@on_one_server
async def test_a_handler_may_run_for_longer_than_a_lease(
    stream: Producer, workers: Workers, view: View
) -> None:
    """taskiq-python/taskiq-redis#86, chrisguidry/docket#245, svix/svix-webhooks#2181: what runs
    longer than the reclaim time runs a second time beside itself.
    """
    work = Work(held=True, timeout=3600)
    workers.start(work.handlers, concurrency=1)
    await send(stream, "long")
    await eventually(lambda: work.began["long"])
    workers.start(work.handlers, concurrency=10)
    await view.watched_for_a_lease(work)
    work.go_on.set()
    await view.drained()
    assert set(work.began.values()) == {1}


async def test_no_worker_takes_over_from_itself_however_idle_its_message_seems(
    stream: Producer, workers: Workers, redis_client: redis.Redis, view: View
) -> None:
    """mastra-ai/mastra#23648: the only consumer reclaims what it is running, onto itself, and
    runs it again.
    """
    work = Work(held=True)
    worker = workers.start(work.handlers)
    await send(stream, "m")
    await eventually(lambda: work.began["m"])
    key = stream.partitions[0].stream
    rows: Any = redis_client.xpending_range(key, "main", "-", "+", 10)
    held = [rows[0]["message_id"]]
    # As a step of Redis' clock would: older than its lease before it could be renewed.
    redis_client.xclaim(key, "main", worker.consumer_name, 0, held, idle=60_000, justid=True)
    await view.watched_for_a_lease(work)
    (row,) = [
        row
        for row in redis_client.xpending_range(key, "main", "-", "+", 10)
        if row["message_id"] == held[0]
    ]
    assert row["times_delivered"] == 1
    work.go_on.set()
    await view.drained()
    assert work.began["m"] == 1


async def test_a_takeover_in_the_moment_a_message_is_taken_leaves_it_alone(
    stream: Producer, workers: Workers, redis_client: redis.Redis, view: View
) -> None:
    """tobymao/saq#277, tobymao/saq#126: the sweeper meets a job between its taking and its start,
    and takes it for stuck.
    """
    work = Work()
    for _ in range(3):
        workers.start(work.handlers, concurrency=5)
    await eventually(lambda: redis_client.exists(stream.partitions[0].stream))
    # Many messages of a dead worker keep the sweeps going while new messages come.
    dead = [f"dead-{n}" for n in range(150)]
    entries: list[Any] = view.leave_behind(*dead)
    redis_client.xclaim(
        stream.partitions[0].stream, "main", "dead", 0, entries, idle=60_000, justid=True
    )
    for message_id in names(150):
        await send(stream, message_id)
    await eventually(lambda: len(work.done) == 300, timeout=30)
    await view.drained()
    assert work.began == Counter([*names(150), *dead])


# --- buffered, waiting for a slot -----------------------------------------------------------


@on_one_server
async def test_what_no_slot_is_free_for_stays_in_the_stream_for_others(
    stream: Producer, workers: Workers, view: View
) -> None:
    """dapr/components-contrib#4599: eight are read for six hands; the two that wait in the buffer
    grow as old as the dead, and run twice.
    """
    work = Work(held=True)
    first = workers.start(work.handlers, concurrency=6)
    await send(stream, *names(8))
    await eventually(lambda: work.running == 6)
    assert view.pending() == view.pending(first.consumer_name) == 6
    workers.start(work.handlers, concurrency=10)
    await eventually(lambda: work.running == 8)
    await view.watched_for_a_lease(work)
    work.go_on.set()
    await view.drained()
    assert set(work.began.values()) == {1}


@on_one_server
async def test_what_has_a_thread_is_not_taken_for_dead_and_what_has_none_runs_elsewhere(
    stream: Producer, workers: Workers, view: View
) -> None:
    """dapr/components-contrib#4599, for plain functions: one of four gets the one thread."""
    handlers = Handlers()
    began: Counter[str] = Counter()
    go_on = threading.Event()

    @handlers.on("*")
    def work(delivery: Delivery[Message]) -> None:
        began[delivery.id] += 1
        assert go_on.wait(60)

    first, other = workers.start(handlers, concurrency=4, threads=1), Work()
    await send(stream, *names(4))
    try:
        await eventually(lambda: began.total() == 1)
        assert view.pending(first.consumer_name) == 1
        workers.start(other.handlers)
        await view.watched_for_a_lease(other)
        assert began.total() == 1
    finally:
        go_on.set()
    await view.drained()
    runs = began + other.began
    assert {name: runs[name] for name in names(4)} == dict.fromkeys(names(4), 1)


# --- a blocked loop -------------------------------------------------------------------------

BLOCKING = """
import os, time
from hookmill import Delivery, Handlers, Message

handlers = Handlers()

@handlers.on("*")
async def work(delivery: Delivery[Message]) -> None:
    with open("ledger.txt", "a") as ledger:
        ledger.write(delivery.id + "\\n")
    while delivery.id == "blocks" and not os.path.exists("go-on"):
        time.sleep(0.01)
"""


async def test_a_handler_that_blocks_the_loop_keeps_its_message(
    own_server: Callable[..., Server], start_program: Callable[..., Program], tmp_path: Path
) -> None:
    """taskforcesh/bullmq#3183, taskforcesh/bullmq#3056, Bogdanp/dramatiq#692: a busy handler
    keeps its own process from renewing, and another one starts the same job.
    """
    server = own_server()
    (tmp_path / "blocking.py").write_text(BLOCKING)
    ledger = tmp_path / "ledger.txt"
    ledger.touch()
    env = {"REDIS_URL": server.url, "HOOKMILL_LEASE": "3"}
    programs = [start_program("worker", "blocking:handlers", env=env) for _ in range(2)]
    for program in programs:
        program.wait_for('"working"')
    stream = Stream(server.url, "hookmill")
    await send(stream, "blocks")
    await stream.close()

    def ran() -> list[str]:
        return ledger.read_text().splitlines()

    wait_until(lambda: ran() == ["blocks"], what="the blocking handler to begin")
    with redis.Redis.from_url(server.url) as client:
        view = View(client, "hookmill")
        view.leave_behind("left behind")
        # The free worker takes this over; the message of the blocked one is older.
        wait_until(lambda: "left behind" in ran(), what="a sweep")
        (tmp_path / "go-on").touch()
        await view.drained()
    assert sorted(ran()) == ["blocks", "left behind"]
    assert [program.stop() for program in programs] == [0, 0]


# --- asked to wait --------------------------------------------------------------------------


@on_one_server
async def test_a_message_that_waits_longer_than_a_lease_runs_once_when_it_is_due(
    stream: Producer, workers: Workers, redis_client: redis.Redis, view: View
) -> None:
    """celery/kombu#337, celery/celery#3270, celery/celery#4400, celery/celery#9882: a task whose
    time lies beyond the visibility timeout is restored again and again, and each copy runs.
    """
    work = Work(pattern="")
    attempts: list[int] = []

    @work.handlers.on("later")
    async def later(delivery: Delivery[Message]) -> None:
        attempts.append(delivery.attempt)
        if len(attempts) == 1:
            raise Retry(after=1)

    for _ in range(2):
        workers.start(work.handlers)
    await stream.append([message(type="later")])
    await eventually(lambda: redis_client.zcard(stream.partitions[0].of_group("main").delayed))
    assert view.pending() == 0
    await view.watched_for_a_lease(work)
    await eventually(lambda: len(attempts) == 2)
    await view.drained()
    await view.watched_for_a_lease(work)
    assert attempts == [1, 1]
