"""What a group's history keeps of attempts, and within which bounds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from msgspec import structs

from hookmill.stream.attempts import Attempt, HistoryBounds, chunk_of
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, Settlement
from hookmill.stream.groups import Groups
from hookmill.stream.history import History
from hookmill.stream.producer import Producer
from tests.histories import BOUNDS, dead, retry, settlement
from tests.support import dead_letters, message, taken_over
from worker.outcome import Discarded, Done

OpenOne = Callable[..., Any]


@pytest.fixture
def open_one(open_group: Callable[..., Any]) -> OpenOne:
    """Open consumers that keep a history."""

    async def make(name: str = "c1", messages: int = 1000, room: int = BOUNDS.bytes) -> Consumer:
        group: Consumer = await open_group(name, history=HistoryBounds(messages, room))
        return group

    return make


async def one_taken(stream: Producer, group: Consumer, **fields: Any) -> Entry:
    await stream.append([message(**fields)])
    (entry,) = (await group.take(1)).entries
    return entry


async def attempts(stream: Producer, token: bytes, group: str = "main") -> list[Attempt]:
    return await History(stream.client).attempts(group, 0, token.decode())


async def test_each_of_many_successes_is_found_by_its_owner(
    stream: Producer, open_one: OpenOne
) -> None:
    group = await open_one()
    await stream.append([message(id=f"m{number}") for number in range(300)])
    entries = (await group.take(300)).entries
    await group.settle([settlement(entry, Done("book")) for entry in entries])
    for entry in entries[::37]:
        (one,) = await attempts(stream, entry.owner)
        assert (one.kind, one.handler, one.worker, one.attempt) == ("done", "book", "c1", 1)
        assert (one.seconds, one.is_late, one.may_be_late) == (0.25, False, False)
        assert time.time() * 1000 - one.began_ms < 60_000


async def test_the_attempts_of_a_message_are_told_in_their_order(
    stream: Producer, open_one: OpenOne
) -> None:
    group = await open_one()
    entry = await one_taken(stream, group, id="m")
    await group.settle([retry(entry)])
    (again,) = (await group.take(1)).entries
    await group.settle([dead(again)])
    (letter,) = await dead_letters(stream)
    first, second = await attempts(stream, entry.owner)
    assert (first.kind, first.error, first.reason, first.after, first.dead_id) == (
        *("retry", "its error", "ValueError", 0.0, ""),
    )
    assert (second.kind, second.error, second.attempt) == ("dead", "the last error", 2)
    assert (second.dead_id, second.after) == (letter.id, None)
    assert 0 < first.written_ms <= second.written_ms
    await stream.client.execute(0, "DEL", group.partitions[0].dead)


async def test_what_has_an_ordering_key_is_found_as_well(
    stream: Producer, open_one: OpenOne
) -> None:
    group = await open_one()
    first = await one_taken(stream, group, id="a", key="7")
    await stream.append([message(id="b", key="8"), message(id="c")])
    others = (await group.take(2)).entries
    rest = [settlement(entry, Discarded("book", "gone")) for entry in others]
    await group.settle([settlement(first, Done("book")), *rest])
    kinds = [(await attempts(stream, entry.owner))[0].kind for entry in (first, *others)]
    assert kinds == ["done", "discarded", "discarded"]


async def test_an_outcome_that_came_too_late_is_told_as_such(
    stream: Producer, open_one: OpenOne
) -> None:
    silent, other = await open_one("silent"), await open_one("other")
    failed = await one_taken(stream, silent, id="failed")
    keyed = await one_taken(stream, silent, id="keyed", key="7")
    handled = await one_taken(stream, silent, id="handled")
    entries = (await taken_over(other)).entries
    await other.settle([settlement(entry, Done("book")) for entry in entries])
    late = [retry(failed), settlement(keyed, Done("book")), settlement(handled, Done("book"))]
    assert len(await silent.settle(late)) == 2  # a success without a key is never refused
    for entry, kind in ((failed, "retry"), (keyed, "done")):
        lateness = {
            (one.worker, one.kind): one.is_late for one in await attempts(stream, entry.owner)
        }
        assert lateness == {("other", "done"): False, ("silent", kind): True}
    doubtful = {one.worker: one.may_be_late for one in await attempts(stream, handled.owner)}
    assert doubtful == {"other": False, "silent": True}


async def test_an_attempt_that_was_written_twice_is_told_once(
    stream: Producer, open_one: OpenOne
) -> None:
    group = await open_one()
    failed, handled = [await one_taken(stream, group, id=name) for name in ("a", "b")]
    batch = [retry(failed, after=600), settlement(handled, Done("book"))]
    for _ in range(2):  # the reply to the first write was lost
        await group.settle(batch)
    for entry in (failed, handled):
        (one,) = await attempts(stream, entry.owner)
        assert (one.is_late, one.may_be_late) == (False, False)
    keys = group.partitions[0]
    await stream.client.execute(0, "DEL", keys.delayed, keys.delayed_entries)


async def test_without_a_history_nothing_is_written(
    stream: Producer, open_one: OpenOne, redis_client: redis.Redis
) -> None:
    group = await open_one(messages=0)
    entry = await one_taken(stream, group, id="m")
    await group.settle([settlement(entry, Done("book"))])
    assert not redis_client.keys("*history*")


async def test_the_oldest_successes_make_room_for_new_ones(
    stream: Producer, open_one: OpenOne, redis_client: redis.Redis
) -> None:
    group = await open_one(messages=100)
    owners = []
    for number in range(30):
        await stream.append([message(id=f"m{number}-{one}") for one in range(10)])
        entries = (await group.take(10)).entries
        owners.append(entries[0].owner)
        await group.settle([settlement(entry, Done("book")) for entry in entries])
    assert int(redis_client.hget(group.partitions[0].history, "messages") or 0) <= 100
    found = [len(await attempts(stream, owner)) for owner in owners]
    assert found in ([0] * 20 + [1] * 10, [0] * 21 + [1] * 9)


@pytest.mark.one_server
async def test_a_storm_of_failures_stays_within_its_bytes(
    stream: Producer, open_one: OpenOne, redis_client: redis.Redis
) -> None:
    group = await open_one(room=200_000)
    for number in range(60):
        await stream.append([message(id=f"m{number}-{one}") for one in range(5)])
        size = 100 if number < 30 else 16_000
        entries = (await group.take(5)).entries
        await group.settle([retry(entry, "x" * size + "end", after=600) for entry in entries])
    keys = group.partitions[0]
    single = int(redis_client.hget(keys.history, "single") or 0)
    names: Any = redis_client.keys("*history*")
    used = sum(redis_client.memory_usage(key) or 0 for key in names)
    assert single <= 1.25 * 100_000
    assert used < 1.5 * 200_000
    (last,) = await attempts(stream, entries[-1].owner)
    assert last.error.endswith("end")
    redis_client.delete(keys.delayed, keys.delayed_entries)


@pytest.mark.one_server
async def test_smaller_bounds_are_reached_in_small_steps(
    stream: Producer, open_one: OpenOne, redis_client: redis.Redis
) -> None:
    before, after = await open_one(), await open_one("c2", room=10_000)
    await stream.append([message(id=f"m{number}") for number in range(900)])
    entries = (await before.take(800)).entries
    await before.settle([retry(entry, "error", after=600) for entry in entries])
    entries = (await after.take(100)).entries
    redis_client.config_resetstat()
    await after.settle([retry(entry, "error", after=600) for entry in entries])
    dropped: Any = redis_client.info("commandstats")
    assert dropped["cmdstat_lpop"]["calls"] <= 2 * (256 + 2 * len(entries))
    keys = after.partitions[0]
    redis_client.delete(keys.delayed, keys.delayed_entries)


@pytest.mark.one_server
async def test_one_message_keeps_its_last_failures_only(
    stream: Producer, open_one: OpenOne, redis_client: redis.Redis
) -> None:
    group = await open_one()
    entry = await one_taken(stream, group, id="m")
    owner = entry.owner
    for number in range(105):
        await group.settle([retry(entry, f"error {number}")])
        (entry,) = (await group.take(1)).entries
    found = await attempts(stream, owner)
    assert (len(found), found[0].error, found[-1].error) == (100, "error 5", "error 104")
    single = int(redis_client.hget(group.partitions[0].history, "single") or 0)
    assert single == 200 + sum(map(len, redis_client.lrange(_key(group, owner.decode()), 0, -1)))
    await group.settle([Settlement(entry.ref)])


async def test_all_of_a_history_expires_and_is_dropped_with_its_group(
    stream: Producer, open_one: OpenOne, redis_client: redis.Redis
) -> None:
    group = await open_one()
    failed, done = [await one_taken(stream, group, id=name) for name in ("a", "b")]
    await group.settle([retry(failed, after=600), settlement(done, Done("book"))])
    keys: Any = redis_client.keys("*:history*")
    assert len(keys) == 5
    assert all(14 * 86_400 - 60 < redis_client.ttl(key) <= 15 * 86_400 for key in keys)
    await Groups(stream.client).drop("main")
    assert not redis_client.keys("*:history*")


async def test_a_history_that_cannot_be_written_keeps_no_message_from_being_settled(
    stream: Producer, open_one: OpenOne, redis_client: redis.Redis
) -> None:
    group = await open_one()
    redis_client.set(group.partitions[0].history, "not ours")
    entry = await one_taken(stream, group, id="m")
    assert await group.settle([settlement(entry, Done("book"))]) == []
    assert redis_client.xpending(group.partitions[0].stream, "main")["pending"] == 0


async def test_a_duplicate_is_noted_with_the_message_that_it_repeats(
    stream: Producer, open_one: OpenOne
) -> None:
    group = await open_one()
    entry = await one_taken(stream, group, id="m")
    await group.settle([retry(entry, after=600)])
    repeated = [(await stream.append([message(id="m")]))[0] for _ in range(60)]
    assert len((await group.take(100)).duplicates) == 60
    (_, *notes) = sorted(await attempts(stream, entry.owner), key=lambda one: one.kind != "retry")
    assert {one.kind for one in notes} == {"duplicate"}
    assert notes[0].duplicate == repeated[0]
    assert notes[0].written_ms > 0
    assert len(notes) == 50  # repeats do not take the place of failures
    keys = group.partitions[0]
    await stream.client.execute(0, "DEL", keys.delayed, keys.delayed_entries)


async def test_without_a_history_no_duplicate_is_noted(
    stream: Producer, open_one: OpenOne, redis_client: redis.Redis
) -> None:
    group = await open_one(messages=0)
    entry = await one_taken(stream, group, id="m")
    await stream.append([message(id="m")])
    assert len((await group.take(1)).duplicates) == 1
    await group.settle([Settlement(entry.ref)])
    assert not redis_client.keys("*history*")


async def test_an_entry_that_somebody_deleted_is_settled_and_told(
    stream: Producer, open_one: OpenOne, redis_client: redis.Redis
) -> None:
    group = await open_one()
    entry = await one_taken(stream, group, id="m")
    redis_client.xdel(group.partitions[0].stream, entry.ref.id)
    await group.settle([structs.replace(dead(entry), fields=entry.fields)])
    (one,) = await attempts(stream, entry.owner)
    assert (one.kind, bool(one.dead_id)) == ("dead", True)
    redis_client.delete(group.partitions[0].dead)


def _key(group: Consumer, name: str) -> str:
    assert chunk_of("1764500000000-0") == 1764500000000 >> 11
    return f"{group.partitions[0].history}:{name}"
