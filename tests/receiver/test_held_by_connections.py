"""How little a connection holds besides bodies, and for how long."""

from __future__ import annotations

import gc

import pytest
from aiohttp import web

from receiver import connections as connections_module
from tests.receiver.connecting import HEADER, begun, closed, connected, is_open, tracked
from tests.receiver.serving import (
    Connect,
    StartReceiver,
    chunked,
    delivery,
    lingering,
    request_bytes,
)
from tests.support import eventually

pytestmark = pytest.mark.one_server


@pytest.mark.parametrize("cut", [0, 3, 6, 9, 11])
async def test_a_connection_is_idle_after_a_body_in_chunks(
    start: StartReceiver, connect: Connect, cut: int
) -> None:
    running = await start()
    wire = await connected(running, connect, 1)
    request = chunked({}, b"5\r\nhello\r\n0\r\n\r\n")
    body = request.index(b"\r\n\r\n") + 4
    await begun(running, wire, request[: body + cut])
    await wire.send(request[body + cut :])
    assert (await wire.answer()).status == 401
    await eventually(lambda: tracked(running).idle)
    assert not tracked(running)._heads


@pytest.mark.parametrize("is_at_once", [True, False])
async def test_trailers_hold_few_bytes(
    start: StartReceiver, connect: Connect, *, is_at_once: bool
) -> None:
    running = await start()
    wire = await connected(running, connect, 1)
    trailers = HEADER * 4
    request = chunked({}, b"1\r\nx\r\n0\r\n")
    if is_at_once:
        await wire.send(request + trailers)
    else:
        await begun(running, wire, request)
        await wire.send(trailers)
    assert not await is_open(wire)
    assert closed(running) == {"long_trailers": 1}


async def test_a_body_in_chunks_may_be_followed_by_trailers(
    start: StartReceiver, connect: Connect
) -> None:
    running = await start()
    wire = await connected(running, connect, 1)
    await begun(running, wire, chunked({}, b"1\r\nx\r\n0\r\n"))
    await wire.send(b"X-Checksum: " + b"x" * 3000 + b"\r\n\r\n")
    assert (await wire.answer()).status == 401


async def test_large_heads_hold_few_bytes_while_their_bodies_are_awaited(
    start: StartReceiver, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_module, "MOST_HEAD_BYTES", 100_000)
    running = await start()
    small = await connected(running, connect, 1)
    await begun(running, small, delivery(running.sources["qstash"])[:-1])
    large = [await connected(running, connect, number) for number in (2, 3, 4)]
    for wire in large[:2]:
        await begun(running, wire, request_bytes(extra=(HEADER[:-2],) * 5)[:-1])
    await large[2].send(request_bytes(extra=(HEADER[:-2],) * 5)[:-1])
    assert not await is_open(large[0])
    for wire in (small, *large[1:]):
        assert await is_open(wire)
    assert closed(running) == {"no_room_body": 1}
    for wire in large[1:]:
        await wire.send(b"}")
        assert (await wire.answer()).status == 401
    assert tracked(running)._large_head_bytes == 0


async def test_large_reads_hold_few_bytes_until_requests_take_them_over(
    start: StartReceiver, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(body_limit=1_000_000)
    source = running.sources["qstash"]
    for number in range(1, 4):  # each is taken over before the next one
        wire = await connected(running, connect, number)
        await wire.send(delivery(source, b"x" * 500_000))
        assert (await wire.answer()).status == 200
    assert tracked(running)._read_bytes == 0
    monkeypatch.setattr(connections_module, "MOST_READ_BYTES", 60_000)
    small, large = [await connected(running, connect, number) for number in (4, 5)]
    await large.send(delivery(source, b"x" * 500_000))
    assert not await is_open(large)
    assert closed(running) == {"no_room_read": 1}
    await small.send(delivery(source))
    assert (await small.answer()).status == 200
    await eventually(lambda: tracked(running)._read_bytes == 0)


async def test_small_chunks_hold_few_bytes_until_requests_take_them_over(
    start: StartReceiver, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start()
    head = b"POST /qstash HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    for number in range(1, 4):  # each is taken over before the next one
        wire = await connected(running, connect, number)
        await wire.send(head + b"1\r\nx\r\n" * 4000)
        await eventually(lambda: tracked(running)._read_bytes == 0)
        await wire.send(b"0\r\n\r\n")
        assert (await wire.answer()).status == 401
    monkeypatch.setattr(connections_module, "MOST_READ_BYTES", 60_000)
    few, many = [await connected(running, connect, number) for number in (4, 5)]
    await many.send(head + b"1\r\nx\r\n" * 4000)
    assert not await is_open(many)
    assert closed(running) == {"no_room_read": 1}
    await few.send(head + b"1\r\nx\r\n" * 100 + b"0\r\n\r\n")
    assert (await few.answer()).status == 401


async def test_a_body_that_breaks_off_is_freed_at_once(
    start: StartReceiver, connect: Connect
) -> None:
    running = await start()
    gc.collect()
    gc.disable()  # it would free also what holds itself
    try:
        for _ in range(10):
            wire = await connected(running, connect, 1)
            await begun(running, wire, delivery(running.sources["qstash"])[:-1])
            wire.hang_up("reset")
            await eventually(lambda: not len(tracked(running)))
        await eventually(lambda: running.receiver._http.in_flight == 0 and not lingering())
        kept = [one for one in gc.get_objects() if type(one) is web.BaseRequest]
        assert len(kept) < 5
    finally:
        gc.enable()


async def test_a_malformed_request_is_freed_at_once(start: StartReceiver, connect: Connect) -> None:
    running = await start()
    gc.collect()
    gc.disable()
    try:
        for malformed in (b"POST / HTTP/1.1\r\nbad header\r\n\r\n", b"POST / HTTP/1.1\r\n") * 5:
            wire = await connected(running, connect, 1)
            await wire.send(
                malformed if malformed.endswith(b"\r\n\r\n") else malformed + HEADER * 9
            )
            assert (await wire.answer()).status == 400
            await wire.rest()
            wire.hang_up("close")
            await eventually(lambda: not len(tracked(running)))
        await eventually(lambda: not lingering())
        kept = [one for one in gc.get_objects() if type(one) is web.RequestHandler]
        assert len(kept) < 5
    finally:
        gc.enable()
