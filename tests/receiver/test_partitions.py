"""A receiver whose stream has a partition that is full or broken: the others do not notice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis

from hookmill.config.settings import Settings
from hookmill.message import Message
from hookmill.stream.arrival import row_of
from hookmill.stream.facts import Backlog
from receiver import appender as appender_module
from receiver.appender import Appender
from receiver.responses import Result
from tests.receiver.appending import PATIENT
from tests.receiver.serving import KEYS, Running, StartAt, deliver, ready_text
from tests.support import Server, Stream, eventually, message

PARTITIONS = 4
FULL = 2


def body_in(partition: int, number: int = 0) -> bytes:
    """A body whose delivery belongs to a partition."""
    bodies = (b'{"n":%d,"try":%d}' % (number, tried) for tried in range(1000))
    return next(body for body in bodies if row_of(message(body)).partition(PARTITIONS) == partition)


@pytest.fixture
async def running(start_at: StartAt, settings: Callable[..., Settings], tmp_path: Path) -> Running:
    """A receiver with a spool, whose partitions may have two unfinished messages each."""
    return await start_at(
        settings(
            **KEYS, partitions=PARTITIONS, backlog_messages=2 * PARTITIONS, spool=tmp_path / "spool"
        )
    )


def stream(prefix: str, partition: int) -> str:
    return f"{prefix}:{{{partition}}}:stream"


async def test_a_spooled_message_of_a_full_partition_stops_no_other_partition(
    running: Running,
    http: aiohttp.ClientSession,
    redis_client: redis.Redis,
    prefix: str,
    lines: list[dict[str, Any]],
) -> None:
    spool = running.receiver._spool
    assert spool is not None
    for number in range(2):
        assert (await deliver(running, http, body_in(FULL, number)))[0] == 200
    rows = [row_of(message(body_in(partition, 50))) for partition in range(PARTITIONS)]
    await spool.put(rows)
    await eventually(lambda: spool.spooled.partitions == {FULL})
    await eventually(lambda: spool.full == {FULL})

    for number in range(PARTITIONS):
        status, _, body = await deliver(running, http, body_in(number, 60))
        if number == FULL:
            assert (status, b"backlog_full" in body) == (503, True)
            assert b"partition" not in body  # that is for the operator
        else:
            assert status == 200
            assert redis_client.xlen(stream(prefix, number)) == 2
    assert await spool.count() == 1
    assert await ready_text(running, http) == (
        200,
        "ready, but partitions 2 cannot be drained from the spool, or are full\n",
    )
    (refused,) = [line for line in lines if line["event"] == "refused"]
    assert refused["cause"].startswith("partition 2: too many messages are unfinished")
    (stuck,) = [line for line in lines if line["event"] == "the spool cannot be drained"]
    assert stuck["partitions"] == [FULL]

    redis_client.delete(stream(prefix, FULL))  # as if all were handled
    await eventually(lambda: not spool.is_active)
    assert redis_client.xlen(stream(prefix, FULL)) == 1
    assert (await deliver(running, http, body_in(FULL, 70)))[0] == 200


async def test_deliveries_of_a_broken_partition_are_spooled_and_the_others_are_appended(
    running: Running, http: aiohttp.ClientSession, redis_client: redis.Redis, prefix: str
) -> None:
    spool = running.receiver._spool
    assert spool is not None
    redis_client.set(stream(prefix, FULL), "not a stream")
    posted = [
        deliver(running, http, body_in(partition, number))
        for number in range(2)
        for partition in range(PARTITIONS)
    ]
    assert {answer[0] for answer in await asyncio.gather(*posted)} == {200}
    assert await spool.count() == 2
    assert [redis_client.xlen(stream(prefix, p)) for p in range(PARTITIONS) if p != FULL] == [2] * 3
    await eventually(lambda: spool.spooled.partitions == {FULL})
    redis_client.delete(stream(prefix, FULL))
    await eventually(lambda: not spool.is_active)
    assert redis_client.xlen(stream(prefix, FULL)) == 2


async def test_a_batch_for_a_full_partition_alone_does_not_fail_what_waits_behind_it(
    server: Server, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender_module, "BATCH_MESSAGES", 1)
    stream = Stream(server.url, prefix, partitions=PARTITIONS, limit=Backlog(PARTITIONS, 0))
    await stream.append([message(body_in(FULL))])
    appender = Appender(stream, PATIENT)
    results = await asyncio.gather(
        *(result_of(appender, message(body_in(partition, 1))) for partition in (FULL, 0, FULL, 1))
    )
    assert [result is None for result in results] == [False, True, False, True]
    await stream.close()


async def result_of(appender: Appender, one: Message) -> Result:
    done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    appender.put(one, done.set_result)
    return await done
