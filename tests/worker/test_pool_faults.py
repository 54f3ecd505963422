"""A topic of the pool: Redis, the group, the log and our own code may fail; no message is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis
import structlog

from hookmill.message import Progress
from hookmill.runtime.tasks import cancel_and_wait
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import Entry
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.support import Server, Stream, dead_letters, eventually, message
from tests.worker.pools import (
    MakePool,
    Work,
    is_drained,
    is_waiting,
    names,
    scripted,
    send,
)
from worker.attempt import Attempter
from worker.outcome import Attempted


async def test_nothing_is_lost_when_redis_dies_and_comes_back(
    own_server: Callable[..., Server], make_pool: MakePool
) -> None:
    server = own_server("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    stream = Stream(server.url, "t")
    work = Work()
    sent = names(300)
    consumer = scripted(stream, "c1")
    await send(stream, *sent)
    pool = await make_pool(work.handlers, concurrency=5, consumer=consumer, lease=0.3)
    await eventually(lambda: len(work.done) >= 50)
    server.kill()
    await asyncio.sleep(0)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        await eventually(lambda: is_drained(client, stream), timeout=60)
    assert set(work.done) == set(sent)
    # Only held messages can have run twice, because their acknowledgement may be lost.
    assert sum(work.ran.values()) <= 300 + 5 + 5
    await pool.stop(5)
    await stream.close()


@pytest.mark.parametrize("lost", ["group", "again", "everything"])
async def test_a_lost_group_is_made_again(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis, lost: str
) -> None:
    work = Work()
    await make_pool(work.handlers, stream)
    await send(stream, "before")
    await eventually(lambda: is_drained(redis_client, stream))
    await Upkeep(stream.client, "main").trim(retention=3600)
    await is_waiting(redis_client)
    keys = stream.partitions[0].of_group("main")
    if lost == "group":
        redis_client.xgroup_destroy(keys.stream, "main")
    elif lost == "again":
        redis_client.delete(keys.again)
    else:
        redis_client.delete(keys.stream, keys.again)
    await send(stream, "after")
    await eventually(lambda: work.done["after"])
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.ran == {"before": 1, "after": 1}


async def test_what_a_take_read_before_it_found_its_group_lost_is_recovered(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    """A take reads the again stream first."""
    keys, lost = stream.partitions[0].of_group("main"), list[int]()

    def lose_group(count: int) -> None:
        if not lost and redis_client.xlen(keys.again):
            lost.append(redis_client.xgroup_destroy(keys.stream, "main"))

    work, consumer = Work(), scripted(stream)
    consumer.before_take = lose_group
    await make_pool(work.handlers, consumer=consumer, lease=0.4)
    await stream.append([message(id=name, key="k") for name in ("first", "parked")])
    await eventually(lambda: work.done["parked"])
    await eventually(lambda: is_drained(redis_client, stream))
    assert lost == [1]


async def test_an_unexpected_error_does_not_end_the_taking(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    faults = [RuntimeError("a fault of ours")]

    def fail(count: int) -> None:
        if faults:
            raise faults.pop()

    work = Work()
    consumer = scripted(stream)
    consumer.before_take = fail
    with structlog.testing.capture_logs() as logs:
        await make_pool(work.handlers, consumer=consumer)
        await send(stream, "m")
        await eventually(lambda: work.done["m"])
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [
        "taking failed, trying again"
    ]
    await eventually(lambda: is_drained(redis_client, stream))


async def test_a_bug_of_our_own_in_an_attempt_keeps_the_message(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    class Broken(Attempter):
        async def attempt(self, entry: Entry, progress: Progress) -> Attempted:
            raise RuntimeError(f"a fault of ours with {entry.ref.id} of {progress.owner}")

    pool = await make_pool(Work().handlers, stream, concurrency=1, attempter=Broken)
    await send(stream, "a", "b")

    async def both() -> bool:
        return await DeadLetters(stream.client, "main").count() == 2

    await eventually(both)
    for letter in await dead_letters(stream):
        assert letter.fields[b"reason"] == b"internal_error"
        assert b"a fault of ours" in letter.fields[b"error"]
    await eventually(lambda: not pool.held)
    redis_client.delete(stream.partitions[0].of_group("main").dead)


async def test_a_log_that_cannot_be_written_costs_no_message(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    def full(logger: Any, method: str, line: Any) -> Any:
        raise OSError(28, "No space left on device")

    structlog.configure(processors=[full], cache_logger_on_first_use=False)
    work = Work()
    pool = await make_pool(work.handlers, stream, concurrency=2)
    await send(stream, *names(10))
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.done == Counter(names(10))
    await eventually(lambda: not pool.held)
    structlog.reset_defaults()


async def test_a_pool_that_was_cancelled_is_seen_to_have_ended(
    stream: Producer, make_pool: MakePool
) -> None:
    pool = await make_pool(Work().handlers, stream, start=False)
    taking = pool.start()
    await cancel_and_wait([taking])
    assert taking.done()
    await pool.quiet()
