"""The bytes of the backlog: both wrong directions of an estimate, groups that begin later, and what
has to be counted again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis

from hookmill.errors import BacklogFullError, StreamUnavailableError
from hookmill.stream import upkeep as upkeep_module
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Settlement
from hookmill.stream.facts import Backlog
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.backlogs import settle, settled, walked
from tests.stream.ordering import again
from tests.stream.toolkit import opened
from tests.support import Server, Stream, message, taken_over

OpenGroup = Callable[..., Awaitable[Consumer]]

KB, MB = 1000, 1_000_000


@pytest.fixture(autouse=True)
def nothing_left(prefix: str, redis_client: redis.Redis) -> Iterator[None]:
    """Delete at the end what the tests leave on purpose."""
    yield
    for key in redis_client.scan_iter(f"{prefix}:*"):
        redis_client.delete(key)


async def finish_all(group: Consumer) -> None:
    while not (taken := await group.take(500)).is_empty:
        await settle(group, *taken.entries)


async def append(stream: Producer, count: int, size: int) -> None:
    for start in range(0, count, 100):
        some = range(start, min(start + 100, count))
        await stream.append([message(b"x" * size) for _ in some])


async def is_full(stream: Producer, size: int = 2) -> bool:
    try:
        await stream.append([message(b"x" * size)])
    except BacklogFullError:
        return True
    return False


async def measured(stream: Producer) -> Backlog:
    return await Upkeep(stream.client, "main").measure_backlog()


@pytest.mark.since_7_0
async def test_large_messages_that_are_finished_do_not_count_as_small_ones_that_are_not(
    server: Server, prefix: str, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    stream = Stream(server.url, prefix, limit=Backlog(0, 5 * MB))
    group = await open_group()
    await append(stream, 200, 2)
    small = (await group.take(200)).entries
    await group.settle([settled(entry, again(entry, delay_ms=600_000)) for entry in small])
    for _ in range(10):
        await append(stream, 4, MB)
        await finish_all(group)
    there = walked(redis_client, group.partitions[0])
    assert there.messages == 200
    assert there.bytes < 100 * KB
    assert not await is_full(stream)
    await finish_all(group)
    assert await measured(stream) == there
    await stream.close()


async def test_small_messages_that_are_finished_do_not_make_large_ones_smaller(
    server: Server, prefix: str, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    stream = Stream(server.url, prefix, limit=Backlog(0, 10 * MB))
    group = await open_group()
    accepted = 0
    while accepted < 50 and not await is_full(stream):
        accepted += 1
        await append(stream, 50, 2)
        await append(stream, 1, MB)
        *small, large = (await group.take(52)).entries
        await settle(group, *small)
        await group.settle([settled(large, again(large, delay_ms=600_000))])
        await measured(stream)
    assert accepted == 10
    await stream.close()


async def test_each_handler_of_a_message_counts_with_its_copy(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await append(stream, 1, MB)
    assert (await measured(stream)).bytes == pytest.approx(MB, rel=0.01)
    (entry,) = (await group.take(1)).entries
    await group.settle([settled(entry, *(again(entry, name) for name in "abc"))])
    assert await measured(stream) == walked(redis_client, group.partitions[0])
    assert (await measured(stream)).bytes == pytest.approx(3 * MB, rel=0.01)
    await finish_all(group)
    assert await measured(stream) == (0, 0)


@pytest.mark.since_7_0
async def test_what_came_before_a_group_was_made_is_not_its_backlog(
    server: Server, prefix: str, open_group: OpenGroup
) -> None:
    stream = Stream(server.url, prefix, limit=Backlog(1000, MB))
    main = await open_group()
    for _ in range(6):
        await append(stream, 500, 300)
        await finish_all(main)
        await Upkeep(stream.client, "main").trim(3600)
    late = await open_group(name="late")
    await Upkeep(stream.client, "late").trim(3600)
    for _ in range(10):
        await append(stream, 90, 300)
        await finish_all(main)
    assert (await measured(stream)).messages == 900
    # What it takes of the old ones counts from then on, and no more once it is finished.
    held = (await late.take(300)).entries
    assert (await measured(stream)).messages == 1200
    assert await is_full(stream)
    await settle(late, *held)
    assert (await measured(stream)).messages == 900
    await finish_all(late)
    assert await measured(stream) == (0, 0)
    assert not await is_full(stream)
    await finish_all(main)
    await finish_all(late)
    await stream.close()


async def test_the_backlog_of_a_lost_group_is_what_it_has_not_finished(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    main, other = await open_group(), await open_group(name="other")
    await append(stream, 20, 10 * KB)
    for group in (main, other):
        await settle(group, *(await group.take(15)).entries)
    await measured(stream)
    await Upkeep(stream.client, "main").trim(3600)
    redis_client.xgroup_destroy(main.partitions[0].stream, "main")
    await append(stream, 5, KB)
    await main.open()
    await finish_all(other)
    assert await measured(stream) == walked(redis_client, main.partitions[0])
    assert (await measured(stream)).messages == 10


@pytest.mark.parametrize("what", ["unread", "pending"])
async def test_entries_that_somebody_deletes_are_right_after_one_run_of_the_janitor(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis, what: str
) -> None:
    group = await open_group()
    await append(stream, 10, KB)
    await append(stream, 10, 100 * KB)
    await measured(stream)
    if what == "pending":
        await group.take(20)
    key = group.partitions[0].stream
    found: Any = redis_client.xrange(key)
    redis_client.xdel(key, *(entry_id for entry_id, _ in found[12:18]))
    if what == "pending":  # until then a worker has them, and finishes them
        await taken_over(await open_group("other"), 20)
    assert await measured(stream) == walked(redis_client, group.partitions[0])
    redis_client.delete(key)


async def test_what_somebody_trims_is_no_backlog(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await append(stream, 10, 100 * KB)
    await append(stream, 10, KB)
    await measured(stream)
    await settle(group, *(await group.take(2)).entries)
    redis_client.xtrim(group.partitions[0].stream, maxlen=6, approximate=False)
    found = await measured(stream)
    assert found == walked(redis_client, group.partitions[0])
    assert found.messages == 6


async def test_a_redis_that_lost_its_last_writes_has_the_backlog_of_what_is_there(
    own_server: Callable[..., Server],
) -> None:
    server = own_server("--save", "")
    async with opened(server) as (stream, group):
        keys, upkeep = group.partitions[0], Upkeep(stream.client, "main")
        await group.open()
        await append(stream, 10, 10 * KB)
        await upkeep.measure_backlog()
        await settle(group, *(await group.take(3)).entries)
        with redis.Redis.from_url(server.url) as client:
            client.save()
        await settle(group, *(await group.take(4)).entries)
        await append(stream, 5, KB)
        await upkeep.measure_backlog()
        server.kill()
        with pytest.raises(StreamUnavailableError):
            await upkeep.measure_backlog()
        server.start()
        await append(stream, 2, KB)
        with redis.Redis.from_url(server.url) as client:
            there = walked(client, keys)
        assert await upkeep.measure_backlog() == there
        assert there.messages == 9


@pytest.mark.since_7_0
async def test_a_recount_of_much_goes_on_from_run_to_run_while_messages_come_and_go(
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep_module, "RECOUNT_BYTES", 20 * KB)
    monkeypatch.setattr(upkeep_module, "RECOUNT_STEPS", 2)
    group = await open_group()
    await append(stream, 100, 500)
    await append(stream, 100, 5 * KB)
    taken = (await group.take(60)).entries
    await group.settle([settled(entry, again(entry, delay_ms=9**9)) for entry in taken[:20]])
    await group.settle([settled(entry, again(entry)) for entry in taken[20:40]])
    await measured(stream)
    # A worker of release 0.1 finishes some, and says nothing of their bytes.
    await group.settle([Settlement(entry.ref) for entry in taken[40:50]])
    counts = group.partitions[0].counts
    runs = 0
    while runs == 0 or redis_client.hexists(counts, "recount"):
        await measured(stream)
        runs += 1
        await append(stream, 1, 3 * KB)
        await settle(group, *(await group.take(1)).entries)
        assert runs < 100
    assert runs > 3
    size = (await measured(stream)).bytes
    assert size == pytest.approx(walked(redis_client, group.partitions[0]).bytes, rel=0.1)


@pytest.mark.since_7_0
async def test_while_nothing_goes_wrong_no_entry_is_read_to_measure(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await measured(stream)
    await append(stream, 300, 100)
    await finish_all(group)
    await append(stream, 300, 100)
    (entry,) = (await group.take(1)).entries
    await group.settle([settled(entry, *(again(entry, name) for name in "abc"))])
    redis_client.config_resetstat()  # a settlement reads the entry that it copies
    found = await measured(stream)
    commands: Any = redis_client.info("commandstats")
    assert not {"cmdstat_xrange", "cmdstat_hscan"} & set(commands)
    assert found == walked(redis_client, group.partitions[0])
    await finish_all(group)
    assert await measured(stream) == (0, 0)
    assert not redis_client.hexists(group.partitions[0].counts, "recount")


async def test_what_a_janitor_of_release_0_1_overwrites_is_counted_again(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await measured(stream)
    await append(stream, 1, 100)
    await append(stream, 1, 10 * KB)
    # A worker of 0.1 finishes the small one, and its janitor measures: the number is right.
    await group.settle([Settlement(entry.ref) for entry in (await group.take(1)).entries])
    key = stream.partitions[0].backlog
    redis_client.hset(key, mapping={"messages": "1", "bytes": "5000"})
    assert await measured(stream) == walked(redis_client, group.partitions[0])


async def test_the_group_whose_backlog_refuses_an_append_is_named(
    server: Server, prefix: str, open_group: OpenGroup
) -> None:
    stream = Stream(server.url, prefix, limit=Backlog(3, 0))
    quick, slow = await open_group(name="quick"), await open_group(name="slow\x1b[2J")
    await append(stream, 3, 2)
    await finish_all(quick)
    with pytest.raises(BacklogFullError, match=r"unfinished in group slow\\x1b\[2J$"):
        await append(stream, 1, 2)
    await finish_all(slow)
    await stream.close()
