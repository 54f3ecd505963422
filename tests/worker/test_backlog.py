"""What a worker says of the bytes that it finishes, whatever becomes of its messages."""

from __future__ import annotations

import asyncio

import redis

from hookmill import Delivery, Handlers, Retry
from hookmill.message import Message
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.backlogs import walked
from tests.support import eventually, message
from tests.worker.pools import MakePool, is_drained, scripted


async def test_the_backlog_is_exact_while_a_worker_finishes_retries_and_gives_up(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    handlers, keys = Handlers(), stream.partitions[0].of_group("main")
    go_on, begun = asyncio.Event(), asyncio.Event()
    waited: set[str] = set()
    upkeep = Upkeep(stream.client, "main")

    @handlers.on("both", name="first")
    async def first(delivery: Delivery[Message]) -> None:
        if delivery.id not in waited:
            waited.add(delivery.id)
            raise Retry(after=0.01)

    @handlers.on("*", name="second", attempts=1)
    async def second(delivery: Delivery[Message]) -> None:
        if delivery.event.type == "slow":
            begun.set()
            await go_on.wait()
        if delivery.event.type == "bad":
            raise RuntimeError("x" * 500)

    consumer = scripted(stream)
    pool = await make_pool(handlers, consumer=consumer)
    await pool.opened.wait()
    await upkeep.measure_backlog()
    sizes = (2, 300, 40_000)
    sent = [
        message(b"x" * size, type=kind, id=f"{kind}{size}{key}", key=key)
        for size in sizes
        for kind in ("both", "plain", "bad", "slow")
        for key in ("", "7")
    ]
    await stream.append(sent)
    await begun.wait()

    async def is_exact() -> bool:
        measured, again = await upkeep._measure()
        return measured.messages > 0 and (measured, again) == (walked(redis_client, keys), [])

    await eventually(is_exact)  # not at once, because the others still run
    go_on.set()

    async def is_over() -> bool:
        await consumer.release(100)
        return is_drained(redis_client, stream) and not redis_client.zcard(keys.delayed)

    await eventually(is_over)
    await pool.stop(5)
    assert await upkeep._measure() == ((0, 0), [])
    redis_client.delete(keys.dead)
