"""A worker that runs what is paused is named in the log of the others, once."""

from __future__ import annotations

import pytest
import redis
from structlog.testing import capture_logs

from hookmill.stream.consumer import Consumer
from hookmill.stream.facts import Heartbeat, Pause
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.known_pauses import KnownPauses
from hookmill.stream.older_workers import OlderWorkers
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.toolkit import OpenGroup
from worker.heedless import HeedlessWorkers
from worker.janitor import Janitor

pytestmark = pytest.mark.one_server  # it reads what heartbeats and consumers say


@pytest.fixture
async def group(open_group: OpenGroup) -> Consumer:
    return await open_group()


def paused(pauses: KnownPauses, *what: Pause) -> None:
    pauses.note(0, 1, what)
    pauses.noted()


async def named(watch: HeedlessWorkers) -> list[str]:
    with capture_logs() as logs:
        await watch.look()
    return [line["worker"] for line in logs]


async def test_it_is_named_once_while_something_is_paused(
    stream: Producer, group: Consumer, redis_client: redis.Redis
) -> None:
    pauses = KnownPauses(1)
    watch = HeedlessWorkers(pauses, OlderWorkers(stream.client, "main", 60.0))
    beats = Heartbeats(stream.client, "main")
    await beats.write(Heartbeat(name="old", lease=60, can=()))
    await beats.write(Heartbeat(name="new", lease=60, can=("pause",)))
    assert await named(watch) == []
    paused(pauses, Pause(kind="all"))
    assert await named(watch) == ["old"]
    # One of release 0.1 writes neither a heartbeat nor a lease number.
    redis_client.xreadgroup("main", "0.1", {stream.partitions[0].stream: ">"}, count=1)
    redis_client.xgroup_createconsumer(stream.partitions[0].stream, "main", "killed")
    redis_client.hset(stream.partitions[0].of_group("main").lease_numbers, "killed", 7)
    assert await named(watch) == ["0.1"]
    assert await named(watch) == []
    paused(pauses)
    assert await named(watch) == []
    paused(pauses, Pause(kind="all"))
    assert await named(watch) == ["0.1", "old"]


async def test_the_janitor_looks_for_them(stream: Producer, group: Consumer) -> None:
    pauses = KnownPauses(1)
    paused(pauses, Pause(kind="all"))
    await Heartbeats(stream.client, "main").write(Heartbeat(name="old", lease=60))
    watch = HeedlessWorkers(pauses, OlderWorkers(stream.client, "main", 60.0))
    with capture_logs() as logs:
        await Janitor(Upkeep(stream.client, "main"), retention=0, heedless=watch).run_once()
    assert [line["worker"] for line in logs if "paused" in line["event"]] == ["old"]
