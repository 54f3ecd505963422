"""Where others never recover: Redis was killed, comes back empty, or fails over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import redis

from hookmill import Delivery, Handlers, Message, Retry
from tests.e2e.line import Line
from tests.peers.view import View
from tests.peers.work import Work, Workers, names, send, settings_of
from tests.support import Program, Server, Stream, eventually

AOF = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")


async def test_the_line_goes_on_after_redis_was_killed_and_started_again(
    own_server: Callable[..., Server], start_program: Callable[..., Program], tmp_path: Path
) -> None:
    """mifunedev/orchestra#858, python-arq/arq#498, tobymao/saq#286, celery/celery#8091: the
    listener dies of a ConnectionError, and with it its process; or it lives and does nothing.
    """
    server = own_server(*AOF)
    line = Line(start_program, tmp_path, server.url, "hookmill")
    programs = [line.receiver(), line.worker(HOOKMILL_LEASE="1")]
    sent = 0
    for _ in range(3):
        assert await line.send(line.order(n) for n in range(sent, sent + 20)) == {200: 20}
        sent += 20
        line.wait_for_handled(sent)
        server.kill()
        server.start()
    assert await line.send([line.order(sent)]) == {200: 1}
    line.wait_for_handled(sent + 1)
    assert [program.returncode for program in programs] == [None, None]
    assert [program.stop() for program in programs] == [0, 0]
    assert set(line.noted()) == {f"msg_{n}" for n in range(sent + 1)}


async def test_a_redis_that_comes_back_empty_is_worked_with_as_a_new_one(
    own_server: Callable[..., Server],
) -> None:
    """ag2ai/faststream#2611: Redis is back at once, without its data; messages flow in, and the
    app only says that the group does not exist.
    """
    server = own_server()
    stream = Stream(server.url, "t")
    work, workers = Work(), Workers(settings_of(server))
    workers.start(work.handlers)
    await send(stream, "before")
    await eventually(lambda: work.done["before"])
    server.kill()
    server.start()
    with redis.Redis.from_url(server.url) as client:
        view = View(client, "t")
        view.add("after")
        await eventually(lambda: work.done["after"])
        await view.drained()
        view.leave_behind("orphan")
        await eventually(lambda: work.done["orphan"])
        await view.drained()
    assert work.began == {"before": 1, "after": 1, "orphan": 1}
    await workers.stop()
    await stream.close()


async def test_a_delayed_message_outlives_a_restart_and_runs_when_it_is_due(
    own_server: Callable[..., Server],
) -> None:
    """taskforcesh/bullmq#2466: after Redis was away, delayed jobs above all are never run."""
    server = own_server(*AOF)
    stream = Stream(server.url, "t")
    handlers, ran = Handlers(), list[int]()
    workers = Workers(settings_of(server))

    @handlers.on("*")
    async def work(delivery: Delivery[Message]) -> None:
        ran.append(delivery.attempt)
        if len(ran) == 1:
            raise Retry(after=1)

    workers.start(handlers)
    await send(stream, "m")
    with redis.Redis.from_url(server.url) as client:
        await eventually(lambda: client.zcard(stream.partitions[0].of_group("main").delayed))
        server.kill()
        server.start()
        await eventually(lambda: len(ran) == 2)
        await View(client, "t").drained()
    assert ran == [1, 1]
    await workers.stop()
    await stream.close()


async def test_a_failover_that_ends_a_blocked_read_does_not_end_the_worker(
    own_server: Callable[..., Server],
) -> None:
    """taskforcesh/bullmq#648: "UNBLOCKED force unblock from blocking operation, instance state
    changed" ends the loop that takes jobs; they pile up until a redeploy.
    """
    server = own_server()
    stream = Stream(server.url, "t")
    work, workers = Work(), Workers(settings_of(server))
    with redis.Redis.from_url(server.url) as client:
        view = View(client, "t")
        worker = workers.start(work.handlers, lease=60)
        for number in range(3):
            await view.blocked()
            client.replicaof("127.0.0.1", "1")
            await eventually(lambda: client.info("clients")["blocked_clients"] == 0)
            client.replicaof("NO", "ONE")
            await send(stream, f"m{number}")
            await eventually(lambda n=number: work.done[f"m{n}"])  # type: ignore[misc] # no lambda has annotations
        await view.drained()
    assert work.began == Counter(names(3))
    assert not worker.has_stragglers
    await workers.stop()
    await stream.close()
