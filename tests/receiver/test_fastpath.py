"""The fast path: answers without a task, and the same answers as aiohttp's."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from hookmill.config.settings import Settings
from hookmill.config.sources import sources_of
from hookmill.stream.producer import Producer
from receiver import fastpath
from receiver import http as http_module
from receiver.http import HttpServer
from tests.receiver.serving import (
    HELLO,
    KEYS,
    LIMIT,
    Connect,
    Running,
    StartAt,
    StartReceiver,
    Stored,
    connections,
    delivery,
    paused,
    request_bytes,
)
from tests.support import eventually, signed_headers


@pytest.fixture
def took(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies of the deliveries that the fast path took."""
    bodies: list[bytes] = []
    take = HttpServer.take

    def noted(self: HttpServer, source: Any, request: Any, connection: Any) -> None:
        bodies.append(request.body)
        take(self, source, request, connection)

    monkeypatch.setattr(HttpServer, "take", noted)
    return bodies


def test_this_aiohttp_has_the_attributes_that_the_fast_path_uses() -> None:
    assert fastpath.is_supported()


async def test_a_whole_delivery_is_answered_while_aiohttp_still_waits_for_a_request(
    start: StartReceiver, connect: Connect, stored: Stored, took: list[bytes]
) -> None:
    running = await start()
    wire = await connect(running)
    await eventually(lambda: connections(running) and connections(running)[0]._waiter)
    waiter = connections(running)[0]._waiter
    for number in range(3):
        await wire.send(delivery(running.sources["qstash"], b"%d" % number))
        assert (await wire.answer()).status == 200
    assert connections(running)[0]._waiter is waiter
    assert took == [entry[b"body"] for entry in stored()] == [b"0", b"1", b"2"]


async def test_if_aiohttp_has_other_attributes_it_answers_deliveries_itself(
    start: StartReceiver,
    connect: Connect,
    stored: Stored,
    took: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fastpath, "_USED", {"_of_another_release"})
    running = await start()
    wire = await connect(running)
    for status, sent in ((200, delivery(running.sources["qstash"])), (401, request_bytes())):
        await wire.send(sent)
        assert (await wire.answer()).status == status
    assert (took, len(stored())) == ([], 1)


REQUESTS: dict[str, Callable[[Running], bytes]] = {
    "genuine": lambda running: delivery(running.sources["qstash"]),
    "forged": lambda _: request_bytes(),
    "too large": lambda running: delivery(running.sources["qstash"], bytes(LIMIT + 1)),
    "encoded": lambda running: delivery(
        running.sources["qstash"], extra=(b"Content-Encoding: gzip",)
    ),
    "short": lambda running: delivery(running.sources["qstash"], b" "),
    "a question": lambda running: request_bytes(
        b'{"challenge":"abc","type":"url_verification"}',
        headers=signed_headers(
            running.sources["slack"].scheme,
            b'{"challenge":"abc","type":"url_verification"}',
            "/slack",
        ),
        target="/slack",
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_the_fast_path_and_aiohttp_answer_alike(
    start: StartReceiver,
    connect: Connect,
    took: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setenv("SLACK_SECRET", "s" * 32)
    running = await start(sources={"slack": {"secrets": ["env:SLACK_SECRET"]}})
    request = REQUESTS[name](running)
    whole, in_parts = await connect(running), await connect(running)
    await whole.send(request)
    fast = await whole.answer()
    assert len(took) == 1
    for part in (request[:20], request[20:-1], request[-1:]):
        await in_parts.send(part)
        await asyncio.sleep(0.02)
    slow = await in_parts.answer()
    for answer in (fast, slow):
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", answer.headers.pop("Date"))
    # A refusal before the end of a body closes the connection.
    slow.headers.pop("Connection", None)
    assert fast == slow


async def test_what_comes_behind_a_delivery_waits_for_its_answer(
    start: StartReceiver, connect: Connect, redis_client: redis.Redis, stored: Stored
) -> None:
    running = await start(append_timeout=10)
    wire, source = await connect(running), running.sources["qstash"]
    second, third = delivery(source, b"second"), delivery(source, b"third")
    with paused(redis_client):
        await wire.send(delivery(source, b"first"))
        await eventually(lambda: running.receiver._appenders[0]._writing)
        await wire.send(request_bytes(b"", target="/healthz", method="GET") + second[:70])
        await wire.send(second[70:] + request_bytes(b"forged") + third)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.reader.readexactly(1), 0.1)
    answers = [await wire.answer() for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 401, 200]
    assert [answer.body for answer in answers][:2] == [b"", b"ok\n"]
    assert [entry[b"body"] for entry in stored()] == [b"first", b"second", b"third"]


async def test_an_upgrade_that_is_asked_for_with_a_delivery_hurts_nothing(
    start: StartReceiver, connect: Connect, stored: Stored, took: list[bytes]
) -> None:
    running = await start()
    wire, source = await connect(running), running.sources["qstash"]
    asked = (b"Connection: Upgrade", b"Upgrade: websocket")
    for extra in (asked, (), asked, ()):
        await wire.send(delivery(source, extra=extra))
        assert (await wire.answer()).status == 200
    assert [entry[b"body"] for entry in stored()] == [HELLO] * 4
    assert len(took) == 2


async def test_nothing_is_read_behind_a_delivery_that_is_not_answered(
    start: StartReceiver, connect: Connect, redis_client: redis.Redis
) -> None:
    running = await start(append_timeout=10)
    wire, source = await connect(running), running.sources["qstash"]
    sent = 0
    with paused(redis_client):
        await wire.send(delivery(source))
        await eventually(lambda: running.receiver._appenders[0]._writing)
        flood = request_bytes(bytes(1000)) * 1000
        wire.writer.write(flood * 30)
        await asyncio.sleep(0.3)
        sent = len(flood) * 30 - wire.writer.transport.get_write_buffer_size()
        assert sent < 20_000_000  # the buffers of the kernel, and one read
    assert (await wire.answer()).status == 200
    assert (await wire.answer()).status == 401
    wire.hang_up("reset")


async def test_a_sender_that_does_not_read_its_answers_is_closed_at_its_next_request(
    start: StartReceiver, took: list[bytes]
) -> None:
    running = await start()
    with socket.socket() as mine:
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        mine.connect(("127.0.0.1", running.port))
        await eventually(lambda: connections(running))
        (connection,) = connections(running)
        ours = connection.transport.get_extra_info("socket")
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection.transport.set_write_buffer_limits(high=1000)
        while not connection.writing_paused:
            took.clear()
            mine.sendall(request_bytes(b"forged"))
            await eventually(lambda: took)
        assert connection.writing_paused
        mine.sendall(request_bytes(b"behind"))
        await eventually(lambda: not connections(running))
        assert b"behind" not in took


async def test_a_delivery_waits_for_what_aiohttp_is_answering(
    start: StartReceiver, connect: Connect, redis_client: redis.Redis
) -> None:
    running = await start(append_timeout=10)
    wire = await connect(running)
    with paused(redis_client):
        await wire.send(request_bytes(b"", target="/readyz", method="GET"))
        await eventually(lambda: running.receiver._http.in_flight == 1)
        await wire.send(request_bytes(b"forged"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.reader.readexactly(1), 0.1)
    assert [(await wire.answer()).status for _ in range(2)] == [200, 401]


async def test_deliveries_that_were_taken_do_not_count_as_pipelined_requests(
    start: StartReceiver, connect: Connect, took: list[bytes]
) -> None:
    running = await start()
    wire = await connect(running)
    for _ in range(100):
        await wire.send(request_bytes(b"forged"))
        assert (await wire.answer()).status == 401
    assert len(took) == 100
    await wire.send(request_bytes(b"forged") * 2)
    assert [(await wire.answer()).status for _ in range(2)] == [401, 401]


async def test_http_1_0_is_left_to_aiohttp(
    start: StartReceiver, connect: Connect, took: list[bytes]
) -> None:
    running = await start()
    wire = await connect(running)
    await wire.send(
        delivery(running.sources["qstash"], version="1.0", extra=(b"Connection: keep-alive",))
    )
    head = await wire.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ")
    assert not took


async def test_the_last_answer_of_a_quiet_receiver_closes_the_connection(
    start: StartReceiver, connect: Connect, redis_client: redis.Redis
) -> None:
    running = await start(append_timeout=10)
    wire = await connect(running)
    with paused(redis_client):
        await wire.send(delivery(running.sources["qstash"]))
        await eventually(lambda: running.receiver._appenders[0]._writing)
        running.receiver.quiet()
    answer = await wire.answer()
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    assert await wire.rest() == b""


async def test_a_connection_in_use_is_kept_and_an_idle_one_is_closed(
    start: StartReceiver, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_module, "KEEPALIVE", 2.0)
    running = await start()
    wire = await connect(running)
    loop = asyncio.get_running_loop()
    until = loop.time() + 4.0
    while loop.time() < until:
        await wire.send(delivery(running.sources["qstash"]))
        assert (await wire.answer()).status == 200
        await asyncio.sleep(0.1)
    assert await wire.rest() == b""


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_the_message_of_a_sender_that_has_gone_is_stored_all_the_same(
    start: StartReceiver,
    connect: Connect,
    redis_client: redis.Redis,
    stored: Stored,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    running = await start(append_timeout=10)
    wire = await connect(running)
    with paused(redis_client):
        await wire.send(delivery(running.sources["qstash"]))
        await eventually(lambda: running.receiver._appenders[0]._writing)
        wire.hang_up(how)
        await eventually(lambda: not connections(running))
    await eventually(lambda: len(stored()) == 1)
    await eventually(lambda: running.receiver._http.in_flight == 0)
    assert stored()[0][b"body"] == HELLO
    assert running.receiver._pipeline.capacity.bytes == 0
    assert not caplog.records


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_the_fast_path_writes_the_same_answer_as_aiohttp(
    settings: Callable[..., Settings],
    stream: Producer,
    start_at: StartAt,
    connect: Connect,
    status: int,
) -> None:
    configured = settings(**KEYS)
    (source, *_) = (replace(one, status=status) for one in sources_of(configured))
    running = await start_at(configured, stream, [source])
    heads = []
    for extra in ((), (b"Connection: close",)):  # aiohttp itself answers the latter
        wire = await connect(running)
        await wire.send(delivery(source, extra=extra))
        raw = (await wire.reader.readuntil(b"\r\n\r\n")).decode()
        heads.append([line for line in raw.splitlines() if not line.startswith("Date: ")])
        assert re.search(r"^Date: \w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT\r$", raw, re.MULTILINE)
    ours, aiohttps = heads
    assert "Connection: close" in aiohttps
    assert ours == [line for line in aiohttps if line != "Connection: close"]
