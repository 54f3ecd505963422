"""Heartbeats are written, read, removed, and expire by Redis' own clock."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import redis

from hookmill.stream.facts import Heartbeat
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from tests.stream.toolkit import OwnServer
from tests.support import Stream, eventually, server_binaries

ALL = Heartbeat(
    name="c1",
    host="web-1",
    pid=7,
    version="0.2.0",
    group="main",
    wire_versions=(1, 2, 3),
    handlers={"work": ("order.paid", "order.*")},
    ignored=("ping",),
    concurrency=100,
    threads=16,
    lease=60.0,
    uptime=12.5,
    held=3,
    oldest_held=1.5,
    free_slots=97,
    free_threads=15,
)


@pytest.fixture
def heartbeats(stream: Producer) -> Heartbeats:
    return Heartbeats(stream.client, "main")


@pytest.fixture
def keys(stream: Producer) -> tuple[str, str]:
    group = stream.partitions[0].of_group("main")
    return group.heartbeats, group.heartbeat_times


def beat(name: str, lease: float = 60.0) -> Heartbeat:
    return Heartbeat(name=name, lease=lease)


async def names(heartbeats: Heartbeats) -> list[str]:
    return [one.name for one in await heartbeats.read()]


async def test_a_heartbeat_is_read_as_it_was_written_with_its_age(heartbeats: Heartbeats) -> None:
    assert await heartbeats.read() == ()
    await heartbeats.write(ALL)
    (found,) = await heartbeats.read()
    assert 0 <= found.age_ms < 60_000
    assert Heartbeat(**{**_fields(found), "age_ms": 0}) == ALL


def _fields(one: Heartbeat) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


async def test_each_worker_has_one_and_each_group_its_own(
    stream: Producer, heartbeats: Heartbeats
) -> None:
    for name in ("c2", "c1", "c2"):
        await heartbeats.write(beat(name))
    await Heartbeats(stream.client, "other").write(beat("c3"))
    assert await names(heartbeats) == ["c1", "c2"]
    await heartbeats.remove("c1")
    await heartbeats.remove("unknown")
    assert await names(heartbeats) == ["c2"]


async def test_one_expires_while_another_goes_on_and_leaves_nothing(
    heartbeats: Heartbeats, redis_client: redis.Redis, keys: tuple[str, str]
) -> None:
    await heartbeats.write(beat("short", lease=0.05))
    await heartbeats.write(beat("long"))
    await eventually(lambda: _is_only(heartbeats, "long"))
    await heartbeats.write(beat("long"))
    assert [redis_client.hkeys(key) for key in keys] == [[b"long"], [b"long"]]


async def _is_only(heartbeats: Heartbeats, name: str) -> bool:
    return await names(heartbeats) == [name]


async def test_the_keys_expire_with_the_last_heartbeat(
    heartbeats: Heartbeats, redis_client: redis.Redis, keys: tuple[str, str]
) -> None:
    await heartbeats.write(beat("long", lease=30.0))
    await heartbeats.write(beat("short", lease=1.0))
    for key in keys:
        assert 1_000 < redis_client.pttl(key) <= 30_000
    await heartbeats.remove("long")
    await heartbeats.write(beat("short", lease=0.05))
    await eventually(lambda: not redis_client.exists(*keys))


@pytest.mark.parametrize("text", ["[1, 2]", "not JSON", json.dumps({"name": 5})])
async def test_a_heartbeat_that_this_release_cannot_read_still_says_that_its_worker_lives(
    heartbeats: Heartbeats, redis_client: redis.Redis, keys: tuple[str, str], text: str
) -> None:
    await heartbeats.write(beat("newer"))
    redis_client.hset(keys[0], "newer", text)
    assert await names(heartbeats) == ["newer"]


async def test_fields_of_another_release_are_ignored_or_at_their_default(
    heartbeats: Heartbeats, redis_client: redis.Redis, keys: tuple[str, str]
) -> None:
    await heartbeats.write(beat("newer"))
    redis_client.hset(keys[0], "newer", json.dumps({"name": "newer", "held": 2, "colour": "red"}))
    (found,) = await heartbeats.read()
    assert (found.name, found.held, found.free_slots) == ("newer", 2, 0)


async def test_after_redis_clock_was_set_back_only_living_workers_are_there(
    heartbeats: Heartbeats, redis_client: redis.Redis, keys: tuple[str, str]
) -> None:
    for name in ("living", "dead"):
        await heartbeats.write(beat(name))
    later = int((time.time() + 3600) * 1000)  # written before the clock was set back by an hour
    redis_client.hset(keys[1], mapping={"living": f"{later} 60000", "dead": f"{later} 60000"})
    assert await names(heartbeats) == []
    await heartbeats.write(beat("living"))
    assert await names(heartbeats) == ["living"]
    assert redis_client.hkeys(keys[0]) == [b"living"]


async def test_a_small_step_of_redis_clock_hides_nobody(
    heartbeats: Heartbeats, redis_client: redis.Redis, keys: tuple[str, str]
) -> None:
    await heartbeats.write(beat("c1"))
    redis_client.hset(keys[1], "c1", f"{int((time.time() + 20) * 1000)} 60000")
    (found,) = await heartbeats.read()
    assert (found.name, found.age_ms) == ("c1", 0)


@pytest.mark.parametrize("binary", list(server_binaries()))
async def test_a_full_redis_takes_a_heartbeat(own_server: OwnServer, binary: str) -> None:
    server = own_server(binary=binary)
    stream = Stream(server.url, "full")
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
    await Heartbeats(stream.client, "main").write(ALL)
    assert await names(Heartbeats(stream.client, "main")) == ["c1"]
    await stream.close()


async def test_a_replica_shows_the_heartbeats(own_server: OwnServer) -> None:
    primary = own_server()
    replica = own_server("--save", "", "--replicaof", f"127.0.0.1 {primary.port}")
    stream, copy = Stream(primary.url, "p"), Stream(replica.url, "p")
    await Heartbeats(stream.client, "main").write(ALL)
    await eventually(lambda: _is_only(Heartbeats(copy.client, "main"), "c1"))
    await stream.close()
    await copy.close()
