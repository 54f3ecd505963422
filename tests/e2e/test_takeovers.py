"""Takeovers with real worker processes: behind a proxy, without rights, under clocks that step."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.e2e.line import Line
from tests.peers.road import Road
from tests.support import (
    Program,
    Server,
    Stream,
    eventually,
    message,
    server_binaries,
    wait_until,
)

StartProgram = Callable[..., Program]
OwnServer = Callable[..., Server]

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
"""Steps the clock of the server that it is loaded into."""


async def send(url: str, *message_ids: str) -> None:
    stream = Stream(url, "t")
    await stream.append([message(id=name, type="post.published") for name in message_ids])
    await stream.close()


# --- behind a proxy that cuts idle connections ------------------------------------------------


@pytest.fixture
async def road(own_server: OwnServer) -> AsyncIterator[Road]:
    opened = Road(own_server().port, most_idle=4.0)
    yield opened
    await opened.close()


async def test_behind_a_proxy_that_cuts_idle_connections_a_killed_workers_message_is_handled(
    road: Road, start_program: StartProgram, tmp_path: Path
) -> None:
    """DandyDeveloper/charts#34: each cut connection looked like an outage, and after an outage
    nothing was taken over.
    """
    url = await road.open()
    line = Line(start_program, tmp_path, url, "t")
    lease = {"HOOKMILL_LEASE": "8"}
    healthy = await asyncio.to_thread(line.worker, LEDGER_PAUSE="20", **lease)
    await send(url, "long")
    await eventually(lambda: line.noted("begin")["long"])
    victim = await asyncio.to_thread(
        line.worker, LEDGER_PAUSE="600", HOOKMILL_CONCURRENCY="2", **lease
    )
    names = [f"m{number}" for number in range(4)]
    while not any(f" {victim.pid} " in row for row in line.ledger.read_text().splitlines()):
        await send(url, names.pop())  # until the victim has one
        await asyncio.sleep(0.1)
    victim.kill()
    killed = time.monotonic()
    (lost,) = {
        row.split()[1] for row in line.ledger.read_text().splitlines() if f" {victim.pid} " in row
    }
    healthy_too = await asyncio.to_thread(line.worker, **lease)
    await eventually(lambda: line.noted()[lost], timeout=45, what="the message to be handled")
    assert time.monotonic() - killed < 30
    await eventually(lambda: line.noted()["long"], timeout=30)
    assert road.cut > 0
    assert line.noted("begin")["long"] == 1
    assert "leases lost" not in healthy.log + healthy_too.log
    for program in (healthy, healthy_too):
        assert await asyncio.to_thread(program.stop) == 0


# --- without rights -------------------------------------------------------------------------


def test_a_user_without_dangerous_commands_takes_over(
    own_server: OwnServer, start_program: StartProgram, tmp_path: Path
) -> None:
    """conductor-oss/conductor#665: INFO was refused, and nothing was taken over."""
    server = own_server()
    with redis.Redis.from_url(server.url) as client:
        rights = ["+@all", "-@dangerous"]
        client.acl_setuser(
            "mill", enabled=True, passwords=["+pw"], categories=rights, keys=["*"], channels=["*"]
        )
    line = Line(start_program, tmp_path, server.url.replace("//", "//mill:pw@"), "t")
    victim = line.worker(LEDGER_PAUSE="600", HOOKMILL_LEASE="1")
    asyncio.run(send(server.url, "m"))
    wait_until(lambda: line.noted("begin")["m"], what="the message to begin")
    victim.kill()
    worker = line.worker(HOOKMILL_LEASE="1")
    line.wait_for_handled(1)
    assert worker.stop() == 0
    assert "NOPERM" not in worker.log


# --- a fleet that dies again and again ------------------------------------------------------


def test_a_fleet_whose_workers_are_all_killed_every_half_lease_still_takes_over(
    own_server: OwnServer, start_program: StartProgram, tmp_path: Path
) -> None:
    server = own_server()
    line = Line(start_program, tmp_path, server.url, "t")
    victim = line.worker(LEDGER_PAUSE="600", HOOKMILL_LEASE="4")
    asyncio.run(send(server.url, "m"))
    wait_until(lambda: line.noted("begin")["m"], what="the message to begin")
    victim.kill()
    lives = 0
    while not line.noted()["m"]:
        worker = line.worker(HOOKMILL_LEASE="4")
        time.sleep(2)
        worker.kill()
        lives += 1
        assert lives < 10
    assert lives > 1


# --- Redis' clock steps ---------------------------------------------------------------------


class Stepping:
    """A server whose clock a test can step."""

    def __init__(self, folder: Path) -> None:
        self._step = folder / "step"
        self.step(0)
        env = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._step),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.server = Server(server_binaries()["valkey"], folder, env=env)
        self.server.start()

    def step(self, seconds: int) -> None:
        self._step.write_text(f"{seconds:+d}\n")


@pytest.fixture
def stepping(tmp_path: Path) -> Iterator[Stepping]:
    if not FAKETIME.exists():
        pytest.skip("needs libfaketime")
    found = Stepping(tmp_path)
    yield found
    found.server.kill()


def test_steps_of_redis_clock_run_nothing_twice_and_keep_nothing_waiting(
    stepping: Stepping, start_program: StartProgram, tmp_path: Path
) -> None:
    """sidekiq-scheduler/sidekiq-scheduler#283: idle times jump."""
    line = Line(start_program, tmp_path, stepping.server.url, "t")
    lease = {"HOOKMILL_LEASE": "2", "HOOKMILL_CONCURRENCY": "10"}
    workers = [line.worker(LEDGER_PAUSE="4", **lease) for _ in range(2)]
    names = [f"m{number}" for number in range(12)]
    asyncio.run(send(stepping.server.url, *names))
    wait_until(lambda: len(line.noted("begin")) == 12, what="all to begin")
    for seconds in (3600, 0, -3600, 7200):
        stepping.step(seconds)
        time.sleep(0.8)
    line.wait_for_handled(12)
    assert line.noted("begin") == Counter(names)

    victim = line.worker(LEDGER_PAUSE="600", HOOKMILL_LEASE="2", HOOKMILL_CONCURRENCY="99")
    for worker in workers:
        assert worker.stop() == 0
    asyncio.run(send(stepping.server.url, "last"))
    wait_until(lambda: line.noted("begin")["last"], what="the last one to begin")
    victim.kill()
    stepping.step(-7200)
    killed = time.monotonic()
    worker = line.worker(HOOKMILL_LEASE="2")
    wait_until(lambda: line.noted()["last"], timeout=30, what="the last one to be handled")
    assert time.monotonic() - killed < 20
    assert worker.stop() == 0
