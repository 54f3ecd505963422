"""Clients that hang up, send malformed or odd requests: short answers, short logs, no harm."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
import redis

from tests.receiver.serving import (
    HELLO,
    Connect,
    StartReceiver,
    Stored,
    chunked,
    connections,
    delivery,
    paused,
    request_bytes,
    tracebacks,
)
from tests.support import (
    eventually,
    signed_headers,
)

pytestmark = pytest.mark.usefixtures("lines")


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("chunks", [False, True], ids=["length", "chunked"])
async def test_a_client_that_hangs_up_half_way_costs_one_line_and_no_traceback(
    start: StartReceiver,
    connect: Connect,
    http: aiohttp.ClientSession,
    stored: Stored,
    lines: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
    how: str,
    chunks: bool,
) -> None:
    running = await start()
    wire = await connect(running)
    request = delivery(running.sources["qstash"])
    await wire.send(chunked({}, b"5\r\nab", "/qstash") if chunks else request[:-3])
    await eventually(lambda: running.receiver._http.in_flight == 1)
    wire.hang_up(how)
    await eventually(lambda: lines)
    assert [(line["event"], line["code"]) for line in lines] == [("refused", "broken_body")]
    assert tracebacks(caplog) == []
    assert caplog.records == []
    assert stored() == []
    async with http.get(f"{running.url}/healthz") as response:
        assert response.status == 200


async def test_a_client_that_is_gone_before_its_body_is_asked_for_leaves_no_traceback(
    start: StartReceiver, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    # A connection can end between any two steps of the server, so try each of the loop's ticks.
    running = await start()
    probe = request_bytes(b"", target="/healthz", method="GET")
    for before in range(4):
        for ticks in range(8):
            for extra in ((), (b"Expect: 100-continue",)):
                wire = await connect(running)
                await wire.send(probe)
                await wire.answer()
                wire.writer.write(probe * before + request_bytes(extra=extra)[:-3])
                for _ in range(ticks):
                    await asyncio.sleep(0)
                wire.hang_up("close" if before % 2 else "reset")
    await eventually(lambda: not connections(running))
    assert tracebacks(caplog) == []
    assert caplog.records == []


async def test_a_client_that_does_not_wait_for_its_answer_has_still_delivered(
    start: StartReceiver,
    connect: Connect,
    redis_client: redis.Redis,
    stored: Stored,
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = await start(append_timeout=10)
    with paused(redis_client):
        wire = await connect(running)
        await wire.send(delivery(running.sources["qstash"]))
        await eventually(lambda: running.receiver._appenders[0]._writing)
        wire.hang_up("reset")
        await eventually(lambda: not any(one.connected for one in connections(running)))
    await eventually(stored)
    await eventually(lambda: not running.receiver._http.in_flight)
    assert tracebacks(caplog) == []


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /qstash HTTP/9.9\r\nHost: a\r\n\r\n",
        b"POST /qstash HTTP/1.1\r\n\r\n",  # no Host
        b"POST /qstash HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /qstash HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n",
        b"POST /qstash HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /qstash HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        chunked({"Content-Length": "5"}, b"0\r\n\r\n"),
        b"POST /qstash HTTP/1.1\r\nHost: a\r\nX-A: a\x00b\r\n\r\n",
        b"POST /qstash HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        b"POST /qstash?" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /qstash HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 9000 + b"\r\n\r\n",
        b"POST /qstash HTTP/1.1\r\nHost: a\r\n" + b"X-A: a\r\n" * 200 + b"\r\n",
        b"POST /\xe4 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=lambda data: repr(data[:60]),
)
async def test_malformed_http_gives_400_and_at_most_one_short_line(
    start: StartReceiver, connect: Connect, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    running = await start()
    wire = await connect(running)
    await wire.send(data)
    answer = await wire.answer()
    assert answer.status == 400
    assert len(answer.body) < 400
    assert await wire.rest() == b""
    assert tracebacks(caplog) == []
    assert len(caplog.records) <= 1
    for record in caplog.records:
        assert len(record.getMessage()) < 100
        assert "\n" not in record.getMessage()


async def test_malformed_http_cannot_flood_the_log(
    start: StartReceiver, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    running = await start()
    for _ in range(100):
        wire = await connect(running)
        await wire.send(b"POST /qstash HTTP/1.1\r\n\r\n")
        assert (await wire.answer()).status == 400
    assert 10 <= len(caplog.records) < 100


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/qstash?x=%zz&x", 200),
        ("/qstash?", 200),
        ("/qstash/", 404),
        ("//qstash", 404),
        ("/./qstash", 404),
        ("/%71stash", 404),  # one path, one spelling
        ("/QSTASH", 404),
        ("/qstash%00", 404),
        ("/qstash;a=b", 404),
        ("/qstash#fragment", 404),
        ("http://app.example/qstash", 404),
        ("http://user:pw@app.example:99/qstash", 404),
        ("/", 404),
        ("//", 404),
        ("///", 404),
        ("/\\", 404),
        ("/" + "a" * 8000, 404),
        ("*", 400),
        ("qstash", 400),
        ("http://", 400),
        ("/qstash?\x7f", 400),
    ],
)
async def test_an_odd_target_is_an_ordinary_answer(
    start: StartReceiver,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    target: str,
    status: int,
) -> None:
    running = await start()
    wire = await connect(running)
    headers = signed_headers(running.sources["qstash"].scheme, HELLO, "/qstash")
    await wire.send(request_bytes(headers=headers, target=target))
    assert (await wire.answer()).status == status
    assert tracebacks(caplog) == []


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 404),
        (b"TRACE /qstash HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"POST /qstash HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
         401),
        (b"POST /qstash HTTP/1.1\r\nHost: a\r\nExpect: nothing\r\nContent-Length: 0\r\n\r\n", 401),
    ],
    ids=lambda data: repr(data)[:40],
)  # fmt: skip
async def test_an_odd_request_is_an_ordinary_answer(
    start: StartReceiver,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    data: bytes,
    status: int,
) -> None:
    running = await start()
    wire = await connect(running)
    await wire.send(data)
    assert (await wire.answer()).status == status
    assert tracebacks(caplog) == []


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
async def test_an_offered_upgrade_does_not_lose_the_body(
    start: StartReceiver,
    connect: Connect,
    stored: Stored,
    protocol: bytes,
) -> None:
    running = await start()
    wire = await connect(running)
    extra = (b"Connection: Upgrade", b"Upgrade: " + protocol)
    await wire.send(delivery(running.sources["qstash"], extra=extra))
    assert (await wire.answer()).status == 200
    (entry,) = stored()
    assert entry[b"body"] == HELLO


async def test_a_hundred_headers_are_accepted(start: StartReceiver, connect: Connect) -> None:
    running = await start()
    wire = await connect(running)
    extra = tuple(b"X-%d: value" % number for number in range(100))
    await wire.send(delivery(running.sources["qstash"], extra=extra))
    assert (await wire.answer()).status == 200
