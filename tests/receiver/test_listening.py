"""A receiver that stops resets no connection that was made before it stopped listening."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from hookmill.config.settings import Settings
from tests.receiver.serving import KEYS, StartAt, delivery
from tests.support import eventually

pytestmark = pytest.mark.one_server


async def test_connections_that_the_kernel_has_queued_are_answered(
    start_at: StartAt, settings: Callable[..., Settings]
) -> None:
    running = await start_at(settings(**KEYS))
    waiting = []
    for number in range(3):
        # Without a turn of the event loop: nobody accepts them before the stop.
        one = socket.create_connection(("127.0.0.1", running.port), timeout=20)
        one.sendall(delivery(running.sources["qstash"], b'{"n":%d}' % number))
        waiting.append(one)
    await running.receiver.stop()
    for one in waiting:
        with one:
            assert one.recv(1000).startswith(b"HTTP/1.1 200 ")


async def test_the_first_request_of_a_new_connection_is_awaited(
    start_at: StartAt, settings: Callable[..., Settings]
) -> None:
    running = await start_at(settings(**KEYS))
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    stopping = asyncio.create_task(running.receiver.stop())
    await eventually(lambda: not running.receiver._http._listening._servers)
    writer.write(delivery(running.sources["qstash"]))
    assert (await reader.read(1000)).startswith(b"HTTP/1.1 200 ")
    assert await reader.read(1000) == b""
    await stopping
    writer.close()


async def test_an_old_connection_without_a_request_does_not_hold_up_the_stop(
    start_at: StartAt, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.http._FIRST_REQUEST", 0.0)  # so it is old at once
    running = await start_at(settings(**KEYS))
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    await running.receiver.stop()
    assert await reader.read(1000) == b""
    writer.close()
