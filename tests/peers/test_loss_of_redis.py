"""Nothing is lost when Redis dies, or when the stream is cut or begun at the wrong place."""

from __future__ import annotations

from collections import Counter

import redis
from structlog.testing import capture_logs

from hookmill import Retry
from hookmill.stream.consumer import Consumer
from hookmill.stream.producer import Producer
from tests.peers.view import View
from tests.peers.work import AOF, MakeSettings, OwnServer, Work, names, send, settings_of, working
from tests.support import Stream, eventually

# --- Redis dies -----------------------------------------------------------------------------


async def test_what_waits_what_runs_and_what_is_due_later_survive_a_restart_of_redis(
    own_server: OwnServer,
) -> None:
    """celery/celery#1789: Redis goes down and up, workers reconnect, some tasks never run."""
    server = own_server(*AOF)
    stream = Stream(server.url, "t")
    work = Work(held=True)
    work.fails = lambda given: (
        Retry(after=1) if given.id == "later" and work.began["later"] == 1 else None
    )
    async with working(settings_of(server)(concurrency=1), work.handlers):
        with redis.Redis.from_url(server.url) as client:
            view = View(client, "t")
            await send(stream, "later")
            await eventually(lambda: work.began)
            work.go_on.set()
            await eventually(lambda: client.zcard(view.delayed))
            work.go_on.clear()
            await send(stream, "runs", *names(3))
            await eventually(lambda: work.began["runs"])
        server.kill()
        with capture_logs() as lines:
            work.go_on.set()  # it ends while Redis is unavailable
            await eventually(lambda: any("cannot settle" in line["event"] for line in lines))
        server.start()
        with redis.Redis.from_url(server.url) as client:
            await eventually(lambda: len(work.done) == 5, timeout=30)
            await View(client, "t").drained()
    await stream.close()
    # What ran is done, though its acknowledgement had to wait: nothing ran twice for it.
    assert work.done == Counter(["later", "runs", *names(3)])


# --- the stream is cut or begun at the wrong place ------------------------------------------


async def test_what_came_before_the_first_worker_is_handled(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """FastStream and taskiq-redis, in their source: the group begins at `$`, the new end."""
    await send(stream, *names(5))
    work = Work()
    async with working(settings(), work.handlers):
        await view.drained()
    assert work.done == Counter(names(5))


async def test_trimming_waits_for_the_group_that_is_behind(
    stream: Producer, settings: MakeSettings, view: View, redis_client: redis.Redis, prefix: str,
    busy_janitor: None,
) -> None:  # fmt: skip
    """ChasquiMQ, taskiq-redis, FastStream: MAXLEN drops unread messages."""
    late = Consumer(stream.client, "late", "c1", dedup_window=3600)
    await late.open()
    await late.close()
    quick, slow = Work(), Work()
    async with working(settings(), quick.handlers):
        await send(stream, *names(200))
        await view.drained()
        turns = view.calls("xtrim") + 5
        await eventually(lambda: view.calls("xtrim") >= turns, what="turns of the janitor")
    assert len(view.stored()) == 200
    async with working(settings(group="late"), slow.handlers):
        await View(redis_client, prefix, "late").drained()
        await eventually(lambda: not view.stored(), what="the stream to be trimmed")
    assert quick.done == slow.done == Counter(names(200))
