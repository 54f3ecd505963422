"""The janitor keeps Redis small, and drops nothing unfinished."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import redis

from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Settlement
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.support import eventually, message
from worker import janitor
from worker.janitor import PERIOD, Janitor

OpenGroup = Callable[..., Awaitable[Consumer]]


async def test_a_run_drops_what_is_finished_and_keeps_the_rest(
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(janitor, "PERIOD", 0.01)
    group = await open_group()
    await stream.append([message(id="a"), message(id="b"), message(id="c")])
    a, b = (await group.take(2)).entries
    await group.settle([Settlement(a.ref)])
    run_once = Janitor(Upkeep(stream.client, group.name), retention=0).run_once

    async def is_dropped() -> bool:
        await asyncio.sleep(await run_once())
        return redis_client.xlen(stream.partitions[0].stream) == 2

    await eventually(is_dropped)
    await group.settle([Settlement(b.ref)])


async def test_a_run_corrects_the_count_of_unfinished_messages(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(), message()])
    (entry, _) = taken = (await group.take(2)).entries
    await group.settle([Settlement(entry.ref)])
    await Janitor(Upkeep(stream.client, group.name), retention=0).run_once()
    counted = redis_client.hget(f"{stream.partitions[0].base}:backlog", "messages")
    assert counted == b"1"
    await group.settle([Settlement(each.ref) for each in taken])


async def test_a_run_keeps_what_retention_covers(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message()])
    await group.settle([Settlement(entry.ref) for entry in (await group.take(1)).entries])
    await Janitor(Upkeep(stream.client, group.name), retention=3600).run_once()
    assert redis_client.xlen(stream.partitions[0].stream) == 1


async def test_a_run_removes_consumers_that_are_gone(
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    group = await open_group()
    redis_client.xgroup_createconsumer(group.partitions[0].stream, group.name, "gone")
    monkeypatch.setattr(janitor, "PERIOD", 0.001)
    run_once = Janitor(Upkeep(stream.client, group.name), retention=0).run_once
    await run_once()
    assert len(redis_client.xinfo_consumers(group.partitions[0].stream, group.name)) == 1
    monkeypatch.setattr(janitor, "CONSUMER_IDLE", 0.0)
    await asyncio.sleep(0.01)
    await run_once()
    assert len(redis_client.xinfo_consumers(group.partitions[0].stream, group.name)) == 0


async def test_one_worker_does_the_upkeep_for_all_until_it_stops_doing_it(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    await open_group()
    first, second = [Janitor(Upkeep(stream.client, "main"), 0) for _ in range(2)]
    assert await first.run_once() == PERIOD
    assert PERIOD < await second.run_once() <= 3 * PERIOD
    redis_client.pexpire(stream.partitions[0].of_group("main").upkeep, 1)
    await asyncio.sleep(0.01)
    assert await second.run_once() == PERIOD


async def test_a_run_before_the_stream_exists_does_nothing(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    redis_client.delete(group.partitions[0].stream, group.partitions[0].again)
    await Janitor(Upkeep(stream.client, group.name), retention=0).run_once()
