"""The admin address over real sockets: what it answers, and how little a stranger can hold."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from hookmill.errors import SettingsError
from hookmill.runtime import admin_server
from hookmill.runtime.admin_request import Answer
from hookmill.runtime.admin_server import MAX_CONNECTIONS, MAX_HEAD, AdminServer
from hookmill.runtime.log_limit import PER_SECOND, LogLimit
from tests.support import Clock, eventually

Ask = Callable[..., Awaitable[tuple[int, dict[str, str], bytes]]]
GET = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Pages:
    """Three pages, one of which waits for `go`."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = 0

    async def quick(self) -> Answer:
        return Answer(200, b"fine\n")

    async def slow(self) -> Answer:
        self.asked += 1
        await self.go.wait()
        return Answer(200, b"late\n")

    async def faulty(self) -> Answer:
        raise KeyError("ours")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(admin_server, "log", structlog.get_logger("runtime"))
    with capture_logs() as captured:
        yield captured


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
async def server(pages: Pages, lines: list[Any]) -> AsyncIterator[tuple[AdminServer, int]]:
    by_path = {"/quick": pages.quick, "/slow": pages.slow, "/faulty": pages.faulty}
    running = AdminServer("127.0.0.1", 0, by_path)
    port = await running.start()
    yield running, port
    await running.stop()
    await running.stop()


@pytest.fixture
async def connect(server: tuple[AdminServer, int]) -> AsyncIterator[Any]:
    writers: list[asyncio.StreamWriter] = []

    async def one(sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server[1])
        writers.append(writer)
        writer.write(sent)
        await writer.drain()
        return reader, writer

    yield one
    for writer in writers:
        writer.close()


@pytest.fixture
def ask(connect: Any) -> Ask:
    """Send bytes; return status, headers and body of the answer, at the end of the connection."""

    async def send(sent: bytes) -> tuple[int, dict[str, str], bytes]:
        reader, _ = await connect(sent)
        return parsed(await asyncio.wait_for(reader.read(), 20))

    return send


async def ended_without_answer(reader: asyncio.StreamReader) -> bool:
    """Wait for the connection's end: closed or reset, as the kernel decides."""
    try:
        return await asyncio.wait_for(reader.read(), 20) == b""
    except ConnectionResetError:
        return True


def parsed(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    status_line, *rows = head.decode().split("\r\n")
    return int(status_line.split()[1]), dict(row.split(": ", 1) for row in rows), body


async def test_a_page_is_answered_and_the_connection_closed(ask: Ask) -> None:
    status, headers, body = await ask(GET % b"/quick?a=1")
    assert (status, body) == (200, b"fine\n")
    assert headers["Content-Length"] == "5"
    assert headers["Connection"] == "close"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_a_head_is_answered_without_a_body(ask: Ask) -> None:
    status, headers, body = await ask(b"HEAD /quick HTTP/1.0\r\n\r\n")
    assert (status, headers["Content-Length"], body) == (200, "5", b"")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (GET % b"/", 404),
        (GET % b"http://127.0.0.1/quick", 404),
        (b"GET /quick HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"DELETE /quick HTTP/1.1\r\n\r\n", 405),
        (b"GET /quick HTTP/1.1\r\nContent-Length: 500000\r\n\r\n" + bytes(500_000), 413),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET /" + b"a" * 2 * MAX_HEAD, 431),
    ],
)
async def test_a_refused_request_sees_why_and_costs_one_log_line(
    ask: Ask, lines: list[Any], sent: bytes, status: int
) -> None:
    got, headers, body = await ask(sent)
    assert got == status
    assert set(json.loads(body)) == {"error", "detail"}
    assert headers.get("Allow") == ("GET, HEAD" if status == 405 else None)
    (line,) = lines
    assert (line["event"], line["status"]) == ("admin request refused", status)
    assert "evil" not in str(line)


async def test_whoever_hangs_up_without_a_word_costs_nothing(
    connect: Any, server: tuple[AdminServer, int], lines: list[Any]
) -> None:
    _, writer = await connect()
    await eventually(lambda: len(server[0]._open) == 1)
    writer.close()
    await eventually(lambda: not server[0]._open)
    assert lines == []


async def test_half_a_request_is_answered_with_400_when_its_sender_ends_it(connect: Any) -> None:
    reader, writer = await connect(b"GET /quick HT")
    writer.write_eof()
    assert parsed(await reader.read())[0] == 400


async def test_a_request_that_does_not_arrive_is_answered_with_408(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_server, "HEAD_TIMEOUT", 0.1)
    assert (await ask(b"GET /quick HTTP/1.1\r\n"))[0] == 408


async def test_many_half_open_connections_keep_nobody_out(
    connect: Any, ask: Ask, server: tuple[AdminServer, int]
) -> None:
    for _ in range(3 * MAX_CONNECTIONS):
        await connect(b"GET /quick")
    assert (await ask(GET % b"/quick"))[2] == b"fine\n"
    assert len(server[0]._open) <= MAX_CONNECTIONS


async def test_connections_that_come_all_at_once_are_closed_too(
    server: tuple[AdminServer, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_server, "MAX_CONNECTIONS", 2)
    with ExitStack() as stack:
        # Without a pause, so that the server accepts them before it serves the first.
        address = ("127.0.0.1", server[1])
        opened = [stack.enter_context(socket.create_connection(address)) for _ in range(10)]
        for sock in opened:
            sock.setblocking(False)
        loop = asyncio.get_running_loop()
        for sock in opened[:-2]:
            with suppress(ConnectionError):
                assert await asyncio.wait_for(loop.sock_recv(sock, 1), 10) == b""


async def test_pages_under_way_are_finished_and_no_more_are_begun(
    connect: Any, server: tuple[AdminServer, int], pages: Pages
) -> None:
    waiting = [await connect(GET % b"/slow") for _ in range(MAX_CONNECTIONS)]
    await eventually(lambda: pages.asked == MAX_CONNECTIONS)
    reader, _ = await connect(GET % b"/quick")
    assert await ended_without_answer(reader)
    pages.go.set()
    for reader, _ in waiting:
        assert parsed(await asyncio.wait_for(reader.read(), 20))[2] == b"late\n"


async def test_a_page_that_takes_too_long_is_503(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "PAGE_TIMEOUT", 0.1)
    status, _, body = await ask(GET % b"/slow")
    assert (status, json.loads(body)["error"]) == (503, "timeout")


async def test_a_page_that_fails_is_500_with_a_limited_traceback_in_the_log(
    ask: Ask, server: tuple[AdminServer, int], lines: list[Any]
) -> None:
    server[0]._log_limit = LogLimit(Clock())
    answers = [await ask(GET % b"/faulty") for _ in range(PER_SECOND + 5)]
    assert {status for status, _, _ in answers} == {500}
    assert all(b"ours" not in body for _, _, body in answers)
    assert [bool(line["exc_info"]) for line in lines] == [True] * PER_SECOND
    assert (await ask(GET % b"/quick"))[0] == 200


async def test_a_stop_ends_what_is_under_way(
    connect: Any, server: tuple[AdminServer, int], pages: Pages
) -> None:
    reader, _ = await connect(GET % b"/slow")
    await eventually(lambda: pages.asked == 1)
    await server[0].stop()
    assert await ended_without_answer(reader)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server[1])


async def test_a_port_in_use_is_a_fault_of_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError) as raised:
            await AdminServer("127.0.0.1", port, {}).start()
    (fault,) = raised.value.faults
    assert fault.startswith(f"HOOKMILL_ADMIN_PORT: cannot listen on 127.0.0.1, port {port}: ")
    assert "use" in fault


async def test_a_host_that_is_not_here_is_a_fault_of_the_setting() -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on 192\.0\.2\.7, port 0"):
        await AdminServer("192.0.2.7", 0, {}).start()
