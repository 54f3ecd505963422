"""Requests above the capacity are refused before they are read and do not block other senders."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
import redis

from receiver.capacity import Capacity, HeldBytes
from tests.receiver.serving import (
    HELLO,
    LIMIT,
    Connect,
    StartReceiver,
    chunked,
    deliver,
    delivery,
    paused,
)
from tests.support import (
    eventually,
    signed_headers,
)

BUSY_BODY = b'{"error":"busy","detail":"the receiver is at its limit; send it again later"}'

pytestmark = pytest.mark.usefixtures("lines")


async def test_more_messages_than_may_wait_are_503_before_their_bodies_are_read(
    start: StartReceiver, connect: Connect, http: aiohttp.ClientSession, redis_client: redis.Redis
) -> None:
    running = await start(queue_messages=3, append_timeout=10)
    with paused(redis_client):
        waiting = [asyncio.create_task(deliver(running, http)) for _ in range(3)]
        await eventually(lambda: running.receiver._pipeline.capacity.messages == 3)
        wire = await connect(running)
        request = delivery(running.sources["qstash"])
        await wire.send(request[: -len(HELLO)])  # only its head
        answer = await wire.answer()
        assert (answer.status, answer.headers["Retry-After"], answer.body) == (503, "5", BUSY_BODY)
    assert [(await one)[0] for one in waiting] == [200] * 3
    assert (await deliver(running, http))[0] == 200
    assert (
        running.receiver._pipeline.capacity.messages,
        running.receiver._pipeline.capacity.bytes,
    ) == (
        0,
        0,
    )


async def test_bodies_that_arrive_together_do_not_exceed_the_limit_of_messages(
    start: StartReceiver, connect: Connect, redis_client: redis.Redis
) -> None:
    running = await start(queue_messages=2, append_timeout=10)
    wires = [await connect(running) for _ in range(5)]
    requests = [delivery(running.sources["qstash"], b"%d" % number) for number in range(5)]
    for wire, request in zip(wires, requests, strict=True):
        await wire.send(request[:-1])
    await eventually(lambda: running.receiver._http.in_flight == 5)
    with paused(redis_client):
        for wire, request in zip(wires, requests, strict=True):
            await wire.send(request[-1:])
        await eventually(lambda: running.receiver._http.in_flight == 2)
    statuses = [(await wire.answer()).status for wire in wires]
    assert sorted(statuses) == [200, 200, 503, 503, 503]


async def test_more_bytes_than_may_be_held_are_503_before_they_are_read(
    start: StartReceiver, connect: Connect, http: aiohttp.ClientSession, redis_client: redis.Redis
) -> None:
    running = await start(queue_bytes=LIMIT + 1000, append_timeout=10)
    source = running.sources["qstash"]
    with paused(redis_client):
        large = asyncio.create_task(deliver(running, http, b"x" * LIMIT))
        await eventually(lambda: running.receiver._pipeline.capacity.bytes == LIMIT)
        wire = await connect(running)
        await wire.send(delivery(source, b"y" * 1001)[:-1001])
        answer = await wire.answer()
        assert (answer.status, answer.headers["Retry-After"], answer.body) == (503, "5", BUSY_BODY)
        wire = await connect(running)
        await wire.send(delivery(source, b"y" * 1001)[:-1001])
        assert (await wire.answer()).status == 503
        small = asyncio.create_task(deliver(running, http, b"z" * 1000))
        await eventually(lambda: running.receiver._pipeline.capacity.bytes == LIMIT + 1000)
    assert [(await one)[0] for one in (large, small)] == [200, 200]
    assert running.receiver._pipeline.capacity.bytes == 0


async def test_a_chunked_body_is_503_as_soon_as_there_is_no_room_for_it(
    start: StartReceiver, connect: Connect, http: aiohttp.ClientSession, redis_client: redis.Redis
) -> None:
    running = await start(queue_bytes=LIMIT + 1000, append_timeout=10)
    headers = signed_headers(running.sources["marble"].scheme, b"x" * 2000, "/marble")
    with paused(redis_client):
        large = asyncio.create_task(deliver(running, http, b"x" * LIMIT))
        await eventually(lambda: running.receiver._pipeline.capacity.bytes == LIMIT)
        wire = await connect(running)
        await wire.send(chunked(headers, b"3e8\r\n" + b"x" * 1000 + b"\r\n"))
        await eventually(lambda: running.receiver._pipeline.capacity.bytes == LIMIT + 1000)
        await wire.send(b"1\r\nx\r\n")
        assert (await wire.answer()).status == 503
        assert running.receiver._pipeline.capacity.bytes == LIMIT
    assert (await large)[0] == 200


async def test_senders_that_announce_much_and_send_nothing_do_not_block_others(
    start: StartReceiver, connect: Connect, http: aiohttp.ClientSession
) -> None:
    running = await start(queue_bytes=LIMIT)
    for _ in range(20):
        wire = await connect(running)
        await wire.send(delivery(running.sources["qstash"], b"x" * LIMIT)[:-LIMIT])
    await eventually(lambda: running.receiver._http.in_flight == 20)
    assert (await deliver(running, http, b"x" * LIMIT))[0] == 200


async def test_the_bytes_of_a_sender_that_hung_up_are_released(
    start: StartReceiver, connect: Connect, http: aiohttp.ClientSession
) -> None:
    running = await start(queue_bytes=LIMIT)
    wire = await connect(running)
    await wire.send(delivery(running.sources["qstash"], b"x" * LIMIT)[:-1])
    await eventually(lambda: running.receiver._pipeline.capacity.bytes == LIMIT - 1)
    assert (await deliver(running, http))[0] == 503
    wire.hang_up("reset")
    await eventually(lambda: running.receiver._pipeline.capacity.bytes == 0)
    assert (await deliver(running, http))[0] == 200


# --- as values ---


def test_bytes_are_held_up_to_the_limit_and_released_at_the_end_of_the_block() -> None:
    capacity = Capacity(max_messages=1, max_bytes=100)
    with HeldBytes(capacity) as one, HeldBytes(capacity) as other:
        assert one.grow(60)
        assert not other.grow(41)
        assert other.grow(40)
        assert (one.count, other.count, capacity.bytes) == (60, 40, 100)
        assert not capacity.has_room_for(1)
    assert capacity.bytes == 0


def test_released_bytes_are_not_released_again() -> None:
    capacity = Capacity(max_messages=1, max_bytes=100)
    with HeldBytes(capacity) as held:
        held.grow(60)
        held.release()
        assert capacity.bytes == 0
    assert capacity.bytes == 0


def test_it_is_full_of_messages_at_its_limit() -> None:
    capacity = Capacity(max_messages=2, max_bytes=100)
    capacity.messages = 1
    assert not capacity.is_full_of_messages
    capacity.messages = 2
    assert capacity.is_full_of_messages
