"""Pools that share slots: they take turns, and one whose Redis does not answer keeps none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from hookmill import Delivery, Handlers
from hookmill.message import Message
from hookmill.stream.producer import Producer
from tests.support import Server, Stream, eventually, message
from tests.worker.pools import FOR_EVER, Scripted, scripted
from worker.attempt import Attempter
from worker.pool import Pool
from worker.slots import Slots
from worker.takeover import Takeover
from worker.threads import HandlerThreads

pytestmark = pytest.mark.one_server


class Lane:
    """A pool with a stream of its own, as those of a cluster have."""

    def __init__(self, stream: Producer, slots: Slots, handlers: Handlers[Any]) -> None:
        self.stream = stream
        self.consumer: Scripted = scripted(stream)
        self.threads = HandlerThreads(1)
        attempter = Attempter(handlers, None, self.threads, grace=600)
        self.pool = Pool(self.consumer, attempter, Takeover(self.consumer, FOR_EVER), slots)

    async def send(self, *ids: str) -> None:
        await self.stream.append([message(id=one) for one in ids])

    async def start(self) -> None:
        await self.consumer.open()
        self.pool.start()


MakeLanes = Callable[..., Awaitable[list[Lane]]]


@pytest.fixture
async def make_lanes(server: Server, short_pauses: None) -> AsyncIterator[MakeLanes]:
    made: list[Lane] = []

    async def make(handlers: Handlers[Any], slots: Slots, count: int = 2) -> list[Lane]:
        made.extend(Lane(Stream(server.url, f"lane{n}"), slots, handlers) for n in range(count))
        return made

    yield make
    for lane in made:
        await lane.pool.stop(0)
        await lane.consumer.close()
        await lane.stream.client.close()
        lane.threads.close()


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
    busy, other = await make_lanes(work.handlers, Slots(1))
    await busy.send(*(f"busy{n}" for n in range(30)))
    await other.send("other0", "other1", "other2")
    await busy.start()
    await other.start()
    await eventually(lambda: len(work.ran) == 33)
    assert work.most == 1
    assert all(work.ran.index(f"other{n}") < 12 for n in range(3))
