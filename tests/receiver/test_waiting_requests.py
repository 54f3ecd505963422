"""How little requests hold besides bodies while they wait for their answers."""

from __future__ import annotations

import signal
from collections.abc import Callable

import aiohttp
import pytest

from receiver import connections as connections_module
from tests.receiver.connecting import HEADER, QUESTION, closed, connected, is_open, tracked
from tests.receiver.serving import (
    UNSTORED,
    Connect,
    OwnServer,
    Running,
    StartAt,
    deliver,
    delivery,
    request_bytes,
    settings_for,
)
from tests.support import eventually

LARGE = (HEADER[:-2],) * 7
READY = request_bytes(b"", target="/readyz", method="GET")

WAITING: dict[str, Callable[[Running], bytes]] = {
    "a probe with a large head": lambda _: request_bytes(
        b"", target="/readyz", method="GET", extra=LARGE
    ),
    "small probes": lambda _: READY * 30 + request_bytes(extra=LARGE),
    "half a head behind a probe": lambda _: READY + b"POST / HTTP/1.1\r\n" + HEADER * 7,
    "a delivery with a large head": lambda running: delivery(
        running.sources["qstash"], extra=LARGE
    ),
    "a large head behind a delivery": lambda running: (
        delivery(running.sources["qstash"]) + request_bytes(extra=LARGE)
    ),
    "half a head behind a delivery": lambda running: (
        delivery(running.sources["qstash"]) + b"POST / HTTP/1.1\r\n" + HEADER * 7
    ),
}


@pytest.mark.parametrize("is_at_once", [True, False])
@pytest.mark.parametrize("waiting", WAITING)
async def test_requests_that_wait_hold_few_bytes_besides_bodies(
    own_server: OwnServer,
    start_at: StartAt,
    connect: Connect,
    http: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    waiting: str,
    *,
    is_at_once: bool,
) -> None:
    monkeypatch.setattr(connections_module, "MOST_HEAD_BYTES", 130_000)
    server = own_server()
    running = await start_at(settings_for(server, append_timeout=3))
    assert await deliver(running, http) == (200, None, b"")  # a connection is open
    server.signal(signal.SIGSTOP)
    sent = WAITING[waiting](running)
    wires = []
    for number in (2, 3, 4):
        wires.append(await connected(running, connect, number))
        if is_at_once:
            await wires[-1].send(sent)
        else:
            await wires[-1].send(sent[:-50_000])
            await eventually(lambda: tracked(running)._head_bytes + tracked(running)._waiting_bytes)
            await wires[-1].send(sent[-50_000:])
        if number < 4:
            expected = (number - 1) * 50_000
            await eventually(lambda: tracked(running)._waiting_bytes > expected)  # noqa: B023
    await eventually(lambda: closed(running))
    assert closed(running) == {"no_room_answer": 1}
    assert not await is_open(wires[2])
    assert await deliver(running, http, b"a small one") == UNSTORED
    server.signal(signal.SIGCONT)
    for wire in wires[:2]:
        assert (await wire.answer()).status in {200, 503}
        wire.hang_up("close")
    await eventually(lambda: len(tracked(running)) == 1)
    await eventually(lambda: tracked(running)._waiting_bytes == 0)
    assert tracked(running)._waiting == {}
    assert await deliver(running, http, b"another") == (200, None, b"")


async def test_what_waited_is_not_counted_once_it_is_answered(
    own_server: OwnServer, start_at: StartAt, connect: Connect
) -> None:
    running = await start_at(settings_for(own_server()))
    wire = await connected(running, connect, 1)
    for waiting, make in WAITING.items():
        if waiting.startswith("half"):
            continue
        await wire.send(make(running) + QUESTION)
        while (await wire.answer()).body != b"ok\n":
            pass
        assert tracked(running)._waiting == {}
        assert tracked(running)._waiting_bytes == 0
