"""Pools with ordering keys: a key keeps its order, also if handlers fail or workers stop."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis

from hookmill import Delivery, Discard, Handlers, Retry
from hookmill.handlers import Backoff
from hookmill.message import Message
from hookmill.runtime.tasks import cancel_and_wait, run_periodically
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.producer import Producer
from tests.e2e.line import unfinished
from tests.support import Server, Stream, dead_letters, eventually, message
from worker import delayed as delayed_module
from worker import pool as pool_module
from worker.attempt import Attempter
from worker.delayed import Delayed
from worker.pool import Pool
from worker.slots import Slots
from worker.takeover import Takeover
from worker.threads import HandlerThreads

FOR_EVER = 1e9

PARTITIONS = 2

StartPool = Callable[..., Awaitable[Pool]]


@pytest.fixture(autouse=True)
def only_wake_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a wake-up ends a wait in time; delayed messages run as soon as they are due."""
    monkeypatch.setattr(pool_module, "MAX_WAIT", 60.0)
    monkeypatch.setattr(delayed_module, "LONGEST_PAUSE", 0.02)


@pytest.fixture
async def stream(server: Server, prefix: str) -> AsyncIterator[Producer]:
    opened = Stream(server.url, prefix, partitions=PARTITIONS)
    yield opened
    await opened.close()


@pytest.fixture
async def start_pool(stream: Producer) -> AsyncIterator[StartPool]:
    """Start a pool and the task for its delayed messages: `await start_pool(handlers)`."""
    groups: list[Consumer] = []
    pools: list[Pool] = []
    tasks: list[asyncio.Task[Any]] = []
    threads = HandlerThreads(2)

    async def start(handlers: Handlers[Any], *, group: str = "main", concurrency: int = 4) -> Pool:
        mine = Consumer(stream.client, group, f"c{len(pools)}", dedup_window=3600)
        await mine.open()
        groups.append(mine)
        attempter = Attempter(handlers, None, threads, grace=600)
        pool = Pool(mine, attempter, Takeover(mine, FOR_EVER), Slots(concurrency))
        pools.append(pool)
        pool.start()
        tasks.append(asyncio.create_task(run_periodically("delayed", Delayed(mine).run_once)))
        return pool

    yield start
    for pool in pools:
        await pool.stop(0)
    await cancel_and_wait(tasks)
    for each in groups:
        await each.close()
    threads.close()


class Work:
    """Two handlers of every message that succeed, retry, discard and fail, and note what ran."""

    def __init__(self, seed: int, pause: float = 0.004) -> None:
        self.handlers: Handlers[Any] = Handlers()
        self.over: defaultdict[str, set[tuple[int, str]]] = defaultdict(set)
        self.begun: defaultdict[str, list[int]] = defaultdict(list)
        self.disordered: list[str] = []
        self._draw = random.Random(seed)
        self._pause = pause
        for name in ("index", "mail"):
            self.handlers.on("*", name=name, attempts=3, backoff=Backoff(first=0.01, ceiling=0.02))(
                self._handler(name)
            )

    def _handler(self, name: str) -> Callable[[Delivery[Message]], Awaitable[None]]:
        async def handle(delivery: Delivery[Message]) -> None:
            key, number = delivery.id.split("-")
            self._begin(key, int(number), delivery.id)
            await asyncio.sleep(self._draw.uniform(0, self._pause))
            fate = self._draw.random()
            if fate < 0.1:
                raise Retry(after=self._draw.choice([0, 0.02]))
            if fate < 0.2 and delivery.attempt < 3:
                raise ValueError("try again")
            self.over[key].add((int(number), name))
            if fate < 0.25:
                raise Discard("enough")
            if fate < 0.3 and delivery.attempt == 3:
                raise ValueError("for good")

        return handle

    def _begin(self, key: str, number: int, name: str) -> None:
        """Note that one begins: both handlers must have finished all messages before it."""
        self.begun[key].append(number)
        if (
            number != max(self.begun[key])
            or len({one for one in self.over[key] if one[0] < number}) != 2 * number
        ):
            self.disordered.append(name)


KEYS = [f"k{number}" for number in range(6)]


async def send(stream: Producer, each: int) -> None:
    for number in range(each):
        await stream.append([message(id=f"{key}-{number}", key=key) for key in KEYS])
        await asyncio.sleep(0.002)


def is_through(
    client: redis.Redis, stream: Producer, work: Work, each: int, group: str = "main"
) -> bool:
    prefix = stream.partitions[0].base.partition(":")[0]
    return sum(map(len, work.over.values())) == 2 * each * len(KEYS) and not unfinished(
        client, prefix, PARTITIONS, group, trimmed=False
    )


async def drop_dead(stream: Producer, group: str = "main") -> None:
    letters = await dead_letters(stream, group)
    if letters:
        await DeadLetters(stream.client, group).drop([letter.id for letter in letters])


@pytest.mark.parametrize("seed", [1, 2])
async def test_with_several_handlers_retries_discards_and_stops_a_key_keeps_its_order(
    stream: Producer, start_pool: StartPool, redis_client: redis.Redis, seed: int
) -> None:
    work = Work(seed)
    leaving = await start_pool(work.handlers)
    await start_pool(work.handlers)
    sending = asyncio.create_task(send(stream, 20))
    await eventually(lambda: len(work.over["k0"]) > 8)
    await leaving.stop(0)  # what it holds is requeued
    await start_pool(work.handlers, concurrency=1)
    await sending
    await eventually(lambda: is_through(redis_client, stream, work, 20))
    assert not work.disordered
    await drop_dead(stream)


async def test_two_groups_keep_the_order_each_for_itself(
    stream: Producer, start_pool: StartPool, redis_client: redis.Redis
) -> None:
    fast, slow = Work(3, pause=0), Work(4, pause=0.02)
    for group, work in (("main", fast), ("search", slow)):
        for _ in range(2):
            await start_pool(work.handlers, group=group)
    await send(stream, 8)
    await eventually(lambda: is_through(redis_client, stream, fast, 8))
    await eventually(lambda: is_through(redis_client, stream, slow, 8, "search"))
    assert not fast.disordered + slow.disordered
    await drop_dead(stream)
    await drop_dead(stream, "search")
