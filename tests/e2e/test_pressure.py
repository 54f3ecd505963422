"""A real receiver gets much more than it can store. It refuses at once and does not grow."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from hookmill.signatures.qstash import QStash
from tests.ports import free_port
from tests.support import CURRENT_KEY, Program, Server, signed_headers

MIB = 1024 * 1024
BODY = b"x" * MIB
SENDERS = 320
"""Each sends a body of one MiB. Together that is 40 times what the receiver may hold."""

QUEUE = 8 * MIB
BATCH = 8 * MIB

ALLOWED = 3 * QUEUE + 3 * BATCH + SENDERS * MIB // 2
"""Bytes that the receiver's memory may grow: the bodies in its queue and on their way to Redis,
with their pieces, and for each connection what aiohttp and the event loop buffer before the
receiver reads (a read of 256 KiB, and what its allocation leaves behind). Without the receiver's
limits it would be 320 MiB and more.
"""


def peak(program: Program) -> int:
    """Return the most memory that the process ever had, in bytes."""
    status = Path(f"/proc/{program.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
async def test_memory_stays_flat_at_many_times_the_load_that_can_be_stored(
    start_program: Callable[..., Program], own_server: Callable[..., Server]
) -> None:
    server = own_server()
    port = free_port()
    receiver = start_program(
        "receiver",
        env={
            "REDIS_URL": server.url,
            "PORT": str(port),
            "QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY,
            "HOOKMILL_QUEUE_BYTES": str(QUEUE),
            "HOOKMILL_BODY_LIMIT": str(2 * MIB),
            "HOOKMILL_APPEND_TIMEOUT": "1",
        },
    )
    receiver.wait_for('"receiving"')
    headers = signed_headers(QStash([CURRENT_KEY]), BODY, "/qstash")
    headers["Upstash-Message-Id"] = "msg_1"
    statuses: Counter[int] = Counter()

    async def send(session: aiohttp.ClientSession, times: int) -> None:
        for _ in range(times):
            try:
                async with session.post(
                    f"http://127.0.0.1:{port}/qstash", data=BODY, headers=headers
                ) as answer:
                    statuses[answer.status] += 1
            except aiohttp.ClientError:
                statuses[0] += 1  # it answered and closed the connection while we were sending

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await send(session, 5)
        assert statuses == {200: 5}
        before = peak(receiver)
        server.signal(signal.SIGSTOP)
        await asyncio.gather(*(send(session, 2) for _ in range(SENDERS)))
        server.signal(signal.SIGCONT)
        assert statuses[200] == 5
        assert statuses[503]
        # Where too much is read at once, a connection is closed without an answer.
        assert statuses[503] + statuses[0] == 2 * SENDERS
        async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
            assert answer.status == 200
        await send(session, 1)
    assert statuses[200] == 6
    grown = peak(receiver) - before
    assert grown < ALLOWED, f"{grown / MIB:.0f} MiB; {ALLOWED / MIB:.0f} are allowed"
    assert receiver.stop() == 0
