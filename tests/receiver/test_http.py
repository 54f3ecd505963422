"""HTTP over real sockets: routes, versions, how bodies are read, and how they are refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from receiver import http as http_module
from tests.receiver.serving import (
    HELLO,
    LIMIT,
    Answer,
    Connect,
    StartReceiver,
    Stored,
    chunked,
    delivery,
    request_bytes,
    tracebacks,
)
from tests.support import (
    eventually,
    signed_headers,
)

pytestmark = pytest.mark.usefixtures("lines")


@pytest.mark.parametrize("target", ["/", "/?", "/?a=1&b=%20x", "/?next=http://x/?y"])
async def test_the_guides_own_example_is_accepted_at_the_root(
    start: StartReceiver, connect: Connect, stored: Stored, target: str
) -> None:
    running = await start(sources={"qstash": {"path": "/"}}, public_url="https://app.example")
    wire = await connect(running)
    await wire.send(delivery(running.sources["qstash"], target=target))
    assert (await wire.answer()).status == 200
    (entry,) = stored()
    assert entry[b"body"] == b'{"hello":"world"}'
    await wire.send(delivery(running.sources["qstash"], target="/qstash"))
    assert (await wire.answer()).status == 404


@pytest.mark.parametrize(
    ("signed_for", "sent_to", "status"),
    [
        ("/hooks/in?a=1&b=%20x", "/hooks/in?a=1&b=%20x", 200),
        ("/hooks/in?a=1", "/hooks/in?a=2", 401),
        ("/hooks/in?a=1", "/hooks/in", 401),
        ("/hooks/in", "/hooks/in?a=1", 401),
        ("/hooks/in?b=%20x", "/hooks/in?b=+x", 401),
    ],
)
async def test_path_and_query_are_compared_with_the_tokens_sub_as_they_were_sent(
    start: StartReceiver,
    connect: Connect,
    signed_for: str,
    sent_to: str,
    status: int,
) -> None:
    running = await start(
        sources={"qstash": {"path": "/hooks/in"}}, public_url="https://app.example"
    )
    headers = signed_headers(running.sources["qstash"].scheme, HELLO, signed_for)
    wire = await connect(running)
    await wire.send(request_bytes(headers=headers, target=sent_to))
    answer = await wire.answer()
    assert answer.status == status
    if status == 401:
        assert b'"wrong_url"' in answer.body


async def test_an_identity_encoding_is_no_encoding(start: StartReceiver, connect: Connect) -> None:
    running = await start()
    wire = await connect(running)
    source = running.sources["qstash"]
    await wire.send(delivery(source, extra=(b"Content-Encoding: Identity",)))
    assert (await wire.answer()).status == 200


async def test_a_chunked_body_is_put_together(
    start: StartReceiver, connect: Connect, stored: Stored
) -> None:
    running = await start()
    wire = await connect(running)
    headers = signed_headers(running.sources["marble"].scheme, HELLO, "/marble")
    await wire.send(chunked(headers, b"7\r\n" + HELLO[:7] + b"\r\n"))
    await wire.send(b"a;note=x\r\n" + HELLO[7:] + b"\r\n0\r\nX-Trailer: 1\r\n\r\n")
    assert (await wire.answer()).status == 200
    (entry,) = stored()
    assert entry[b"body"] == HELLO


async def test_http_1_0_is_spoken_and_its_connection_closed(
    start: StartReceiver, connect: Connect, stored: Stored
) -> None:
    running = await start()
    wire = await connect(running)
    await wire.send(delivery(running.sources["qstash"], version="1.0"))
    assert (await wire.rest()).startswith(b"HTTP/1.0 200 OK\r\n")
    assert len(stored()) == 1


async def test_pipelined_requests_are_answered_in_order(
    start: StartReceiver, connect: Connect, stored: Stored
) -> None:
    running = await start()
    wire = await connect(running)
    source = running.sources["qstash"]
    await wire.send(
        delivery(source, b"first")
        + request_bytes(b"unsigned")
        + delivery(source, b"second")
        + request_bytes(b"", target="/healthz", method="GET")
    )
    assert [(await wire.answer()).status for _ in range(4)] == [200, 401, 200, 200]
    assert [entry[b"body"] for entry in stored()] == [b"first", b"second"]


async def test_deliveries_of_one_connection_keep_their_order(
    start: StartReceiver, connect: Connect, stored: Stored
) -> None:
    running = await start()
    wire = await connect(running)
    source = running.sources["qstash"]
    await wire.send(b"".join(delivery(source, b"%d" % number) for number in range(20)))
    assert [(await wire.answer()).status for _ in range(20)] == [200] * 20
    assert [entry[b"body"] for entry in stored()] == [b"%d" % number for number in range(20)]


async def test_a_sender_that_expects_100_continue_gets_it_before_it_sends_the_body(
    start: StartReceiver, connect: Connect, stored: Stored
) -> None:
    running = await start()
    wire = await connect(running)
    source = running.sources["qstash"]
    head, _, body = delivery(source, extra=(b"Expect: 100-Continue",)).partition(b"\r\n\r\n")
    await wire.send(head + b"\r\n\r\n")
    assert await wire.answer() == Answer(100, {}, b"")
    await wire.send(body)
    assert (await wire.answer()).status == 200
    await wire.send(delivery(source))  # the connection is kept
    assert (await wire.answer()).status == 200
    assert len(stored()) == 2


@pytest.mark.parametrize(
    ("target", "length", "extra", "status"),
    [
        ("/qstash", LIMIT + 1, (), 413),
        ("/qstash", 17, (b"Content-Encoding: gzip",), 415),
        ("/nowhere", 17, (), 404),
        ("/healthz", 17, (), 405),
    ],
)
async def test_what_the_head_alone_decides_is_answered_without_100_and_ends_the_connection(
    start: StartReceiver,
    connect: Connect,
    target: str,
    length: int,
    extra: tuple[bytes, ...],
    status: int,
) -> None:
    running = await start()
    wire = await connect(running)
    rows = (b"Expect: 100-continue", b"Content-Length: %d" % length, *extra)
    head = b"POST " + target.encode() + b" HTTP/1.1\r\nHost: a\r\n" + b"\r\n".join(rows)
    await wire.send(head + b"\r\n\r\n")
    answer = await wire.answer()
    assert answer.status == status
    # The sender may send the body now or not. On a kept connection the next request, perhaps of
    # another client, could be taken for this body.
    assert answer.headers["Connection"] == "close"
    await wire.send(request_bytes(b"", target="/healthz", method="GET") * (1 + length // 40))
    assert await wire.rest() == b""


async def test_an_expectation_of_http_1_0_is_ignored(
    start: StartReceiver, connect: Connect
) -> None:
    running = await start()
    wire = await connect(running)
    source = running.sources["qstash"]
    await wire.send(delivery(source, version="1.0", extra=(b"Expect: 100-continue",)))
    assert (await wire.rest()).startswith(b"HTTP/1.0 200 OK\r\n")


# --- bodies that are refused ---


async def test_a_body_too_large_by_its_length_is_refused_before_it_is_sent(
    start: StartReceiver, connect: Connect
) -> None:
    running = await start()
    wire = await connect(running)
    await wire.send(b"POST /qstash HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n")
    assert (await wire.answer()).status == 413


async def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large_not_at_its_end(
    start: StartReceiver, connect: Connect
) -> None:
    running = await start()
    wire = await connect(running)
    await wire.send(chunked({}, b"%x\r\n%b\r\n" % (LIMIT, b"x" * LIMIT)))
    await eventually(lambda: running.receiver._http.in_flight == 1)
    await wire.send(b"1\r\nx\r\n")
    assert (await wire.answer()).status == 413  # the last chunk has not come


async def test_a_sender_sees_the_answer_although_it_is_still_sending(
    start: StartReceiver, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_module, "_LINGER", 10.0)
    running = await start()
    wire = await connect(running)
    await wire.send(request_bytes(b"x" * 8_000_000))  # more than the sockets' buffers hold
    answer = await wire.answer()
    assert (answer.status, answer.headers["Connection"]) == (413, "close")
    assert await wire.rest() == b""


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\nab\r\n", b"2\r\nabX\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"2\nab\n"],
)
async def test_broken_chunking_is_answered_with_400_and_one_line(
    start: StartReceiver,
    connect: Connect,
    stored: Stored,
    caplog: pytest.LogCaptureFixture,
    lines: list[dict[str, Any]],
    chunks: bytes,
) -> None:
    running = await start()
    wire = await connect(running)
    await wire.send(chunked({}, chunks))
    assert (await wire.rest()).split(b"\r\n")[0].endswith(b" 400 Bad Request")
    assert stored() == []
    assert len(caplog.records) + len(lines) == 1
    assert tracebacks(caplog) == []


async def test_chunking_that_breaks_later_is_answered_with_400(
    start: StartReceiver, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    # The parser does not report that the body cannot continue, so the read timeout ends it.
    running = await start(read_timeout=0.2)
    wire = await connect(running)
    await wire.send(chunked({}, b"2\r\nab\r\n"))
    await eventually(lambda: running.receiver._http.in_flight == 1)
    await wire.send(b"zz\r\n")
    assert (await wire.rest()).split(b"\r\n")[0].endswith(b" 400 Bad Request")
    assert tracebacks(caplog) == []


async def test_a_body_that_comes_byte_by_byte_is_refused_after_the_read_timeout(
    start: StartReceiver,
    connect: Connect,
    stored: Stored,
    lines: list[dict[str, Any]],
) -> None:
    running = await start(read_timeout=0.2)
    wire = await connect(running)
    await wire.send(delivery(running.sources["qstash"], b"x" * LIMIT)[:-LIMIT])

    async def drip() -> None:
        while True:  # a timeout that starts again with each byte would never end
            await wire.send(b"x")
            await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    answer = await wire.answer()
    dripping.cancel()
    assert (answer.status, answer.headers["Connection"]) == (400, "close")
    assert b'"slow_body"' in answer.body
    assert [line["code"] for line in lines] == ["slow_body"]
    assert stored() == []
    await asyncio.wait([dripping])
