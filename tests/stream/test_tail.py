"""What comes into the stream is read from a position, and nothing else changes by it."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from hookmill.message import PACKED_VERSION, about_of, body_of
from hookmill.stream.producer import Producer
from hookmill.stream.tail import MOST_AT_ONCE, Arrived, StreamTail, before
from tests.given_up import OpenGroup
from tests.support import Server, Stream, message


@pytest.mark.since_7_0
async def test_what_came_behind_a_position_is_read_once_and_in_its_order(stream: Producer) -> None:
    tail = StreamTail(stream.client)
    assert await tail.newest() == ["0-0"]
    assert (await tail.read(["0-0"], whole=False))[0].added is None
    await stream.append([message(id="before")])
    at = await tail.newest()
    (page,) = await tail.read(at, whole=False)
    assert (page.entries, page.is_end) == ([], True)

    await stream.append([message(b"x" * 20, id=f"{n}") for n in range(MOST_AT_ONCE + 1)])
    (page,) = await tail.read(at, whole=False)
    assert [one.fields[b"id"] for one in page.entries] == [b"%d" % n for n in range(MOST_AT_ONCE)]
    assert not page.is_end
    (page,) = await tail.read([page.entries[-1].id], whole=False)
    assert [one.fields[b"id"] for one in page.entries] == [b"%d" % MOST_AT_ONCE]
    assert page.is_end
    assert page.added == MOST_AT_ONCE + 2


async def test_bodies_stay_in_redis_unless_they_are_asked_for(stream: Producer) -> None:
    small, large = b"y" * 20, b"z" * 40_000  # one is packed, and one is a field of its own
    await stream.append([message(small, type="a.b"), message(large, type="a.b")], PACKED_VERSION)
    tail = StreamTail(stream.client)
    (page,) = await tail.read(["0-0"], whole=False)
    assert [about_of(one.fields).type for one in page.entries] == ["a.b", "a.b"]
    assert not any(small in value or large in value for value in _values(page.entries))
    (page,) = await tail.read(["0-0"], whole=True)
    assert [body_of(one.fields) for one in page.entries] == [small, large]


def _values(entries: list[Arrived]) -> list[bytes]:
    return [value for one in entries for value in one.fields.values()]


@pytest.mark.since_7_0
async def test_groups_do_not_notice_it(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis, prefix: str
) -> None:
    await open_group()
    await stream.append([message(id="1"), message(id="2")])

    def state() -> Any:
        return redis_client.xinfo_groups(f"{prefix}:{{0}}:stream")

    seen = state()
    (page,) = await StreamTail(stream.client).read(["0-0"], whole=True)
    assert state() == seen
    assert page.added == 2


async def test_each_partition_has_a_position_of_its_own(server: Server, prefix: str) -> None:
    stream = Stream(server.url, prefix, partitions=2)
    await stream.append([message(id=f"{n}", body=b"%d" % n) for n in range(20)])
    tail = StreamTail(stream.client)
    first, second = await tail.read(["0-0", before(2**41)], whole=False)
    assert first.entries
    assert second.entries == []
    assert {one.partition for one in first.entries} == {0}
    await stream.close()


def test_a_position_before_a_time_is_behind_all_that_came_earlier() -> None:
    assert before(0) == "0-0"
    assert before(1000) == f"999-{2**64 - 1}"


async def test_large_entries_are_read_singly_also_behind_small_ones(
    stream: Producer, redis_client: redis.Redis
) -> None:
    sizes = [*[1] * 20, *[600_000] * 4]
    await stream.append([message(b"x" * size) for size in sizes])
    redis_client.config_resetstat()
    (page,) = await StreamTail(stream.client).read(["0-0"], whole=False)
    assert (len(page.entries), page.is_end) == (22, False)
    assert redis_client.info("commandstats")["cmdstat_xrange"]["calls"] == 22
