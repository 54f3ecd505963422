"""Where others never recover: a group is gone, or connections are cut."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis
import structlog

from hookmill import Delivery, Handlers, Message, Retry
from hookmill.stream.consumer import Consumer
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.peers.road import Road
from tests.peers.view import View
from tests.peers.work import Work, Workers, events, names, on_one_server, send, settings_of
from tests.support import Server, Stream, eventually, message

GONE = "the consumer group is gone: opening it again"


# --- the group is gone ----------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["evicted", "destroyed", "flushed"])
async def test_a_lost_group_is_made_again_without_a_flood(
    stream: Producer, workers: Workers, redis_client: redis.Redis, view: View, lost: str
) -> None:
    """ag2ai/faststream#2611, ag2ai/faststream#2945, ag2ai/faststream#2855, jaseci-labs/jac#7452,
    redis/redis#6576: NOGROUP for ever, 600 errors a second, or an app that gives up.
    """
    work = Work()
    workers.start(work.handlers)
    await send(stream, "before")
    await eventually(lambda: work.done["before"])
    await view.drained()
    await view.blocked()
    with structlog.testing.capture_logs() as logs:
        if lost == "evicted":  # whole keys go, and their groups with them
            redis_client.delete(stream.partitions[0].stream)
        elif lost == "destroyed":
            redis_client.xgroup_destroy(stream.partitions[0].stream, "main")
        else:
            redis_client.delete(*redis_client.keys(f"{stream.partitions[0].base}:*"))
        await send(stream, *names(3))
        await eventually(lambda: set(work.done) >= set(names(3)))
        await view.drained()
    assert 1 <= events(logs)[GONE] <= 3
    assert [work.began[name] for name in names(3)] == [1, 1, 1]


@on_one_server
async def test_what_runs_while_its_group_is_lost_does_not_run_beside_itself(
    stream: Producer, workers: Workers, redis_client: redis.Redis, view: View
) -> None:
    """ag2ai/faststream#2945: when the group was removed the app went round and round on its task.

    The group restarts behind what it had finished, so what runs is taken once more, by the worker
    that holds it.
    """
    work = Work(held=True)
    workers.start(work.handlers)
    await send(stream, *names(3))
    await eventually(lambda: work.running == 3)
    redis_client.xgroup_destroy(stream.partitions[0].stream, "main")
    await send(stream, "after")
    await eventually(lambda: work.began["after"])
    assert view.pending() == 4
    work.go_on.set()
    await view.drained()
    assert work.began == Counter([*names(3), "after"])


async def test_a_group_that_is_lost_with_a_backlog_skips_none_and_runs_none_twice(
    stream: Producer, workers: Workers, redis_client: redis.Redis, view: View
) -> None:
    """eggai-tech/EggAI#269, and taskiq-redis 1.2.4, FastStream 0.7.8, read: a group is made at
    `$`, so what came before it is never delivered; made at 0 it would all run once more.
    """
    work = Work()
    first = workers.start(work.handlers, retention=3600)
    finished, backlog = names(50)[:20], names(50)[20:]
    await send(stream, *finished)
    await view.drained()
    await workers.stop(first)
    # As each janitor does; it leaves the mark.
    await Upkeep(stream.client, "main").trim(retention=3600)
    await send(stream, *backlog)
    redis_client.xgroup_destroy(stream.partitions[0].stream, "main")
    assert redis_client.xlen(stream.partitions[0].stream) == 50
    workers.start(work.handlers, retention=3600)
    await eventually(lambda: len(work.done) == 50)
    await view.drained()
    assert work.began == Counter(names(50))


@on_one_server
async def test_what_came_before_the_first_worker_is_handled_and_then_it_is_quiet(
    stream: Producer, workers: Workers, redis_client: redis.Redis, view: View
) -> None:
    """eggai-tech/EggAI#269: no delivery of what lay there, and 8,000 reads a second."""
    handlers = Handlers()
    ran: list[str] = []

    @handlers.on("*")
    async def work(delivery: Delivery[Message]) -> None:
        ran.append(delivery.id)
        if delivery.id == "waits" and ran.count("waits") == 1:
            raise Retry(after=1)

    def reads() -> int:
        stats: Any = redis_client.info("commandstats")
        return int(stats["cmdstat_xreadgroup"]["calls"])

    await send(stream, *names(20), "waits")
    workers.start(handlers)
    await eventually(lambda: len(ran) == 21)
    before = reads()
    await eventually(lambda: ran.count("waits") == 2)  # after one or two seconds
    assert reads() - before < 200
    await view.drained()
    assert Counter(ran) == Counter([*names(20), "waits", "waits"])


# --- the connection is gone -----------------------------------------------------------------


@on_one_server
async def test_a_worker_whose_connections_are_cut_again_and_again_goes_on(
    stream: Producer, workers: Workers, redis_client: redis.Redis, view: View
) -> None:
    """celery/celery#8030, celery/celery#8091, taskforcesh/bullmq#3185, python-arq/arq#435: after
    some cuts within seconds the worker is connected, and takes nothing any more.
    """
    work, waits = Work(pattern="", held=True), Counter[str]()

    @work.handlers.on("waits")
    async def wait(delivery: Delivery[Message]) -> None:
        waits[delivery.id] += 1
        if waits[delivery.id] == 1:
            raise Retry(after=0.5)

    workers.start(work.handlers)
    await stream.append([message(id="m"), message(id="later", type="waits")])
    await eventually(lambda: work.running == 1 and waits)
    for _ in range(3):
        await view.blocked()
        redis_client.client_kill_filter(_type="normal", skipme=True)
        await eventually(lambda: redis_client.info("clients")["blocked_clients"] == 0)
    work.go_on.set()
    view.add("after")
    await eventually(lambda: work.done["after"] and waits["later"] == 2)
    await view.drained()
    assert work.began == {"m": 1, "after": 1}
    assert waits == {"later": 2}


async def test_a_connection_that_dies_without_a_word_is_given_up(
    own_server: Callable[..., Server],
) -> None:
    """celery/celery#10205, taskforcesh/bullmq#2466: a network drops the connection, nobody tells
    the worker, and it waits for an answer for ever.
    """
    server = own_server()
    road = Road(server.port)
    settings = settings_of(server)
    work, workers = Work(held=True), Workers(settings)
    stream = Stream(server.url, "t")
    with redis.Redis.from_url(server.url) as client:
        workers.start(work.handlers, redis_url=await road.open())
        await send(stream, "m")
        await eventually(lambda: work.running == 1)
        road.swallow()
        work.go_on.set()
        await send(stream, "after")
        await eventually(lambda: work.done["after"], timeout=30)
        await View(client, "t").drained()
    assert work.began == {"m": 1, "after": 1}
    await workers.stop()
    await stream.close()
    await road.close()


@on_one_server
async def test_a_wait_longer_than_a_commands_timeout_is_no_error(
    server: Server, prefix: str
) -> None:
    """chrisguidry/docket#425: the client's socket timeout ends each read that blocks for longer."""
    stream = Stream(server.url, prefix, timeout=2.0)
    group = Consumer(stream.client, "main", "c1", dedup_window=3600)
    await group.open()
    assert not (await group.take(1)).entries
    assert not await group.wait(2.5)
    assert not (await group.take(1)).entries
    waiting = asyncio.create_task(group.wait(30))
    await asyncio.wait([waiting], timeout=2.2)
    assert not waiting.done()
    await send(stream, "m")
    assert await waiting
    await group.close()
    await stream.close()
