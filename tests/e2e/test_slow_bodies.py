"""Slow bodies for one source: a real receiver with its usual limits goes on to take deliveries, for
the other sources at once, for this one within a second.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable

import aiohttp

from hookmill.signatures.marble import marble_scheme
from hookmill.signatures.qstash import QStash
from hookmill.signatures.scheme import Scheme
from receiver.capacity import PROTECTED
from tests.ports import free_port
from tests.receiver.serving import request_bytes
from tests.support import CURRENT_KEY, MARBLE_SECRET, Program, Server, signed_headers

MIB = 1024 * 1024
SLOW = 96 * MIB // 10


async def test_seven_slow_bodies_for_one_source_refuse_no_delivery(
    start_program: Callable[..., Program], own_server: Callable[..., Server]
) -> None:
    server, port = own_server(), free_port()
    receiver = start_program(
        "receiver",
        env={
            "REDIS_URL": server.url,
            "PORT": str(port),
            "QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY,
            "MARBLE_WEBHOOK_SECRET": MARBLE_SECRET,
        },
    )
    receiver.wait_for('"receiving"')

    async def slow() -> asyncio.StreamWriter:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_bytes(bytes(10 * MIB), target="/qstash")[: SLOW - 10 * MIB])
        await writer.drain()
        return writer

    async def deliver(source: str, scheme: Scheme, size: int) -> int:
        body = bytes(size)
        headers = signed_headers(scheme, body, f"/{source}")
        url = f"http://127.0.0.1:{port}/{source}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=io.BytesIO(body), headers=headers) as answer,
        ):
            return answer.status

    marble, qstash = marble_scheme([MARBLE_SECRET]), QStash([CURRENT_KEY])
    writers = [await slow() for _ in range(7)]
    began = time.monotonic()
    for size in (100, 100_000, 10 * MIB):
        assert await deliver("marble", marble, size) == 200
    await asyncio.sleep(PROTECTED - (time.monotonic() - began))
    for size in (100, 100_000, 10 * MIB):
        assert await deliver("qstash", qstash, size) == 200
    for writer in writers:
        writer.close()
    assert receiver.stop() == 0
