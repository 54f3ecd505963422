"""Whatever listens at an admin address, asking it gives a verdict in time."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.admin import probe as module
from hookmill.admin.probe import Probed, _judged, probe
from hookmill.errors import SettingsError
from hookmill.runtime.admin_request import Answer, PageRefusal
from hookmill.runtime.admin_thread import AdminThread
from tests.ports import free_port

Serve = Callable[[Answer], Awaitable[int]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start an admin address of a worker that answers so at /healthz, and 503 at /readyz."""
    started: list[AdminThread] = []

    async def start(answer: Answer) -> int:
        async def alive() -> Answer:
            return answer

        async def ready() -> Answer:
            return PageRefusal(503, "stopping", "the worker is stopping").answer

        pages = {"/healthz": alive, "/readyz": ready}
        started.append(AdminThread("127.0.0.1", 0, pages, "worker"))
        return await started[-1].start()

    yield start
    for one in started:
        await one.stop()


async def test_a_healthy_program_is_named_and_its_answer_is_the_detail(serve: Serve) -> None:
    port = await serve(Answer(200, b"ok\n"))
    assert probe("0.0.0.0", port) == Probed(ok=True, program="worker", status=200, detail="ok")
    found = probe("127.0.0.1", port, program="worker", ready=True)
    assert (found.ok, found.code, found.detail) == (False, "stopping", "the worker is stopping")


async def test_another_program_than_the_one_asked_for_is_not_well(serve: Serve) -> None:
    found = probe("127.0.0.1", await serve(Answer(200, b"ok\n")), program="receiver")
    assert (found.ok, found.code) == (False, "other_program")
    assert found.detail == "a worker answers there, and not a receiver"


def test_where_nothing_listens_the_setting_is_named() -> None:
    found = probe("127.0.0.1", free_port())
    assert (found.ok, found.code) == (False, "no_answer")
    assert "HOOKMILL_ADMIN_PORT" in found.detail
    with pytest.raises(SettingsError, match="HOOKMILL_ADMIN_PORT is 0"):
        probe("127.0.0.1", 0)


def test_what_accepts_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = probe("127.0.0.1", silent.getsockname()[1])
    assert "within 0.1 s: the program stands still" in found.detail


def test_what_answers_byte_by_byte_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    monkeypatch.setattr(module, "MOST", 40)
    is_given_up = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            while not is_given_up.wait(0.05):
                connection.send(b"H")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        dripping = threading.Thread(target=drip, args=[listening])
        dripping.start()
        # Without an end of its own, it would read until all of MOST is there.
        found = probe("127.0.0.1", listening.getsockname()[1])
        is_given_up.set()
        dripping.join()
    assert "within 0.3 s: the program stands still" in found.detail


@given(st.binary(max_size=400) | st.binary(max_size=200).map(b"HTTP/1.1 200 OK\r\n\r\n".__add__))
def test_any_answer_gets_a_verdict(answer: bytes) -> None:
    assert _judged(answer, "worker").ok == answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 "))
