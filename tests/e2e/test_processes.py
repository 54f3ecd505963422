"""Receivers and workers under a parent: what it costs when one is killed, stopped or replaced."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis

from hookmill.signatures.marble import marble_scheme
from hookmill.stream.producer import Producer
from tests.ports import free_port
from tests.runtime.supervising import is_alive
from tests.support import (
    MARBLE_SECRET,
    Program,
    Server,
    eventually,
    message,
    signed_headers,
    wait_until,
)

pytestmark = pytest.mark.one_server

TARGET = "/marble"
READY = "all processes are ready"

HANDLERS = """
import asyncio, os
from pathlib import Path
from hookmill import Handlers

handlers = Handlers()

@handlers.on("*")
async def handle(delivery):
    if not Path("held").exists():
        Path("held").write_text(str(os.getpid()))
        await asyncio.sleep(600)
    Path("done").write_text(str(os.getpid()))
"""
"""The first one who gets a message holds it."""


class Senders:
    """Sends deliveries one after another, each over a connection of its own, in several tasks."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}{TARGET}"
        self.sent = 0
        self.accepted: list[str] = []
        self.failed: Counter[str] = Counter()
        self._is_over = False

    @asynccontextmanager
    async def sending(self, tasks: int = 8) -> AsyncIterator[None]:
        self._is_over = False
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0)
        ) as http:
            going = [asyncio.create_task(self._send(http)) for _ in range(tasks)]
            yield
            self._is_over = True
            await asyncio.gather(*going)

    async def _send(self, http: aiohttp.ClientSession) -> None:
        while not self._is_over:
            self.sent += 1
            await self._deliver(http, f"evt_{self.sent}")
            await asyncio.sleep(0.03)  # so that the sender costs less than what is tested

    async def _deliver(self, http: aiohttp.ClientSession, message_id: str) -> None:
        body = json.dumps({"id": message_id, "type": "a.b"}).encode()
        headers = signed_headers(marble_scheme([MARBLE_SECRET]), body, TARGET)
        try:
            async with http.post(self._url, data=body, headers=headers) as answer:
                if answer.status == 200:
                    self.accepted.append(message_id)
                else:
                    self.failed[str(answer.status)] += 1
        except (aiohttp.ClientError, OSError) as error:
            self.failed[type(error).__name__] += 1


def lines(program: Program, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in program.log.splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == event]


def pids_of(program: Program) -> list[int]:
    return [int(one) for one in Path(f"/proc/{program.pid}/task/{program.pid}/children")
            .read_text().split()]  # fmt: skip


async def more_accepted(senders: Senders, count: int = 40) -> None:
    wanted = len(senders.accepted) + count
    await eventually(lambda: len(senders.accepted) >= wanted, what="deliveries to be accepted")


def env(server: Server, prefix: str) -> dict[str, str]:
    return {
        "REDIS_URL": server.url, "MARBLE_WEBHOOK_SECRET": MARBLE_SECRET, "PORT": "0",
        "HOOKMILL_HOST": "127.0.0.1", "HOOKMILL_PREFIX": prefix, "HOOKMILL_APPEND_TIMEOUT": "15",
    }  # fmt: skip


async def test_no_delivery_fails_while_receivers_are_replaced_stopped_and_started_again(
    own_server: Callable[..., Server], start_program: Callable[..., Program]
) -> None:
    server, admin_port = own_server(), free_port()
    given = {"HOOKMILL_ADMIN_PORT": str(admin_port), "HOOKMILL_SPOOL": "spool"}
    parent = start_program("receiver", "--processes", "2", env=env(server, "hookmill") | given)
    parent.wait_for(READY)
    (supervising,) = lines(parent, "supervising")
    assert {line["port"] for line in lines(parent, "receiving")} == {supervising["port"]}
    senders = Senders(supervising["port"])
    async with senders.sending():
        parent.signal(signal.SIGUSR2)  # replaces one after another
        replaced = "all processes are replaced"
        await eventually(lambda: lines(parent, replaced), timeout=60, what=replaced)
        await more_accepted(senders)
        leaving = pids_of(parent)[0]
        os.kill(leaving, signal.SIGTERM)  # one stops by itself
        await eventually(lambda: len(lines(parent, "receiving")) == 5, timeout=60)
        await more_accepted(senders)
        assert senders.failed == {}
        before = await counted(admin_port)
        assert before > 0
        killed = pids_of(parent)[0]
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: len(lines(parent, "receiving")) == 6, timeout=60)
        await more_accepted(senders)
    assert await counted(admin_port) >= before + 40
    # What the killed one held has failed. Its senders send it again.
    assert not [one for one in senders.failed if one.isdigit()], senders.failed  # a status
    # Each task has sent one to it, and has then been queued once until its socket was closed.
    assert sum(senders.failed.values()) <= 16, senders.failed
    assert stored(server) >= len(senders.accepted)
    await the_spool_is_shared(server, senders)
    for pid in (*pids_of(parent), parent.pid):
        os.kill(pid, signal.SIGTERM)  # as systemd does
    assert parent.wait() == 0
    assert len(lines(parent, "stopped")) == 5


async def counted(port: int) -> int:
    """How many accepted deliveries all receivers together have counted."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}/metrics") as answer,
    ):
        page = await answer.text()
    found = re.findall(
        r'^hookmill_deliveries_total{outcome="accepted".*} (\S+)$', page, re.MULTILINE
    )
    return round(sum(map(float, found)))


def stored(server: Server) -> int:
    with redis.Redis.from_url(server.url) as client:
        length: Any = client.xlen("hookmill:{0}:stream")
        return int(length)


async def the_spool_is_shared(server: Server, senders: Senders) -> None:
    server.kill()  # it forgets all
    accepted = len(senders.accepted)
    async with senders.sending():
        await more_accepted(senders)
    spooled = len(senders.accepted) - accepted
    server.start()
    await eventually(lambda: stored(server) == spooled, timeout=60, what="the spool to be drained")


async def test_what_a_killed_worker_held_is_handled_by_another_and_none_outlives_its_parent(
    server: Server, prefix: str, stream: Producer, start_program: Callable[..., Program],
    tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "app.py").write_text(HANDLERS)
    given = env(server, prefix) | {"HOOKMILL_LEASE": "2", "HOOKMILL_SHUTDOWN": "5"}
    parent = start_program("worker", "app:handlers", "--processes", "2", env=given)
    parent.wait_for(READY)
    names = {line["consumer"] for line in lines(parent, "working")}
    assert len(names) == 2
    assert {line["process"] for line in lines(parent, "working")} == {1, 2}
    await stream.append([message()])
    holder = int(wait_for_text(tmp_path / "held"))
    os.kill(holder, signal.SIGKILL)
    assert int(wait_for_text(tmp_path / "done")) != holder
    await eventually(lambda: len(lines(parent, "working")) == 3, timeout=60)
    running = pids_of(parent)
    parent.kill()
    wait_until(lambda: not any(map(is_alive, running)), what="the workers to end")
    assert len(lines(parent, "stopped")) == 2


def wait_for_text(path: Path) -> str:
    wait_until(lambda: path.exists() and path.read_text())
    return path.read_text()
