"""What an append refuses: too large a backlog, and a token that came before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import redis

from hookmill.errors import BacklogFullError, StreamUnavailableError
from hookmill.message import Message
from hookmill.signatures import Token
from hookmill.stream.arrival import Arrival, row_of
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, FollowUp, Settlement, weight_of
from hookmill.stream.facts import Backlog
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.backlogs import settle
from tests.support import Server, Stream, eventually, message

OpenGroup = Callable[..., Awaitable[Consumer]]
Limited = Callable[..., Any]


@pytest.fixture
def limited(server: Server, prefix: str) -> Limited:
    """A stream with a limit, under the test's prefix."""

    @asynccontextmanager
    async def opened(messages: int = 0, size: int = 0) -> AsyncIterator[Producer]:
        stream = Stream(server.url, prefix, limit=Backlog(messages, size))
        yield stream
        await stream.close()

    return opened


async def is_full(stream: Producer) -> bool:
    try:
        await stream.append([message()])
    except BacklogFullError:
        return True
    return False


async def finish(group: Consumer, count: int) -> None:
    entries = (await group.take(count)).entries
    assert len(entries) == count
    await settle(group, *entries)


def settled_again(entry: Entry, delay_ms: int) -> Settlement:
    fields = entry.fields | {b"owner": entry.ref.id.encode()}
    return Settlement(entry.ref, (FollowUp("again", entry.ref.id, fields, delay_ms),))


# --- the backlog ----------------------------------------------------------------------------


@pytest.mark.since_7_0
async def test_an_append_is_refused_while_too_many_messages_are_unfinished(
    limited: Limited, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    async with limited(messages=3) as stream:
        await stream.append([message(), message()])
        assert not await is_full(stream)
        assert await is_full(stream)
        assert redis_client.xlen(stream.partitions[0].stream) == 3

        held = (await group.take(3)).entries
        assert await is_full(stream)  # a held message is not finished
        await group.settle([Settlement(held[0].ref)])
        assert not await is_full(stream)
        assert await is_full(stream)
        await group.settle([Settlement(entry.ref) for entry in held[1:]])
        await finish(group, 1)


async def test_what_is_finished_but_retained_is_no_backlog(
    limited: Limited, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    async with limited(messages=3) as stream:
        for _ in range(5):
            await stream.append([message(), message(), message()])
            await finish(group, 3)
        assert redis_client.xlen(stream.partitions[0].stream) == 15
        assert await Upkeep(stream.client, "main").measure_backlog() == (0, 0)


async def test_messages_that_wait_to_be_taken_again_or_later_are_unfinished(
    limited: Limited, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    async with limited(messages=2) as stream:
        await stream.append([message(), message()])
        first, second = (await group.take(2)).entries
        await group.settle([settled_again(first, 0), settled_again(second, 60_000)])
        assert await is_full(stream)
        await finish(group, 1)
        assert (await Upkeep(stream.client, "main").measure_backlog()).messages == 1
        redis_client.delete(group.partitions[0].delayed, group.partitions[0].delayed_entries)


async def test_the_slowest_group_counts_and_without_any_group_everything_does(
    limited: Limited, open_group: OpenGroup
) -> None:
    async with limited(messages=3) as stream:
        await stream.append([message(), message(), message()])
        assert await is_full(stream)
        quick, slow = await open_group(name="quick"), await open_group(name="slow")
        await finish(quick, 3)
        assert await is_full(stream)
        await finish(slow, 1)
        assert (await Upkeep(stream.client, "main").measure_backlog()).messages == 2
        await finish(slow, 2)


async def test_bytes_are_limited_too(limited: Limited, open_group: OpenGroup) -> None:
    group = await open_group()
    async with limited(size=10_000) as stream:
        await stream.append([message(b"x" * 4_000), message(b"x" * 4_000)])
        await stream.append([message(b"x" * 4_000)])
        assert await is_full(stream)
        await finish(group, 1)
        messages, size = await Upkeep(stream.client, "main").measure_backlog()
        assert messages == 2
        assert 8_000 < size < 8_500
        await stream.append([message()])
        await finish(group, 3)


async def test_a_batch_is_taken_whole_or_not_at_all(limited: Limited) -> None:
    async with limited(messages=3) as stream:
        assert len(await stream.append([message()] * 2)) == 2
        assert len(await stream.append([message()] * 5)) == 5  # the limit was not reached yet
        with pytest.raises(BacklogFullError):
            await stream.append([message()] * 5)
        assert (await Upkeep(stream.client, "main").measure_backlog()).messages == 7


async def test_counts_that_are_wrong_are_put_right_before_anybody_is_refused(
    limited: Limited, open_group: OpenGroup, redis_client: redis.Redis, prefix: str
) -> None:
    key = f"{prefix}:{{0}}:backlog"
    group = await open_group()
    async with limited(messages=3) as stream:
        redis_client.hset(key, mapping={"messages": "1000000", "bytes": "1"})
        assert not await is_full(stream)
        assert redis_client.hget(key, "messages") == b"1"
        redis_client.delete(key)  # the bytes are then those of the whole stream
        measured = await Upkeep(stream.client, "main").measure_backlog()
        assert measured.messages == 1
        assert measured.bytes > 0
        await finish(group, 1)
        await Upkeep(stream.client, "main").measure_backlog()
        assert not redis_client.exists(key)  # an idle line leaves nothing


@pytest.mark.since_7_0
async def test_where_the_server_does_not_tell_a_groups_lag_it_is_estimated_by_time(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    for number in range(1, 101):
        redis_client.xadd(stream.partitions[0].stream, {"n": number}, id=f"{number * 10}-0")
    # A group that was made in the middle of the stream: its lag is unknown.
    redis_client.xgroup_create(stream.partitions[0].stream, "main", "500-0")
    (group_info,) = redis_client.xinfo_groups(stream.partitions[0].stream)
    assert group_info["lag"] is None
    assert (await Upkeep(stream.client, "main").measure_backlog()).messages == 50
    group = await open_group()
    held = (await group.take(49)).entries
    assert (
        await Upkeep(stream.client, "main").measure_backlog()
    ).messages == 50  # one is unread, the others are held
    await group.settle([Settlement(entry.ref) for entry in held])
    await finish(group, 1)
    assert await Upkeep(stream.client, "main").measure_backlog() == (0, 0)


async def test_a_full_backlog_is_an_unavailable_stream_with_a_code_of_its_own() -> None:
    assert issubclass(BacklogFullError, StreamUnavailableError)
    assert BacklogFullError.code == "backlog_full"


async def test_a_probe_does_not_mind_the_backlog(limited: Limited, open_group: OpenGroup) -> None:
    group = await open_group()
    async with limited(messages=1) as stream:
        await stream.append([message()])
        await stream.probe()
        await finish(group, 1)


# --- tokens ---------------------------------------------------------------------------------


def arrival(message_id: str, token: bytes = b"t" * 16, lifetime: float = 300.0) -> Arrival:
    received_ms = 1_700_000_000_000
    plain = message(id=message_id, received_ms=received_ms)
    return Arrival(
        id=plain.id, source=plain.source, type="", body=b"{}", received_ms=received_ms,
        token=Token(token, int(received_ms / 1000 + lifetime)),
    )  # fmt: skip


def stored_ids(client: redis.Redis, stream: Producer) -> list[str]:
    entries: Any = client.xrange(stream.partitions[0].stream)
    return [fields[b"id"].decode() for _, fields in entries]


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "two batches"])
async def test_a_token_is_good_for_one_message_id(
    stream: Producer, redis_client: redis.Redis, together: bool
) -> None:
    given = [
        arrival("m1"),
        arrival("m2"),
        arrival("m1"),
        arrival("m3", b"u" * 16),
        message(id="m4"),
    ]
    batches: list[list[Message]] = [given] if together else [[one] for one in given]
    entry_ids = [entry_id for batch in batches for entry_id in await stream.append(batch)]
    assert [bool(entry_id) for entry_id in entry_ids] == [True, False, True, True, True]
    assert stored_ids(redis_client, stream) == ["m1", "m1", "m3", "m4"]
    assert (await Upkeep(stream.client, "main").measure_backlog()).messages == 4
    counted: Any = redis_client.hget(stream.partitions[0].backlog, "bytes")
    entries: Any = redis_client.xrange(stream.partitions[0].stream)
    assert int(counted) == sum(weight_of(fields) for _, fields in entries)


async def test_ids_of_two_sources_are_two_ids(stream: Producer, redis_client: redis.Redis) -> None:
    one = arrival("m1")
    fields = message(id="m1", source="other").to_fields()
    other = msgspec.structs.replace(row_of(one), fields=fields)
    assert [bool(entry_id) for entry_id in await stream.append_rows([row_of(one), other])] == [
        True,
        False,
    ]


async def test_a_token_is_forgotten_when_it_has_expired_and_not_before(
    stream: Producer, redis_client: redis.Redis, prefix: str
) -> None:
    await stream.append([arrival("m1", lifetime=1), arrival("n1", b"u" * 16, lifetime=600)])
    (short, long) = sorted(redis_client.scan_iter(f"{prefix}:{{0}}:tokens:*"))
    assert 0 < redis_client.pttl(short) <= 1_000
    assert 599_000 < redis_client.pttl(long) <= 600_000
    # Another of the same minute keeps the first for longer, never for less.
    await stream.append([arrival("n2", b"v" * 16, lifetime=599), arrival("m2", lifetime=1)])
    assert 599_000 < redis_client.pttl(long) <= 600_000
    await eventually(lambda: not redis_client.exists(short))
    await stream.append([arrival("m2", lifetime=1)])
    assert stored_ids(redis_client, stream) == ["m1", "n1", "n2", "m2"]


async def test_a_token_is_not_spent_on_an_append_that_was_refused(
    limited: Limited, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    async with limited(messages=1) as stream:
        await stream.append([message(id="first")])
        with pytest.raises(BacklogFullError):
            await stream.append([arrival("m1")])
        await finish(group, 1)
        await stream.append([arrival("m2")])
        assert stored_ids(redis_client, stream) == ["first", "m2"]
        await finish(group, 1)


async def test_a_token_is_not_spent_on_an_append_that_failed(
    stream: Producer, redis_client: redis.Redis, prefix: str
) -> None:
    redis_client.set(stream.partitions[0].stream, "not a stream")
    with pytest.raises(StreamUnavailableError, match="WRONGTYPE"):
        await stream.append([arrival("m1")])
    redis_client.delete(stream.partitions[0].stream)
    await stream.append([arrival("m2")])
    assert stored_ids(redis_client, stream) == ["m2"]


@pytest.mark.parametrize(("expires", "ms"), [(2**40, 366 * 86_400_000), (1, 1), (0, 1)])
async def test_an_odd_expiry_does_no_harm(
    stream: Producer, redis_client: redis.Redis, prefix: str, expires: int, ms: int
) -> None:
    odd = Arrival(
        id="m", source="s", type="", body=b"", received_ms=1_700_000_000_000,
        token=Token(b"t" * 16, expires),
    )  # fmt: skip
    assert row_of(odd).remember_ms == ms
    assert len(await stream.append([odd])) == 1


async def test_a_probe_leaves_nothing_behind(
    stream: Producer, redis_client: redis.Redis, prefix: str
) -> None:
    await stream.probe()
    assert list(redis_client.scan_iter(f"{prefix}:*")) == []
