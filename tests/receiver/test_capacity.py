"""Requests above the capacity are refused before they are read and do not block other senders."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
import redis

from receiver.capacity import PROTECTED, Capacity, HeldBytes
from tests.receiver.serving import (
    HELLO,
    LIMIT,
    Connect,
    Running,
    StartReceiver,
    Wire,
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


class Clock:
    """The clock of a receiver's capacity, which the test sets."""

    def __init__(self, running: Running) -> None:
        self.now = 0.0
        running.receiver._pipeline.capacity._clock = lambda: self.now


async def test_more_messages_than_may_wait_are_503_before_their_bodies_are_read(
    start: StartReceiver, connect: Connect, http: aiohttp.ClientSession, redis_client: redis.Redis
) -> None:
    running = await start(queue_messages=3, append_timeout=10)
    with paused(redis_client):
        waiting = [asyncio.create_task(deliver(running, http)) for _ in range(3)]
        await eventually(lambda: running.receiver._appender.waiting == 3)
        wire = await connect(running)
        request = delivery(running.sources["qstash"])
        await wire.send(request[: -len(HELLO)])  # only its head
        answer = await wire.answer()
        assert (answer.status, answer.headers["Retry-After"], answer.body) == (503, "5", BUSY_BODY)
    assert [(await one)[0] for one in waiting] == [200] * 3
    assert (await deliver(running, http))[0] == 200
    assert (
        running.receiver._appender.waiting,
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
    Clock(running)  # it stands still
    wire = await connect(running)
    await wire.send(delivery(running.sources["qstash"], b"x" * LIMIT)[:-1])
    await eventually(lambda: running.receiver._pipeline.capacity.bytes == LIMIT - 1)
    assert (await deliver(running, http))[0] == 503
    wire.hang_up("reset")
    await eventually(lambda: running.receiver._pipeline.capacity.bytes == 0)
    assert (await deliver(running, http))[0] == 200


PART = 512 * 1024
"""Half of the largest body, where bodies are large."""

SLOW = PART * 2 - 1000
"""What a slow sender sends of such a body."""


async def half_sent(running: Running, connect: Connect, source: str, size: int, sent: int) -> Wire:
    """Send a part of a body, and wait until the receiver holds it."""
    capacity = running.receiver._pipeline.capacity
    before = capacity.bytes
    wire = await connect(running)
    request = delivery(running.sources[source], bytes(size))
    await wire.send(request[: sent - size])
    await eventually(lambda: capacity.bytes == before + sent)
    return wire


async def test_slow_bodies_for_one_source_leave_half_of_the_bytes_to_the_others(
    start: StartReceiver, connect: Connect, http: aiohttp.ClientSession
) -> None:
    running = await start(body_limit=2 * PART, queue_bytes=8 * PART)
    for _ in range(2):
        await half_sent(running, connect, "marble", 2 * PART, SLOW)
    refused = await connect(running)
    await refused.send(delivery(running.sources["marble"], bytes(2 * PART))[: -2 * PART])
    assert (await refused.answer()).body == BUSY_BODY
    statuses = await asyncio.gather(
        deliver(running, http, bytes(2 * PART)), *(deliver(running, http) for _ in range(20))
    )
    assert [status for status, *_ in statuses] == [200] * 21


async def test_a_body_that_is_on_its_way_for_a_second_is_given_up_for_another(
    start: StartReceiver, connect: Connect, http: aiohttp.ClientSession
) -> None:
    running = await start(body_limit=2 * PART, queue_bytes=8 * PART)
    clock = Clock(running)
    slow = [await half_sent(running, connect, "qstash", 2 * PART, SLOW) for _ in range(2)]
    assert (await deliver(running, http, bytes(2 * PART)))[0] == 503
    clock.now += PROTECTED
    assert (await deliver(running, http, bytes(2 * PART)))[0] == 200
    assert (await slow[0].answer()).body == BUSY_BODY
    await slow[1].send(bytes(2 * PART - SLOW))
    assert (await slow[1].answer()).status == 200
    assert running.receiver._pipeline.capacity.bytes == 0


async def test_a_body_that_has_arrived_at_once_takes_the_place_of_a_slow_one(
    start: StartReceiver, connect: Connect, http: aiohttp.ClientSession
) -> None:
    running = await start(queue_bytes=LIMIT)
    clock = Clock(running)
    slow = await half_sent(running, connect, "qstash", LIMIT, LIMIT - 1)
    clock.now += PROTECTED
    assert (await deliver(running, http))[0] == 200
    assert (await slow.answer()).body == BUSY_BODY


# --- as values ---


def test_bytes_are_held_up_to_the_limit_and_released_at_the_end_of_the_block() -> None:
    capacity = Capacity(max_bytes=100)
    with HeldBytes(capacity, "a") as one, HeldBytes(capacity, "b") as other:
        assert one.grow(60)
        assert not other.grow(41)
        assert other.grow(40)
        assert (one.count, other.count, capacity.bytes) == (60, 40, 100)
        assert not capacity.make_room(1)
    assert capacity.bytes == 0


def test_released_bytes_are_not_released_again() -> None:
    capacity = Capacity(max_bytes=100)
    with HeldBytes(capacity, "a") as held:
        held.grow(60)
        held.release()
        assert capacity.bytes == 0
    assert capacity.bytes == 0
