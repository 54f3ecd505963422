"""A group is dropped with all of its keys, and no worker makes it again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest
import redis

from hookmill.errors import GroupLostError, GroupRefusedError
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Settlement
from hookmill.stream.facts import Heartbeat
from hookmill.stream.groups import Groups
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.full_group import fill
from tests.stream.toolkit import OpenGroup, again, ids, settle_all
from tests.support import Server, eventually, message

DROPPED = (
    "group search was dropped. `hookmill group add search --from beginning` (or `--from now`) "
    "makes it again"
)


@pytest.fixture
async def two(server: Server, prefix: str, redis_client: redis.Redis) -> AsyncIterator[Client]:
    """A client of a stream with two partitions; what the test leaves in it is deleted."""
    async with Client(server.url, prefix, partitions=2) as client:
        yield client
    for key in redis_client.scan_iter(f"{prefix}:*", count=1000):
        redis_client.delete(key)


@pytest.fixture
def groups(stream: Producer) -> Groups:
    return Groups(stream.client)


def keys_of(client: redis.Redis, two: Client, name: str) -> set[str]:
    before = tuple(f"{keys.base}:{name}:" for keys in two.partitions)
    return {key.decode() for key in client.scan_iter(count=1000) if key.decode().startswith(before)}


async def heartbeat_is_gone(two: Client, name: str) -> bool:
    return not await Heartbeats(two, name).read()


async def test_all_keys_of_a_group_go_and_those_of_others_stay(
    two: Client, redis_client: redis.Redis
) -> None:
    for name in "main", "search", "search2", "main.search":
        await fill(two, name)
    # Ordering keys are chosen by senders. This one makes a key that looks like one of `search`.
    for keys in two.partitions:
        redis_client.rpush(f"{keys.base}:main:parked:s:x}}:search:parked:y", "m")
    own = {name for keys in two.partitions for name in keys.of_group("search").own}
    full = keys_of(redis_client, two, "search")
    # `sooner` holds the last wake-up. What concerns workers lies in partition 0 only. The gate is
    # there within a transaction only.
    missing = {name.rpartition(":")[2] for name in own - full}
    in_one_partition = {"heartbeats", "times", "lease-numbers", "upkeep", "releaser"}
    seldom = {"looks", "first-sights", "gate", "history", "paused", "moves", "replays"}
    seldom |= {"recount", "stacks"}
    assert missing <= in_one_partition | seldom
    assert any(":owners:" in key for key in full)
    assert any(":parked:" in key for key in full)
    others = set(redis_client.scan_iter(count=1000)) - {key.encode() for key in full}
    await eventually(lambda: heartbeat_is_gone(two, "search"))

    await Groups(two).drop("search")

    assert keys_of(redis_client, two, "search") == set()
    assert others <= set(redis_client.scan_iter(count=1000)) | {
        f"{two.partitions[0].base}:{name}:{key}".encode()  # these expire by themselves
        for name in ("main", "search2", "main.search")
        for key in ("heartbeats", "heartbeats:times")
    }
    for keys in two.partitions:
        rows = redis_client.xinfo_groups(keys.stream)
        assert not [row for row in rows if row["name"] in {b"search", b"search:bell"}]
    assert (await Groups(two).known())["search"].state == "dropped"


async def test_a_group_named_like_a_key_of_the_stream_takes_nothing_of_it_along(
    two: Client, redis_client: redis.Redis
) -> None:
    redis_client.hset(f"{two.partitions[0].tokens}:29000000", "token", "digest")
    await fill(two, "tokens")
    await eventually(lambda: heartbeat_is_gone(two, "tokens"))
    await Groups(two).drop("tokens")
    assert keys_of(redis_client, two, "tokens") == {f"{two.partitions[0].tokens}:29000000"}


async def test_a_name_with_signs_of_a_pattern_means_only_itself(
    two: Client, redis_client: redis.Redis
) -> None:
    for name in "s*", "s[ab]", "sa":
        await fill(two, name)
    before = keys_of(redis_client, two, "sa")
    for name in "s*", "s[ab]":
        await eventually(partial(heartbeat_is_gone, two, name))
        await Groups(two).drop(name)
        assert keys_of(redis_client, two, name) == set()
    assert {key for key in before if "heartbeats" not in key} <= keys_of(redis_client, two, "sa")


async def test_a_group_is_not_dropped_while_a_heartbeat_of_it_lives(
    two: Client, redis_client: redis.Redis
) -> None:
    await fill(two, "search")
    heartbeats = Heartbeats(two, "search")
    await heartbeats.write(Heartbeat(name="web-1", lease=60.0))
    before = keys_of(redis_client, two, "search")
    with pytest.raises(GroupRefusedError, match="workers of group search run: web-1"):
        await Groups(two).drop("search")
    assert keys_of(redis_client, two, "search") == before
    assert (await Groups(two).known())["search"].state == "made"

    await heartbeats.remove("web-1")
    await Groups(two).drop("search")
    assert keys_of(redis_client, two, "search") == set()


async def test_no_worker_makes_a_dropped_group_again(
    groups: Groups, stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    late = await open_group("late", name="search")
    waiting = await open_group("waiting", name="search")
    await stream.append([message(), message()])
    (entry, other) = (await late.take(2)).entries
    await groups.drop("search")

    with pytest.raises(GroupLostError):
        await late.take(1)
    with pytest.raises(GroupLostError):
        await late.settle([Settlement(entry.ref, (again(entry, delay_ms=5000),))])
    assert await late.settle([Settlement(other.ref)]) == []  # a success writes nothing either
    for worker in late, waiting:
        with pytest.raises(GroupRefusedError) as refused:
            await worker.open()
        assert str(refused.value) == DROPPED
    with pytest.raises(GroupRefusedError):
        await groups.check("search", may_make=True)
    assert not list(redis_client.scan_iter(f"{stream.partitions[0].base}:search:*"))


async def test_a_dropped_group_can_be_added_anew(
    groups: Groups, stream: Producer, open_group: OpenGroup
) -> None:
    await open_group(name="search")
    await stream.append([message(id="m1")])
    await groups.drop("search")
    await groups.add("search", "now")
    await stream.append([message(id="m2")])
    group = await open_group("c2", name="search")
    entries = (await group.take(10)).entries
    assert ids(entries) == ["m2"]
    await settle_all(group, *entries)


async def test_a_dropped_group_holds_back_the_trimming_no_longer(
    groups: Groups, stream: Producer, open_group: OpenGroup
) -> None:
    main = await open_group(name="main")
    await groups.add("search", "beginning")
    await stream.append([message()])
    await settle_all(main, *(await main.take(1)).entries)
    upkeep = Upkeep(stream.client, "main")
    assert await upkeep.trim(0) == 0
    await groups.drop("search")
    assert await upkeep.trim(0) == 1


async def test_while_a_group_is_being_dropped_nobody_works_in_it_or_adds_it(
    two: Client, redis_client: redis.Redis
) -> None:
    await fill(two, "search")
    redis_client.hset(two.partitions[0].groups, "search", "dropping 1700000000000")
    groups = Groups(two)
    half_dropped = "group search is being dropped: finish `hookmill group drop search`"
    for refused in groups.check("search"), groups.make("search"), groups.add("search", "now"):
        with pytest.raises(GroupRefusedError) as error:
            await refused
        assert str(error.value) == half_dropped
    await eventually(lambda: heartbeat_is_gone(two, "search"))
    await groups.drop("search")
    await groups.add("search", "now")
    await Consumer(two, "search", "c1", dedup_window=60, makes_group=False).open()


async def test_what_a_group_destroyed_by_hand_has_left_can_be_dropped(
    two: Client, redis_client: redis.Redis
) -> None:
    """XGROUP DESTROY leaves three keys."""
    await fill(two, "search")
    for keys in two.partitions:
        redis_client.xgroup_destroy(keys.stream, "search")
        redis_client.hdel(keys.groups, "search")
    groups = Groups(two)
    assert "search" not in await groups.known()
    assert await groups.has_keys("search")
    await eventually(lambda: heartbeat_is_gone(two, "search"))
    await groups.drop("search")
    assert not await groups.has_keys("search")
    assert keys_of(redis_client, two, "search") == set()
