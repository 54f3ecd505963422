"""The facts about servers, as real ones show them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from hookmill.stream.facts import ServerFacts
from hookmill.stream.inspector import Inspector
from hookmill.stream.producer import Producer
from hookmill.stream.server_inspector import ServerInspector
from tests.support import Server, Stream


async def server_facts(stream: Producer, clock: Callable[[], float] = time.time) -> ServerFacts:
    (found,) = await ServerInspector(stream.client, clock).servers()
    return found


async def test_a_server_is_known_by_its_own_version_not_by_the_one_it_resembles(
    stream: Producer, redis_client: redis.Redis
) -> None:
    info: Any = redis_client.info("server")

    server = await server_facts(stream)

    own = "valkey_version" if "valkey_version" in info else "redis_version"
    assert server.version == info[own]
    assert server.flavour == ("Valkey" if own == "valkey_version" else "Redis")
    assert server.missing == ()
    assert server.hidden == ()
    assert (server.aof, server.appendfsync, server.policy) == (False, "everysec", "noeviction")
    assert (server.is_replica, server.is_cluster, server.refusal) == (False, False, "")
    assert server.has_waitaof is (server.flavour == "Valkey" or info[own] >= "7.2")


@pytest.mark.parametrize(("shift", "ahead"), [(10.0, 10.0), (-10.0, -10.0), (0.0, 0.0)])
async def test_the_difference_of_the_clocks_leaves_out_the_way_there_and_back(
    stream: Producer, redis_client: redis.Redis, shift: float, ahead: float
) -> None:
    def clock() -> float:
        seconds, microseconds = redis_client.time()
        return float(seconds + microseconds / 1_000_000 + shift)

    server = await server_facts(stream, clock)

    assert server.clock_ahead == pytest.approx(ahead, abs=2.0)
    assert (server.clock_ahead == 0) is (shift == 0)


@pytest.mark.parametrize("binary", ["valkey", pytest.param("redis", marks=pytest.mark.external)])
async def test_what_a_managed_server_forbids_is_reported_and_the_rest_is_checked(
    own_server: Callable[..., Server], binary: str
) -> None:
    server = own_server(binary=binary)
    stream = Stream(server.url, "managed")
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        # A connection keeps its user's rights as they are now.
        client.execute_command(
            "ACL SETUSER default -config -memory -command|info -command|docs -command"
        )

    facts, overview = (
        await server_facts(stream),
        await Inspector(stream.client).overview(),
    )

    assert [text.partition(" ")[0] for text in facts.hidden] == ["COMMAND", "CONFIG"]
    assert "permission" in facts.hidden[0].lower()
    assert (facts.missing, facts.has_waitaof, facts.appendfsync) == (None, None, None)
    assert facts.policy == "allkeys-lru"
    assert overview.bytes is None
    await stream.close()


async def test_a_command_that_was_renamed_away_is_missed(own_server: Callable[..., Server]) -> None:
    server = own_server("--save", "", "--rename-command", "XCLAIM", "")
    stream = Stream(server.url, "renamed")

    assert (await server_facts(stream)).missing == ("XCLAIM",)
    await stream.close()


async def test_a_replica_and_its_refusal_are_seen_and_replicas_are_counted(
    own_server: Callable[..., Server],
) -> None:
    primary = own_server()
    replica = own_server("--save", "", "--replicaof", f"127.0.0.1 {primary.port}")
    stream, copy = Stream(primary.url, "p"), Stream(replica.url, "p")

    seen = await server_facts(copy)

    assert seen.is_replica
    assert "READONLY" in seen.refusal or "read only" in seen.refusal
    assert not (await server_facts(stream)).is_replica
    await stream.close()
    await copy.close()


async def test_a_full_server_says_why_it_refuses(own_server: Callable[..., Server]) -> None:
    server = own_server()
    stream = Stream(server.url, "full")
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)

    assert "maxmemory" in (await server_facts(stream)).refusal
    assert (await Inspector(stream.client).overview()).maxmemory == 1
    await stream.close()
