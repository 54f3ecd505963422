"""Settlements are written in batches, and kept until they are written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import pytest
import redis
import structlog

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.message import Progress
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, EntryRef, FollowUp, Settlement
from hookmill.stream.producer import Producer
from tests.support import Server, Stream, eventually, message, taken_over
from worker import settler as settler_module
from worker.settler import Settler

OpenGroup = Callable[..., Awaitable[Consumer]]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settler_module, "PAUSE", 0.02)


class Watched(Consumer):
    """A consumer that notes how many settlements went with each round trip."""

    def __init__(self, stream: Producer) -> None:
        super().__init__(stream.client, "main", "c1", dedup_window=3600)
        self.batches: list[int] = []
        self.faults: list[Exception] = []

    async def settle(self, settlements: Iterable[Settlement]) -> list[str]:
        if self.faults:
            raise self.faults.pop()
        settlements = list(settlements)
        self.batches.append(len(settlements))
        return await super().settle(settlements)


@pytest.fixture
async def group(stream: Producer) -> AsyncIterator[Watched]:
    opened = Watched(stream)
    await opened.open()
    yield opened
    await opened.close()


class Over(list[EntryRef]):
    """The settled entries, in the order in which they were reported."""

    def note(self, settlements: list[Settlement]) -> None:
        self += [one.ref for one in settlements]


async def take(stream: Producer, group: Consumer, count: int, body: bytes = b"{}") -> list[Entry]:
    await stream.append([message(body) for _ in range(count)])
    return (await group.take(count)).entries


def later(entry: Entry) -> Settlement:
    """A retry in a minute."""
    changes = Progress(owner=entry.ref.id).to_fields()
    follow_up = FollowUp("again", entry.ref.id, changes, 60_000)
    return Settlement(entry.ref, (follow_up,), fields=entry.fields)


async def test_what_is_put_in_one_tick_goes_in_one_round_trip(
    stream: Producer, group: Watched
) -> None:
    over = Over()
    settler = Settler(group, over.note)
    entries = await take(stream, group, 40)
    for entry in entries:
        settler.put(Settlement(entry.ref))
    await settler.drain()
    assert group.batches == [40]
    assert over == [entry.ref for entry in entries]


async def test_what_is_put_during_a_round_trip_goes_with_the_next(
    stream: Producer, group: Watched
) -> None:
    over = Over()
    settler = Settler(group, over.note)
    first, *rest = await take(stream, group, 10)
    settler.put(Settlement(first.ref))
    await eventually(lambda: group.batches)
    for entry in rest:
        settler.put(Settlement(entry.ref))
    await settler.drain()
    assert group.batches == [1, 9]
    assert len(over) == 10


async def test_a_long_queue_goes_in_several_batches(stream: Producer, group: Watched) -> None:
    settler = Settler(group, Over().note)
    for entry in await take(stream, group, 1100):
        settler.put(Settlement(entry.ref))
    await settler.drain()
    assert group.batches == [500, 500, 100]


async def test_huge_bodies_do_not_make_a_batch_that_stops_redis_for_long(
    own_server: Callable[..., Server],
) -> None:
    server = own_server()
    stream = Stream(server.url, "t")
    group = Watched(stream)
    await group.open()
    settler = Settler(group, Over().note)
    entries = []
    for _ in range(12):
        entries += await take(stream, group, 1, bytes(1024 * 1024))
    entries += await take(stream, group, 1, bytes(5 * 1024 * 1024))
    for entry in entries:
        settler.put(later(entry))
    await asyncio.wait_for(settler.drain(), 60)
    assert group.batches == [3, 3, 3, 3, 1]
    with redis.Redis.from_url(server.url) as client:
        assert client.zcard(group.partitions[0].delayed) == 13
    await group.close()
    await stream.close()


async def test_outcomes_are_kept_while_redis_is_away(own_server: Callable[..., Server]) -> None:
    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    stream = Stream(server.url, "t")
    group = Watched(stream)
    await group.open()
    over = Over()
    settler = Settler(group, over.note)
    done, retried = await take(stream, group, 2)
    server.kill()
    with structlog.testing.capture_logs() as logs:
        settler.put(Settlement(done.ref))
        settler.put(later(retried))
        await eventually(lambda: logs)
    assert {(line["event"], line["waiting"]) for line in logs} == {
        ("cannot settle, trying again", 2)
    }
    assert over == []
    server.start()
    await settler.drain()
    assert over == [done.ref, retried.ref]
    with redis.Redis.from_url(server.url) as client:
        assert client.xpending(group.partitions[0].stream, "main")["pending"] == 0
        assert client.zcard(group.partitions[0].delayed) == 1
    await group.close()
    await stream.close()


async def test_a_lost_group_is_made_again_and_its_entries_are_delivered_again(
    stream: Producer, group: Watched, redis_client: redis.Redis
) -> None:
    settler = Settler(group, Over().note)
    (entry,) = await take(stream, group, 1)
    redis_client.xgroup_destroy(group.partitions[0].stream, "main")
    settler.put(later(entry))
    with structlog.testing.capture_logs() as logs:
        await settler.drain()
    # The retry is dropped, because the new group has not finished the entry and takes it again.
    assert [line["event"] for line in logs] == ["dropped late outcomes: another worker has them"]
    (came_again,) = (await group.take(10)).entries
    assert came_again == entry
    await group.settle([Settlement(came_again.ref)])


@pytest.mark.parametrize("fault", [GroupLostError("gone"), RuntimeError("a fault of ours")])
async def test_no_error_makes_it_give_up_an_outcome(
    stream: Producer, group: Watched, fault: Exception
) -> None:
    settler = Settler(group, Over().note)
    (entry,) = await take(stream, group, 1)
    group.faults = [fault]
    settler.put(Settlement(entry.ref))
    await settler.drain()
    assert group.batches == [1]


async def test_late_outcomes_are_reported(
    stream: Producer, group: Watched, open_group: OpenGroup
) -> None:
    other = await open_group("other")
    mine, theirs = await take(stream, group, 2)
    await taken_over(other)
    over = Over()
    settler = Settler(group, over.note)
    with structlog.testing.capture_logs() as logs:
        settler.put(Settlement(mine.ref))
        settler.put(later(theirs))
        await settler.drain()
    assert [line["entries"] for line in logs] == [[theirs.ref.id]]
    assert over == [mine.ref, theirs.ref]  # it is over for us
    await other.settle([Settlement(theirs.ref)])


async def test_what_wants_to_know_is_told_after_the_write_and_only_of_outcomes_that_count(
    stream: Producer, group: Watched, open_group: OpenGroup
) -> None:
    other = await open_group("other")
    mine, theirs = await take(stream, group, 2)
    await taken_over(other)
    told: list[str] = []
    settler = Settler(group, lambda _: told.append("written"))
    group.faults = [GroupLostError("gone")]
    settler.put(Settlement(mine.ref), lambda: told.append("mine"))
    settler.put(later(theirs), lambda: told.append("theirs"))
    await settler.drain()
    assert told == ["written", "mine"]
    assert not settler._when_stored
    await other.settle([Settlement(theirs.ref)])


async def test_where_the_reply_to_a_write_is_lost_nobody_is_told(
    stream: Producer, group: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, told = Watched.settle, list[str]()

    async def lose_the_first_reply(self: Watched, settlements: Iterable[Settlement]) -> list[str]:
        late = await settle(self, settlements)
        if len(self.batches) == 1:
            raise StreamUnavailableError("the reply was lost")
        return late

    monkeypatch.setattr(Watched, "settle", lose_the_first_reply)
    settler = Settler(group, Over().note)
    (entry,) = await take(stream, group, 1)
    fields = {**entry.fields, **Progress(owner=entry.ref.id).to_fields()}
    at_once = Settlement(entry.ref, (FollowUp("again", entry.ref.id, fields),))
    settler.put(at_once, lambda: told.append("once"))
    await settler.drain()
    assert (group.batches, told) == ([1, 1], [])
    (again,) = (await group.take(10)).entries
    await group.settle([Settlement(again.ref)])


async def test_when_stopped_it_logs_how_many_it_leaves_to_others(
    stream: Producer, group: Watched
) -> None:
    settler = Settler(group, Over().note)
    entries = await take(stream, group, 2)
    group.faults = [GroupLostError("gone")] * 1000
    for entry in entries:
        settler.put(Settlement(entry.ref))
    await asyncio.sleep(0)
    with structlog.testing.capture_logs() as logs:
        await settler.stop()
    assert [(line["event"], line["messages"]) for line in logs] == [
        ("stopped with outcomes that are not written", 2)
    ]
    group.faults = []
    await group.settle([Settlement(entry.ref) for entry in entries])


async def test_with_nothing_to_write_it_is_done_at_once(group: Watched) -> None:
    settler = Settler(group, Over().note)
    await settler.drain()
    await settler.stop()
    assert group.batches == []
