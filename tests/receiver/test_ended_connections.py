"""Whatever way a connection ends, its memory is free at once, without Python's garbage collector.

The collector runs rarely. What waits for it may be the heads and bodies of thousands of requests.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import StreamReader, web

from receiver import http as http_module
from receiver.fastpath import FastPath
from tests.receiver.connecting import HEADER, QUESTION, connected, tracked
from tests.receiver.serving import (
    LIMIT,
    Connect,
    Running,
    StartReceiver,
    chunked,
    delivery,
    forged,
    lingering,
    request_bytes,
)
from tests.support import eventually

pytestmark = pytest.mark.one_server

TIMES = 5
FEW = 2

KINDS = (web.RequestHandler, web.BaseRequest, StreamReader, FastPath)
"""What each connection has, or each request."""

UNREAD = request_bytes(b"x" * 99_999, target="/nope", extra=(HEADER[:-2],) * 6)[:-90_000]
EXPECTING = request_bytes(b"x", extra=(b"Expect: 100-continue",))[:-1]

WAYS: dict[str, Callable[[Running], bytes]] = {
    "before the head": lambda _: b"",
    "in the head": lambda _: b"POST /qstash HTTP/1.1\r\n" + HEADER,
    "in a later head": lambda _: QUESTION + b"POST /qstash HTTP/1.1\r\n" + HEADER,
    "in the body": lambda running: delivery(running.sources["qstash"])[:-1],
    "in a body in chunks": lambda _: chunked({}, b"1\r\nx\r\n"),
    "in a size of a chunk": lambda _: chunked({}, b"1\r\nx\r\n1"),
    "in trailers": lambda _: chunked({}, b"1\r\nx\r\n0\r\nX-Checksum: 1\r\n"),
    "in a later body": lambda running: QUESTION + delivery(running.sources["qstash"])[:-1],
    "in the body of an unknown path": lambda _: UNREAD,
    "in chunks of an unknown path": lambda _: chunked({}, b"1\r\nx\r\n", "/nope"),
    "in the body of a probe": lambda _: request_bytes(target="/readyz", method="GET")[:-1],
    "in a body that is too large": lambda _: request_bytes(b"x" * (LIMIT + 1))[:-1],
    "in chunks that are too large": lambda _: chunked({}, b"ffff\r\n" + b"x" * (LIMIT + 1)),
    "before the body": lambda _: EXPECTING,
    "after 417": lambda _: EXPECTING.replace(b"100-continue", b"a miracle"),
    "after a delivery": lambda running: delivery(running.sources["qstash"]),
    "after two deliveries": lambda running: delivery(running.sources["qstash"]) * 2,
    "after many requests": lambda running: (QUESTION + forged(running.sources["qstash"])) * 20,
    "after a delivery in chunks": lambda _: chunked({}, b"1\r\nx\r\n0\r\n\r\n"),
    "after a forged delivery": lambda running: forged(running.sources["qstash"]),
    "after HTTP/1.0": lambda running: delivery(running.sources["qstash"], version="1.0"),
    "after a probe": lambda _: QUESTION,
    "after a probe that asks Redis": lambda _: QUESTION.replace(b"healthz", b"readyz"),
    "after another method": lambda _: QUESTION.replace(b"GET", b"DELETE"),
    "after the question of a handshake": lambda _: QUESTION.replace(b"/healthz", b"/qstash?a=1"),
    "after an upgrade": lambda _: request_bytes(extra=(b"Connection: upgrade", b"Upgrade: a")),
    "after CONNECT": lambda _: b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n" + b"x" * 9000,
    "after a malformed head": lambda _: b"POST / HTTP/1.1\r\nbad header\r\n\r\n",
    "after no HTTP": lambda _: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "after a head that is too large": lambda _: b"POST / HTTP/1.1\r\n" + HEADER * 9,
    "after a malformed later head": lambda _: QUESTION + b"POST / HTTP/1.1\r\nbad header\r\n\r\n",
    "after a malformed chunk": lambda _: chunked({}, b"zz\r\n"),
    "after a malformed later chunk": lambda _: chunked({}, b"1\r\nx\r\nzz\r\n"),
    "after a malformed chunk of an unknown path": lambda _: chunked({}, b"1\r\nx\r\nzz\r\n", "/no"),
    "after trailers that are too large": lambda _: chunked({}, b"1\r\nx\r\n0\r\n" + HEADER * 4),
    "after two lengths": lambda _: request_bytes(extra=(b"Transfer-Encoding: chunked",)),
}


@pytest.mark.parametrize("how", ["close", "reset", "more after the answer"])
async def test_an_ended_connection_is_freed_at_once(
    start: StartReceiver, connect: Connect, how: str
) -> None:
    running = await start(read_timeout=0.2)

    async def end_one(sent: bytes) -> None:
        wire = await connected(running, connect, 1)
        wire.writer.write(sent)
        if how == "more after the answer":
            with suppress(TimeoutError, ConnectionError):  # there may be none
                await asyncio.wait_for(wire.reader.read(1), 0.1)
            wire.writer.write(b"zz\r\n")  # for a body in chunks, this is malformed
        wire.hang_up("reset" if how == "reset" else "close")
        await eventually(lambda: not len(tracked(running)))
        await eventually(lambda: running.receiver._http.in_flight == 0 and not lingering())

    await end_one(QUESTION)
    gc.collect()
    gc.disable()  # it would free also what holds itself
    held: dict[str, list[str]] = {}
    try:
        for way, make in WAYS.items():
            before, sent = _kept(), make(running)
            for _ in range(TIMES):
                await end_one(sent)
            kept = _kept()
            if grown := [kind.__name__ for kind in KINDS if kept[kind] > before[kind] + FEW]:
                held[way] = grown
    finally:
        gc.enable()
    assert held == {}


def _kept() -> dict[Any, int]:
    found: dict[Any, int] = dict.fromkeys(KINDS, 0)
    for one in gc.get_objects():
        if type(one) in found:
            found[type(one)] += 1
    return found


async def test_a_body_that_nobody_reads_is_freed_when_its_sender_hangs_up(
    start: StartReceiver, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_module, "_LINGER", 60.0)
    running = await start()
    wire = await connected(running, connect, 1)
    await wire.send(UNREAD)
    assert (await wire.answer()).status == 404
    wire.hang_up("close")
    await eventually(lambda: not lingering())
