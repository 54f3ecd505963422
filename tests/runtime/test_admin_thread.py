"""The admin address answers from a thread, whatever the program's event loop does."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading

import pytest

from hookmill.errors import SettingsError
from hookmill.runtime.admin_request import Answer
from hookmill.runtime.admin_thread import AdminThread, in_program


async def where() -> Answer:
    return Answer(200, threading.current_thread().name.encode())


def ask(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    body = connection.getresponse().read()
    connection.close()
    return body


async def test_a_page_of_the_program_is_made_there_and_elsewhere_once_the_loop_is_blocked() -> None:
    pages = {"/here": where, "/there": in_program(where, 0.2, where)}
    address = AdminThread("127.0.0.1", 0, pages)
    port = await address.start()
    assert await asyncio.to_thread(ask, port, "/here") == b"admin address"
    assert await asyncio.to_thread(ask, port, "/there") == b"MainThread"
    assert ask(port, "/there") == b"admin address"  # which blocks the event loop
    await address.stop()
    assert "admin address" not in {thread.name for thread in threading.enumerate()}


async def test_a_port_that_is_in_use_is_an_error_and_leaves_no_thread() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = AdminThread("127.0.0.1", taken.getsockname()[1], {})
        with pytest.raises(SettingsError, match="HOOKMILL_ADMIN_PORT: cannot listen"):
            await address.start()
    assert "admin address" not in {thread.name for thread in threading.enumerate()}
