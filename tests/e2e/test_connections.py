"""Connections that bring nothing do not keep out deliveries: a real receiver that may have 1,024
open files, and 1,100 connections of each kind.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from hookmill.runtime.open_files import raise_limit
from hookmill.signatures.qstash import QStash
from tests.ports import free_port
from tests.receiver.serving import chunked, request_bytes
from tests.support import CURRENT_KEY, Program, Server, signed_headers

OPEN_FILES = 1024
FLOOD = 1_100
MIB = 1024 * 1024

KINDS = {
    "nothing": b"",
    "half a request line": b"POST /qsta",
    "half a header": b"POST /qstash HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 4000,
    "half a body": request_bytes(b"x" * 1000)[:-1],
    "half a chunk": chunked({}, b"3e8\r\nx", "/qstash"),
    "an answered request": request_bytes(b"forged"),
    "an answered question": request_bytes(b"", target="/healthz", method="GET"),
    "a request and a half": request_bytes(b"forged") + b"POST /qsta",
    "a request and much of a half": request_bytes(b"forged") + b"POST /" + b"q" * 7000,
    "an unread body": request_bytes(b"x" * 1000, target="/unknown")[:-1],
}
"""What each connection of a flood sends before it stops."""


@pytest.fixture(autouse=True)
def enough_open_files() -> None:
    """Raise the limit of this process, which holds the other end of each connection."""
    raise_limit(4096)


@pytest.fixture
def receiver(
    start_program: Callable[..., Program], own_server: Callable[..., Server]
) -> tuple[Program, Server, int]:
    server, port = own_server(), free_port()
    program = start_program(
        "receiver",
        env={
            "REDIS_URL": server.url,
            "PORT": str(port),
            "QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY,
            "HOOKMILL_APPEND_TIMEOUT": "30",
        },
        open_files=OPEN_FILES,
    )
    program.wait_for('"receiving"')
    return program, server, port


@asynccontextmanager
async def flood(port: int, sent: bytes, count: int = FLOOD) -> AsyncIterator[None]:
    """Open connections that all send the same, and keep them open during the block."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            await asyncio.wait_for(loop.sock_connect(sock, ("127.0.0.1", port)), 10)
            try:
                await loop.sock_sendall(sock, sent)
            except ConnectionError:
                continue  # it was closed for a later one
        yield


async def deliver(port: int, number: int) -> int:
    """Deliver one message on a connection of its own; return the status."""
    body = b"%d" % number
    headers = signed_headers(QStash([CURRENT_KEY]), body, "/qstash")
    headers["Upstash-Message-Id"] = f"msg_{number}"
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session,
        session.post(f"http://127.0.0.1:{port}/qstash", data=body, headers=headers) as answer,
    ):
        return answer.status


def memory_of(program: Program) -> int:
    """Return the bytes of memory that the process has now."""
    (line,) = [
        line
        for line in Path(f"/proc/{program.pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    ]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("kind", KINDS)
async def test_a_flood_of_connections_keeps_no_delivery_out(
    receiver: tuple[Program, Server, int], kind: str
) -> None:
    program, _, port = receiver
    assert await deliver(port, 0) == 200
    before = memory_of(program)
    async with flood(port, KINDS[kind]):
        statuses = [await deliver(port, number) for number in range(1, 31)]
        grown = memory_of(program) - before
        program.wait_for('"connections closed"')
    assert statuses == [200] * 30
    assert grown < 64 * MIB
    lines = [json.loads(line) for line in program.log.splitlines()]
    assert len([line for line in lines if line["event"] != "accepted"]) < 60
    assert "Traceback" not in program.log
    assert program.stop() == 0


async def test_no_request_that_has_arrived_is_cut_off_by_a_flood(
    receiver: tuple[Program, Server, int],
) -> None:
    program, server, port = receiver
    assert await deliver(port, 0) == 200
    server.signal(signal.SIGSTOP)
    try:
        waiting = [asyncio.create_task(deliver(port, number)) for number in range(1, 101)]
        async with flood(port, KINDS["half a request line"]), flood(port, KINDS["half a body"]):
            server.signal(signal.SIGCONT)
            assert await asyncio.gather(*waiting) == [200] * 100
    finally:
        server.signal(signal.SIGCONT)
    assert program.stop() == 0


async def test_the_start_says_that_the_limit_of_open_files_is_low(
    receiver: tuple[Program, Server, int],
) -> None:
    program, _, _ = receiver
    (line,) = [json.loads(line) for line in program.log.splitlines() if "limit of open" in line]
    assert (line["level"], line["open_files"], line["connections"]) == ("warning", 1024, 832)
