"""Looks: whose turn it is, what they note, and what they leave alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.looks import Looks, Turn
from hookmill.stream.producer import Producer
from tests.stream.toolkit import OpenGroup, OwnServer, settle_all
from tests.support import Server, Stream, message, server_binaries


@pytest.fixture
async def group(open_group: OpenGroup) -> Consumer:
    return await open_group()


@pytest.fixture
def looks(group: Consumer) -> Looks:
    return group.looks()


async def look_at(looks: Looks, number: str, watched: float | None, lease: float) -> list[int]:
    """Look, having watched since the look before."""
    return await looks.watch(number, watched, str(int(number) - 1), lease)


def notes(client: redis.Redis, group: Consumer) -> dict[bytes, bytes]:
    found: Any = client.hgetall(group.partitions[0].watched)
    found.pop(b"", None)  # the last look
    return dict(found)


async def test_it_is_the_turn_of_whoever_sees_that_nobody_looks(
    looks: Looks, open_group: OpenGroup
) -> None:
    other = (await open_group("other")).looks()
    assert await looks.ask("") == Turn("0", is_ours=False, found_by="", found=())
    assert await looks.ask("0") == Turn("1", is_ours=True, found_by="", found=())
    assert await other.ask("0") == Turn("1", is_ours=False, found_by="", found=())
    await look_at(looks, "1", 0.0, 60)
    assert await other.ask("1") == Turn("2", is_ours=True, found_by="1", found=())
    assert await looks.ask("1") == Turn("2", is_ours=False, found_by="1", found=())


async def test_a_look_notes_the_ages_and_forgets_who_holds_nothing(
    stream: Producer,
    looks: Looks,
    group: Consumer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
) -> None:
    first, second = await open_group("first"), await open_group("second")
    await stream.append([message(), message(), message()])
    (one,) = (await first.take(1)).entries
    (two,) = (await second.take(1)).entries
    (own,) = (await group.take(1)).entries
    redis_client.hset(group.partitions[0].lease_numbers, "first", "7")
    await looks.ask("0")
    for number, watched in (("1", 1.0), ("2", 1.5), ("3", 0.25)):
        await look_at(looks, number, watched, 60)
    assert notes(redis_client, group) == {b"first": b"1750 1 7", b"second": b"1750 1 "}
    redis_client.hset(group.partitions[0].lease_numbers, "first", "8")
    await look_at(looks, "4", 1.0, 60)
    assert notes(redis_client, group) == {b"first": b"0 4 8", b"second": b"2750 1 "}
    await settle_all(second, two)
    await look_at(looks, "5", None, 60)
    assert notes(redis_client, group) == {b"first": b"0 5 8"}
    await settle_all(first, one)
    await settle_all(group, own)


async def test_a_look_that_arrives_behind_a_later_one_changes_nothing(
    stream: Producer,
    looks: Looks,
    group: Consumer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
) -> None:
    gone = await open_group("gone")
    await stream.append([message()])
    (entry,) = (await gone.take(1)).entries
    await look_at(looks, "7", 1.0, 60)
    for late in ("6", "7"):
        await look_at(looks, late, 1.0, 60)
    assert notes(redis_client, group) == {b"gone": b"0 7 "}
    await look_at(looks, "8", 1.0, 60)
    assert notes(redis_client, group) == {b"gone": b"1000 7 "}
    # Redis has lost the number of looks, which starts again.
    redis_client.hset(group.partitions[0].watched, "", "5000 1")
    await look_at(looks, "1", 1.0, 60)
    assert notes(redis_client, group) == {b"gone": b"1000 1 "}
    await look_at(looks, "2", 1.0, 60)
    assert notes(redis_client, group) == {b"gone": b"2000 1 "}
    await settle_all(gone, entry)


async def test_time_counts_only_for_what_was_noted_before_it_began(
    stream: Producer,
    looks: Looks,
    group: Consumer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
) -> None:
    gone = await open_group("gone")
    await stream.append([message()])
    (entry,) = (await gone.take(1)).entries
    await looks.watch("1", 1.0, "", 60)
    await looks.watch("2", 1.0, "", 60)  # the first look was not over when this time began
    assert notes(redis_client, group) == {b"gone": b"0 1 "}
    await looks.watch("3", 1.0, "1", 60)
    assert notes(redis_client, group) == {b"gone": b"1000 1 "}
    await settle_all(gone, entry)


async def test_what_was_found_is_told_with_the_next_ask_unless_it_is_old(
    stream: Producer, looks: Looks, open_group: OpenGroup
) -> None:
    gone = await open_group("gone")
    await stream.append([message()])
    (entry,) = (await gone.take(1)).entries
    await looks.ask("0")
    assert await look_at(looks, "1", 0.0, 0.0) == [0]
    assert await looks.ask("") == Turn("1", is_ours=False, found_by="1", found=(0,))
    await looks.ask("1")
    await look_at(looks, "1", 0.0, 60)  # its reply comes late
    assert (await looks.ask("")).found == (0,)
    await look_at(looks, "2", 0.0, 60)
    assert await looks.ask("") == Turn("2", is_ours=False, found_by="2", found=())
    await settle_all(gone, entry)


@pytest.fixture
async def in_four(server: Server, prefix: str) -> AsyncIterator[Client]:
    async with Client(server.url, prefix, partitions=4) as client:
        yield client


async def test_a_look_names_the_partitions_in_which_it_found_something(
    in_four: Client, redis_client: redis.Redis
) -> None:
    gone, group = (Consumer(in_four, "main", name, dedup_window=3600) for name in ("gone", "c1"))
    await group.open()
    for number in (1, 3):
        redis_client.xadd(in_four.partitions[number].stream, {"version": "9"})
    held = (await gone.take(8)).entries
    looks = group.looks()
    await looks.ask("0")
    assert await look_at(looks, "1", 0.0, 0.0) == [1, 3]
    assert (await looks.ask("")).found == (1, 3)
    await settle_all(gone, *held)
    await gone.close()
    await group.close()


async def test_a_look_at_a_lost_group_finds_nothing(
    looks: Looks, group: Consumer, redis_client: redis.Redis
) -> None:
    redis_client.delete(group.partitions[0].stream, group.partitions[0].again)
    assert await look_at(looks, "1", 1.0, 0.0) == []


@pytest.mark.parametrize("binary", list(server_binaries()))
async def test_a_full_redis_takes_a_look(own_server: OwnServer, binary: str) -> None:
    server = own_server(binary=binary)
    stream = Stream(server.url, "t")
    gone, group = (
        Consumer(stream.client, "main", name, dedup_window=3600) for name in ("gone", "c1")
    )
    await group.open()
    await stream.append([message()])
    held = (await gone.take(1)).entries
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
    looks = group.looks()
    assert (await looks.ask("0")).is_ours
    assert await look_at(looks, "1", 0.0, 0.0) == [0]
    taken, _ = await group.take_over(0, 1, 0.0, 1)
    assert taken.entries == held
    await settle_all(group, *held)
    await gone.close()
    await group.close()
    await stream.close()
