"""The receiver writes the wire version that costs less only while every worker reads it."""

from __future__ import annotations

from typing import Any

import pytest
import redis
import structlog

from hookmill.message import PACKED_VERSION, SAFE_VERSION
from hookmill.stream.client import Client
from hookmill.stream.facts import Heartbeat
from hookmill.stream.groups import Groups
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from receiver.appender import Appender
from receiver.wire_version import WireVersionWatch
from tests.support import eventually, message


async def beat(stream: Producer, name: str, *versions: int) -> None:
    heartbeat = Heartbeat(name=name, lease=60.0, wire_versions=versions)
    await Heartbeats(stream.client, "main").write(heartbeat)


@pytest.fixture
def told() -> list[int]:
    return []


@pytest.fixture
def watch(stream: Producer, told: list[int]) -> WireVersionWatch:
    return WireVersionWatch(stream.client, 60.0, told.append)


async def test_the_version_follows_the_workers_that_run(
    stream: Producer, watch: WireVersionWatch, told: list[int]
) -> None:
    await Groups(stream.client).make("main")
    seen = []
    with structlog.testing.capture_logs() as lines:
        for name, versions in (("new", (1, 2, 3)), ("new", (1, 2, 3)), ("old", (1, 2))):
            await beat(stream, name, *versions)
            await watch.look()
            seen.append(watch.version)
        await Heartbeats(stream.client, "main").remove("old")
        await watch.look()
        seen.append(watch.version)
    assert seen == [PACKED_VERSION, PACKED_VERSION, SAFE_VERSION, PACKED_VERSION]
    assert (
        [line["version"] for line in lines]
        == told
        == [PACKED_VERSION, SAFE_VERSION, PACKED_VERSION]
    )


async def test_before_the_first_look_and_where_a_look_fails_every_worker_can_read_it() -> None:
    async with Client("redis://127.0.0.1:1/0", "t", timeout=0.5) as client:
        told = list[int]()
        watch = WireVersionWatch(client, 60.0, told.append)
        assert watch.version == SAFE_VERSION
        watch.version = PACKED_VERSION
        await watch.look()
        assert (watch.version, told) == (SAFE_VERSION, [SAFE_VERSION])


async def test_each_batch_is_written_in_the_version_of_that_moment(
    stream: Producer, redis_client: redis.Redis
) -> None:
    stored, appender = list[object](), Appender(stream, 5.0)
    for version in (PACKED_VERSION, SAFE_VERSION):
        appender.write_in(version)
        appender.put(message(), stored.append)
        await appender.close()
    await eventually(lambda: len(stored) == 2)
    assert stored == [None, None]
    entries: Any = redis_client.xrange(stream.partitions[0].stream)
    assert [b"v3" in fields for _, fields in entries] == [True, False]
