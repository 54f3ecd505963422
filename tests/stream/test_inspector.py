"""The facts about a server and its groups, as real servers show them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from hookmill.message import Fields, Progress
from hookmill.stream.arrival import Row
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import AGAIN, Entry, FollowUp, Settlement
from hookmill.stream.facts import GroupFacts
from hookmill.stream.inspector import Inspector
from hookmill.stream.producer import Producer
from hookmill.stream.server_inspector import ServerInspector
from tests.support import message, written_in_version_1

OpenGroup = Callable[..., Awaitable[Consumer]]

RECEIVED = 1_700_000_000_000


async def facts_of(stream: Producer, name: str = "main") -> GroupFacts:
    overview = await Inspector(stream.client).overview()
    (found,) = (group for group in overview.groups if group.name == name)
    return found


def countable(client: redis.Redis, number: int) -> int | None:
    """What a server says of messages that wait: Redis counts them from 7.0 on."""
    info: Any = client.info("server")
    return None if info["redis_version"].startswith("6.") else number


async def test_an_empty_server_has_no_groups_and_looking_makes_no_keys(
    stream: Producer, redis_client: redis.Redis, prefix: str
) -> None:
    overview = await Inspector(stream.client).overview()
    await ServerInspector(stream.client).servers()

    assert (overview.length, overview.bytes, overview.groups) == (0, 0, ())
    assert overview.used_memory > 0
    assert list(redis_client.scan_iter(f"{prefix}:*")) == []


def with_progress(entry: Entry) -> Fields:
    return entry.fields | Progress(owner=entry.ref.id).to_fields()


async def test_each_message_is_counted_in_the_state_it_is_in(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    ids = await stream.append([message(id=f"m{n}", received_ms=RECEIVED) for n in range(10)])
    held, dead, delayed, again, done = (await group.take(5)).entries
    await group.settle(
        [
            Settlement(dead.ref, (FollowUp("dead", "a", with_progress(dead)),)),
            Settlement(delayed.ref, (FollowUp("again", "b", with_progress(delayed), 60_000),)),
            Settlement(again.ref, (FollowUp("again", "c", with_progress(again)),)),
            Settlement(done.ref),
        ]
    )

    found = await facts_of(stream)

    assert found.waiting == countable(redis_client, 5)
    assert (found.held, found.delayed, found.again, found.dead) == (1, 1, 1, 1)
    assert found.runnable == found.unread + 1 + 1
    assert found.unread == (5 if found.waiting is not None else found.guessed_waiting)
    assert found.unread > 0
    assert found.remembered == 5
    assert found.oldest_ms == RECEIVED  # it is to be taken again, and came before all others
    (consumer,) = found.consumers
    assert (consumer.name, consumer.pending) == ("c1", 1)
    assert consumer.idle_ms < 60_000

    retaken, *new = (await group.take(3)).entries
    assert retaken.ref.key_number == AGAIN
    found = await facts_of(stream)
    assert (found.held, found.again, found.oldest_ms) == (4, 0, RECEIVED)
    assert found.consumers[0].pending == 4

    await group.settle([Settlement(retaken.ref)])
    found = await facts_of(stream)
    assert (found.held, found.again) == (3, 0)
    assert found.oldest_ms == int(ids[0].partition("-")[0])

    rest = (await group.take(10)).entries
    await group.settle(Settlement(entry.ref) for entry in (held, *new, *rest))
    found = await facts_of(stream)
    assert (found.waiting, found.held, found.again, found.oldest_ms) == (0, 0, 0, None)
    redis_client.delete(
        group.partitions[0].dead, group.partitions[0].delayed, group.partitions[0].delayed_entries
    )


@pytest.mark.parametrize("version", [1, 2, 9])
async def test_the_oldest_is_as_old_as_it_says_or_else_as_its_entry(
    stream: Producer, open_group: OpenGroup, version: int
) -> None:
    sent = message(received_ms=RECEIVED)
    written = {1: written_in_version_1(sent), 2: sent.to_fields(), 9: {b"version": b"9"}}
    group = await open_group()
    await stream.append_rows([Row(written[version])])
    (entry,) = (await group.take(1)).entries
    again = FollowUp("again", "a", with_progress(entry))
    await group.settle([Settlement(entry.ref, (again,))])

    (retaken,) = (await group.take(1)).entries
    entry_ms = int(retaken.ref.id.partition("-")[0])
    assert (await facts_of(stream)).oldest_ms == (entry_ms if version == 9 else RECEIVED)
    await group.settle([Settlement(retaken.ref)])


async def test_each_group_is_counted_for_itself(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    fast, _ = await open_group(name="fast"), await open_group(name="slow")
    await stream.append([message(), message()])
    await fast.settle(Settlement(entry.ref) for entry in (await fast.take(5)).entries)

    assert (await facts_of(stream, "fast")).waiting == 0
    slow = await facts_of(stream, "slow")
    assert (slow.waiting, slow.consumers) == (countable(redis_client, 2), ())
    assert slow.has_work
    assert (await Inspector(stream.client).overview()).length == 2


async def test_a_count_that_redis_does_not_know_is_unknown_but_nothing_waiting_is_known(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    _, second = await stream.append([message(), message()])
    await group.settle(Settlement(entry.ref) for entry in (await group.take(1)).entries)
    await stream.append([message()])
    redis_client.xdel(group.partitions[0].stream, second)  # unread: from here on Redis cannot count

    assert (await facts_of(stream)).waiting is None

    await group.settle(Settlement(entry.ref) for entry in (await group.take(5)).entries)
    assert (await facts_of(stream)).waiting == 0


async def test_a_group_whose_again_stream_is_lost_is_still_looked_at(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message()])
    redis_client.delete(group.partitions[0].again)

    found = await facts_of(stream)

    assert found.waiting == countable(redis_client, 1)
    assert (found.again, found.held) == (0, 0)


async def test_large_messages_are_not_read_to_be_counted(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    await open_group()
    await stream.append([message(b"x" * 2_000_000)])
    before: Any = redis_client.info("stats")

    await facts_of(stream)

    after: Any = redis_client.info("stats")
    assert after["total_net_output_bytes"] - before["total_net_output_bytes"] < 100_000
