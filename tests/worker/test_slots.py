"""Pools that share slots: they take turns, and one whose Redis does not answer keeps none."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import redis

from hookmill import Delivery, Handlers
from hookmill.message import Message
from hookmill.stream.entries import EntryRef, Taken
from hookmill.stream.producer import Producer
from hookmill.stream.takes import TAKE_BYTES
from tests.support import Server, Stream, eventually, message
from tests.worker.pools import FOR_EVER, Scripted
from worker.attempt import Attempter
from worker.pool import Pool
from worker.slots import Slots
from worker.takeover import Takeover
from worker.threads import HandlerThreads

pytestmark = pytest.mark.one_server


class Plain(Scripted):
    """A consumer; in those that derive from it, Redis stands still until `goes_on` is set."""

    def __init__(self, stream: Producer) -> None:
        super().__init__(stream.client, "main", "lane", dedup_window=3600)
        self.goes_on = asyncio.Event()
        self.is_asked = asyncio.Event()

    async def stand_still(self) -> None:
        self.is_asked.set()
        await self.goes_on.wait()


class Stuck(Plain):
    """One whose Redis stands still in takes."""

    async def take(self, count: int, max_bytes: int = TAKE_BYTES) -> Taken:
        taken = await super().take(count, max_bytes)
        await self.stand_still()  # Redis has given the messages, and the reply is on its way
        return taken


class Suspecting(Plain):
    """One that brings suspects, as a takeover does. Its Redis stands still before they run."""

    async def take(self, count: int, max_bytes: int = TAKE_BYTES) -> Taken:
        return as_suspects(await super().take(count, max_bytes))

    async def run_alone(self, ref: EntryRef, token: str) -> int:
        await self.stand_still()
        return await super().run_alone(ref, token)


class StuckWithSuspects(Stuck):
    """One that brings suspects, and whose Redis stands still in takes."""

    async def take(self, count: int, max_bytes: int = TAKE_BYTES) -> Taken:
        return as_suspects(await super().take(count, max_bytes))


def as_suspects(taken: Taken) -> Taken:
    entries = [msgspec.structs.replace(one, is_suspect=True) for one in taken.entries]
    return taken._replace(entries=entries)


class Lane:
    """A pool with a stream of its own, as those of a cluster have."""

    def __init__(
        self, stream: Producer, slots: Slots, handlers: Handlers[Any], consumer: Plain
    ) -> None:
        self.stream = stream
        self.threads = HandlerThreads(1)
        self.consumer = consumer
        attempter = Attempter(handlers, None, self.threads, grace=600)
        self.pool = Pool(self.consumer, attempter, Takeover(self.consumer, FOR_EVER), slots)

    async def send(self, *ids: str) -> None:
        await self.stream.append([message(id=one) for one in ids])

    async def start(self) -> None:
        await self.consumer.open()
        self.pool.start()

    async def start_and_stand_still(self, message_id: str) -> None:
        """Start with this message, and return when Redis stands still."""
        await self.send(message_id)
        await self.start()
        await self.consumer.is_asked.wait()


MakeLanes = Callable[..., Awaitable[list[Lane]]]


@pytest.fixture
async def make_lanes(
    server: Server, short_pauses: None, redis_client: redis.Redis
) -> AsyncIterator[MakeLanes]:
    made: list[Lane] = []

    async def make(handlers: Handlers[Any], slots: Slots, *kinds: type[Plain]) -> list[Lane]:
        for number, kind in enumerate(kinds):
            stream = Stream(server.url, f"lane{number}-{secrets.token_hex(3)}")
            made.append(Lane(stream, slots, handlers, kind(stream)))
        return made

    yield make
    for lane in made:
        await lane.pool.stop(0)
        await lane.consumer.close()
        await lane.stream.client.close()
        lane.threads.close()
        for key in redis_client.scan_iter(f"{lane.stream.client.partitions[0].before}*"):
            redis_client.delete(key)


class Noted:
    """A handler that notes what ran. Each message waits until `go_on` is set."""

    def __init__(self) -> None:
        self.handlers: Handlers[Any] = Handlers()
        self.ran: list[str] = []
        self.running = self.most = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.handlers.on("*", name="work")(self.work)

    async def work(self, delivery: Delivery[Message]) -> None:
        self.ran.append(delivery.id)
        self.running += 1
        self.most = max(self.most, self.running)
        await self.go_on.wait()
        await asyncio.sleep(0)
        self.running -= 1


async def test_with_one_slot_two_pools_take_turns(make_lanes: MakeLanes) -> None:
    work = Noted()
    busy, other = await make_lanes(work.handlers, Slots(1), Plain, Plain)
    await busy.send(*(f"busy{n}" for n in range(30)))
    await other.send("other0", "other1", "other2")
    await busy.start()
    await other.start()
    await eventually(lambda: len(work.ran) == 33)
    assert work.most == 1
    assert all(work.ran.index(f"other{n}") < 12 for n in range(3))


async def test_no_more_messages_run_together_than_there_are_slots(make_lanes: MakeLanes) -> None:
    work = Noted()
    lanes = await make_lanes(work.handlers, Slots(4), *[Plain] * 3)
    for lane in lanes:
        await lane.send(*(f"{id(lane)}-{n}" for n in range(20)))
        await lane.start()
    await eventually(lambda: len(work.ran) == 60)
    assert work.most <= 4


async def test_a_pool_whose_redis_does_not_answer_keeps_no_slot_from_another(
    make_lanes: MakeLanes,
) -> None:
    work = Noted()
    stuck, other = await make_lanes(work.handlers, Slots(1), Stuck, Plain)
    await stuck.start_and_stand_still("late")
    await other.send(*(f"other{n}" for n in range(5)))
    await other.start()
    await eventually(lambda: len(work.ran) == 5)
    work.go_on.clear()
    await other.send("holds the slot")
    await eventually(lambda: "holds the slot" in work.ran)
    stuck.consumer.goes_on.set()
    await eventually(lambda: stuck.pool.takes == 1)
    assert "late" not in work.ran  # it is held, and waits for its turn
    assert [ref.id for ref in stuck.pool.held]
    work.go_on.set()
    await eventually(lambda: "late" in work.ran and not stuck.pool.held)
    assert work.most == 1


async def test_what_came_late_is_requeued_by_a_stop(make_lanes: MakeLanes) -> None:
    work = Noted()
    stuck, other = await make_lanes(work.handlers, Slots(1), Stuck, Plain)
    await stuck.start_and_stand_still("late")
    work.go_on.clear()
    await other.send("holds the slot")
    await other.start()
    await eventually(lambda: work.ran == ["holds the slot"])
    stuck.consumer.goes_on.set()
    await eventually(lambda: stuck.pool.takes == 1)
    await stuck.pool.stop(1)
    work.go_on.set()
    assert work.ran == ["holds the slot"]
    assert await stuck.stream.client.execute(0, "XLEN", stuck.consumer.partitions[0].again) == 1


async def test_a_suspect_of_one_pool_runs_while_nothing_runs_in_any(make_lanes: MakeLanes) -> None:
    work = Noted()
    lane, other = await make_lanes(work.handlers, Slots(10), Suspecting, Plain)
    lane.consumer.goes_on.set()
    work.go_on.clear()
    await other.send("beside")
    await other.start()
    await eventually(lambda: work.ran == ["beside"])
    await lane.send("suspect")
    await lane.start()
    await eventually(lambda: lane.pool.suspects == 1)
    await other.send("after")
    await eventually(lambda: other.pool.free_slots == 0)
    assert work.ran == ["beside"]
    work.go_on.set()
    await eventually(lambda: len(work.ran) == 3)
    assert (work.ran[0], work.most) == ("beside", 1)


async def test_a_suspect_that_came_late_runs_alone_and_its_run_is_counted(
    make_lanes: MakeLanes,
) -> None:
    work, counted = Noted(), list[int]()
    stuck, other = await make_lanes(work.handlers, Slots(2), StuckWithSuspects, Plain)
    stuck.consumer.after_run_alone = counted.append
    await stuck.start_and_stand_still("suspect")
    work.go_on.clear()
    await other.send("first", "second")
    await other.start()
    await eventually(lambda: work.running == 2)
    stuck.consumer.goes_on.set()
    await eventually(lambda: stuck.pool.takes == 1)
    work.most = 0
    work.go_on.set()
    await eventually(lambda: "suspect" in work.ran and not stuck.pool.held)
    assert (counted, work.most) == ([1], 1)


async def test_a_suspect_whose_redis_does_not_answer_keeps_nothing_waiting(
    make_lanes: MakeLanes,
) -> None:
    work = Noted()
    lane, other = await make_lanes(work.handlers, Slots(1), Suspecting, Plain)
    await lane.start_and_stand_still("suspect")
    await other.start()
    for number in range(3):
        await other.send(f"other{number}")
        await eventually(lambda: len(work.ran) == number + 1)  # noqa: B023 - it is awaited here
    assert "suspect" not in work.ran
    lane.consumer.goes_on.set()
    await eventually(lambda: "suspect" in work.ran)
    assert work.most == 1


# --- without Redis --------------------------------------------------------------------------


def test_a_pool_that_waits_keeps_its_place_until_it_has_had_its_turn() -> None:
    slots = Slots(3)
    first, second = slots.new_share(), slots.new_share()
    assert (slots.free_for(first, 10), slots.free_for(second, 2)) == (3, 2)
    slots.stand_in_line(first)
    slots.stand_in_line(second)
    slots.stand_in_line(first)
    assert (slots.free_for(first, 10), slots.free_for(second, 10)) == (3, 0)
    assert slots.free_for(second, 10, in_turn=False) == 3
    slots.leave_line(first)
    assert (slots.free_for(first, 10), slots.free_for(second, 10)) == (0, 3)
