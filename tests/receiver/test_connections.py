"""Which connections are closed, when, and which never."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
import redis

from receiver import connections as connections_module
from tests.receiver.connecting import (
    HEADER,
    QUESTION,
    answered,
    begun,
    closed,
    connected,
    is_open,
    tracked,
)
from tests.receiver.serving import (
    HELLO,
    Connect,
    StartReceiver,
    chunked,
    delivery,
    paused,
    request_bytes,
)
from tests.support import eventually

pytestmark = pytest.mark.one_server

HALF_HEAD = b"POST /qsta"


async def test_a_new_connection_replaces_an_idle_one_then_a_half_head_then_a_half_body(
    start: StartReceiver, connect: Connect
) -> None:
    running = await start(connections=5)
    body = await connected(running, connect, 1)
    await begun(running, body, delivery(running.sources["qstash"])[:-1])
    heads = [await connected(running, connect, 2), await connected(running, connect, 3)]
    await heads[0].send(HALF_HEAD)
    idle = [await answered(running, connect, 4), await answered(running, connect, 5)]
    await idle[0].send(QUESTION)  # so the other one is idle for longer
    assert (await idle[0].answer()).status == 200
    order = [idle[1], idle[0], heads[0], heads[1], body]
    for number, first in enumerate(order):
        newcomer = await connect(running)
        # A half of a body makes it the last to go.
        await newcomer.send(delivery(running.sources["qstash"], b"new")[:-1])
        await eventually(lambda: sum(closed(running).values()) == number + 1)  # noqa: B023 - at once
        await eventually(lambda: len(tracked(running)._bodies) == min(number + 2, 5))  # noqa: B023
        assert not await is_open(first)
        for other in order[number + 1 :]:
            assert await is_open(other)
    assert closed(running) == {"no_room_idle": 2, "no_room_head": 2, "no_room_body": 1}


async def test_a_request_that_has_arrived_is_never_cut_off(
    start: StartReceiver, connect: Connect, redis_client: redis.Redis
) -> None:
    running = await start(connections=2, append_timeout=10)
    whole, in_parts = await connected(running, connect, 1), await connected(running, connect, 2)
    # It was answered once, so until it sends again it is an idle one, which may be closed.
    await whole.send(delivery(running.sources["qstash"], b"before"))
    assert (await whole.answer()).status == 200
    with paused(redis_client):
        await begun(running, whole, delivery(running.sources["qstash"], b"whole"))
        request = delivery(running.sources["qstash"], b"in parts")
        await begun(running, in_parts, request[:-1])
        await in_parts.send(request[-1:])
        await eventually(lambda: running.receiver._appender.waiting == 2)
        assert await (await connect(running)).rest() == b""
    assert [(await wire.answer()).status for wire in (whole, in_parts)] == [200, 200]
    assert closed(running) == {"no_room": 1}


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads are overdue after half a second, and reported at once."""
    monkeypatch.setattr(connections_module, "HEAD_TIMEOUT", 0.5)
    monkeypatch.setattr(connections_module, "PERIOD", 0.1)
    monkeypatch.setattr(connections_module, "REPORT_PERIOD", 0.0)


@pytest.mark.parametrize("before", [b"", QUESTION, request_bytes(b"forged")])
@pytest.mark.usefixtures("soon")
async def test_a_slow_head_gets_408_and_is_logged(
    start: StartReceiver, connect: Connect, before: bytes, lines: list[dict[str, Any]]
) -> None:
    running = await start()
    wire = await connect(running)
    if before:
        await wire.send(before)
        await wire.answer()
    await wire.send(HALF_HEAD)
    answer = await wire.answer()
    assert (answer.status, answer.headers["Connection"]) == (408, "close")
    assert await wire.rest() == b""
    assert closed(running) == {"slow_head": 1}
    await eventually(lambda: any(line["event"] == "connections closed" for line in lines))
    (line,) = [line for line in lines if line["event"] == "connections closed"]
    assert (line["slow_head"], line["open"]) == (1, 0)


@pytest.mark.parametrize("before", [b"", QUESTION, request_bytes(b"forged")])
@pytest.mark.usefixtures("soon")
async def test_a_head_that_drips_is_closed_however_often_a_byte_comes(
    start: StartReceiver, connect: Connect, before: bytes
) -> None:
    running = await start()
    wire = await connect(running)
    if before:
        await wire.send(before)
        await wire.answer()
    await wire.send(HALF_HEAD)
    while not closed(running):
        with suppress(ConnectionError):
            await wire.send(b"x")
        await asyncio.sleep(0.05)
    assert closed(running) == {"slow_head": 1}
    assert not await is_open(wire)


@pytest.mark.usefixtures("soon")
async def test_a_connection_that_sends_nothing_is_closed_without_an_answer(
    start: StartReceiver, connect: Connect
) -> None:
    running = await start()
    assert await (await connect(running)).rest() == b""
    assert closed(running) == {"slow_head": 1}


@pytest.mark.usefixtures("soon")
async def test_neither_an_idle_connection_nor_a_slow_body_counts_as_a_slow_head(
    start: StartReceiver, connect: Connect
) -> None:
    running = await start()
    idle, slow = await answered(running, connect, 1), await connect(running)
    request = delivery(running.sources["qstash"])
    await begun(running, slow, request[:-5])
    await asyncio.sleep(1.0)
    for wire, rest in ((idle, QUESTION), (slow, request[-5:])):
        await wire.send(rest)
        assert (await wire.answer()).status == 200
    assert closed(running) == {}


@pytest.mark.usefixtures("soon")
async def test_half_a_head_behind_a_request_has_a_deadline_too(
    start: StartReceiver, connect: Connect, redis_client: redis.Redis
) -> None:
    running = await start(append_timeout=10)
    source = running.sources["qstash"]
    requests = {"fast path": [delivery(source)], "aiohttp": [QUESTION, delivery(source)]}
    for parts in requests.values():
        wire = await connect(running)
        with paused(redis_client):
            await wire.send(b"".join(parts))
            await eventually(lambda: running.receiver._http.in_flight)
            await wire.send(HALF_HEAD)
        for _ in parts:
            assert (await wire.answer()).status == 200
        assert (await wire.answer()).status == 408
        assert await wire.rest() == b""


REQUESTS = {
    "whole": (request_bytes(extra=(HEADER[:-2],) * 9),),
    "in parts": (b"POST /qstash HTTP/1.1\r\nHost: a\r\n", *(HEADER,) * 9),
    "behind a request": (QUESTION + b"GET / HTTP/1.1\r\nHost: a\r\n" + HEADER * 5, *(HEADER,) * 4),
    "behind a body": (
        request_bytes(b"forged")[:-1],
        request_bytes(b"forged")[-1:] + b"GET / HTTP/1.1\r\nHost: a\r\n" + HEADER * 5,
        *(HEADER,) * 4,
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_head_of_more_than_64_kib_gets_400(
    start: StartReceiver, connect: Connect, name: str
) -> None:
    running = await start()
    wire = await connect(running)
    for part in REQUESTS[name]:
        await wire.send(part)
        await asyncio.sleep(0.02)  # so that it arrives by itself
    statuses = [(await wire.answer()).status]
    if "behind" in name:
        statuses.append((await wire.answer()).status)
    assert statuses[-1] == 400
    assert await wire.rest() == b""


async def test_a_head_of_60_kib_is_accepted_whole_and_in_parts(
    start: StartReceiver, connect: Connect
) -> None:
    running = await start()
    request = delivery(running.sources["qstash"], extra=(HEADER[:-2],) * 7)
    for step in (len(request), 9000):
        wire = await connect(running)
        for begin in range(0, len(request), step):
            await wire.send(request[begin : begin + step])
            await asyncio.sleep(0.02)
        assert (await wire.answer()).status == 200


@pytest.mark.parametrize("first", ["the head", "the head and a part", "a part of the head"])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_what_arrives_of_a_body_is_no_head(
    start: StartReceiver, connect: Connect, first: str, *, is_chunked: bool
) -> None:
    running = await start(body_limit=1_000_000)
    body = bytes(500_000)
    request = delivery(running.sources["qstash"], body)
    if is_chunked:
        head = request[: -len(body)].replace(
            b"Content-Length: 500000", b"Transfer-Encoding: chunked"
        )
        request = head + b"7a120\r\n" + body + b"\r\n0\r\n\r\n"
    size = request.index(b"\r\n\r\n") + 4
    cut = {"the head": size, "the head and a part": size + 1000, "a part of the head": 20}[first]
    wire = await connect(running)
    for _ in range(3):
        for part in (request[:cut], request[cut:200_000], request[200_000:]):
            await wire.send(part)
            await asyncio.sleep(0.02)  # so that it arrives by itself
        assert (await wire.answer()).status == 200


async def test_unfinished_heads_hold_few_bytes_together(
    start: StartReceiver, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_module, "MOST_HEAD_BYTES", 100_000)
    running = await start()
    silent = await connected(running, connect, 1)
    wires = [await connected(running, connect, number) for number in (2, 3, 4)]
    await wires[0].send(b"POST / HTTP/1.1\r\n" + HEADER * 4)
    await eventually(lambda: tracked(running)._head_bytes > 30_000)
    await wires[1].send(b"POST / HTTP/1.1\r\n" + HEADER * 4)
    await eventually(lambda: tracked(running)._head_bytes > 60_000)
    await wires[2].send(QUESTION + b"POST / HTTP/1.1\r\n" + HEADER * 5)
    assert (await wires[2].answer()).status == 200
    assert not await is_open(wires[0])
    assert await is_open(wires[1])
    assert await is_open(wires[2])
    assert await is_open(silent)
    assert closed(running) == {"no_room_head": 1}
    assert tracked(running)._head_bytes < 100_000


async def test_chunks_are_no_heads(start: StartReceiver, connect: Connect) -> None:
    running = await start(body_limit=100_000)
    wire = await connect(running)
    for _ in range(3):
        await wire.send(chunked({}, b"1\r\nx\r\n" * 20_000))
        await wire.send(b"0\r\n\r\n")
        assert (await wire.answer()).status == 401
    await wire.send(QUESTION)
    assert (await wire.answer()).status == 200


@pytest.mark.parametrize("request_", [QUESTION, request_bytes(b"forged")])
async def test_a_sender_that_does_not_read_its_answers_is_closed(
    start: StartReceiver, connect: Connect, request_: bytes
) -> None:
    running = await start()
    wire = await connect(running)
    wire.reader._transport.pause_reading()  # type: ignore[attr-defined] # the test's own end
    sending = asyncio.create_task(wire.send(request_ * 200_000))
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(sending, 60)
    await eventually(lambda: not len(tracked(running)))
    assert closed(running) == {"unread": 1}


async def test_what_is_closed_is_forgotten(start: StartReceiver, connect: Connect) -> None:
    running = await start()
    for sent in (b"", HALF_HEAD, QUESTION, delivery(running.sources["qstash"])[:-1], HELLO):
        wire = await connected(running, connect, 1)
        await wire.send(sent)
        await asyncio.sleep(0.05)
        wire.hang_up("reset")
        await eventually(lambda: not len(tracked(running)))
    known = tracked(running)
    held = (known._heads, known._bodies, known._large_heads, known.idle, known._behind)
    assert not any(held)
    assert known._head_bytes == 0
