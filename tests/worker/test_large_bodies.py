"""Large bodies and slow lines, with real worker processes."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.slow_line import SlowLine
from tests.support import Program, Stream, eventually, message
from tests.worker.processes import WorkerProcesses

MB = 1_000_000

LINE = 12.5 * MB
"""Bytes a second: a line of 100 Mbit/s."""

MOST_MEMORY = 256 * MB
"""The memory of a small container, in bytes."""

WORK = """
    @handlers.on("*")
    async def work(delivery: Delivery[Message]) -> None:
        await asyncio.sleep(0.1)
        say(f"ran {delivery.id}")
"""

MANY = """
    async def work(delivery: Delivery[Message]) -> None:
        say(f"ran {delivery.id}")

    for number in range(10):
        handlers.on("*", name=f"work-{number}")(work)
"""


async def append(processes: WorkerProcesses, size: int, count: int, name: str = "large") -> None:
    stream = Stream(processes.server.url, "hookmill")
    for number in range(count):
        await stream.append([message(bytes(size), id=f"{name}-{number}")])
    await stream.close()


def ran(*workers: Program) -> Counter[str]:
    """How often each message ran."""
    lines = [line for worker in workers for line in worker.log.splitlines()]
    return Counter(line.removeprefix("ran ") for line in lines if line.startswith("ran "))


def memory(worker: Program) -> int:
    """The memory that a process has now, in bytes; 0 if it has ended."""
    try:
        pages = Path(f"/proc/{worker.pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * 4096


@contextmanager
def watched(url: str) -> Iterator[list[float]]:
    """Measure how long Redis answers nobody: the list has the seconds of each PING."""
    waits: list[float] = []
    ended = threading.Event()

    def ask() -> None:
        with redis.Redis.from_url(url) as client:
            while not ended.wait(0.01):
                before = time.monotonic()
                client.ping()
                waits.append(time.monotonic() - before)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield waits
    finally:
        ended.set()
        thread.join()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="it reads the memory in /proc")
async def test_a_worker_that_is_killed_beyond_its_memory_handles_many_large_messages(
    processes: WorkerProcesses,
) -> None:
    await append(processes, 8 * MB, 60)
    workers = [processes.start(WORK, HOOKMILL_LEASE="2")]
    deadline = time.monotonic() + 120
    while len(ran(*workers)) < 60 and time.monotonic() < deadline:
        if memory(workers[-1]) > MOST_MEMORY:
            workers[-1].kill()
            workers.append(processes.start(WORK, HOOKMILL_LEASE="2"))
        await asyncio.sleep(0.01)
    assert len(ran(*workers)) == 60
    assert len(workers) <= 4, "it died more than three times"
    assert workers[-1].stop() == 0


async def test_redis_neither_stands_nor_doubles_while_large_messages_are_taken(
    processes: WorkerProcesses,
) -> None:
    await append(processes, 10 * MB, 40)
    with redis.Redis.from_url(processes.server.url) as client:
        before = int(client.info("memory")["used_memory"])
        with watched(processes.server.url) as waits:
            worker = processes.start(WORK)
            await eventually(lambda: len(ran(worker)) == 40, timeout=120)
        assert int(client.info("memory")["used_memory_peak"]) - before < 150 * MB
    # A take of all at once stops it for some 1.5 s where nothing else runs, and takes 400 MB more.
    assert max(waits) < 1.5
    assert worker.stop() == 0


async def test_behind_a_slow_line_every_message_is_handled_once(processes: WorkerProcesses) -> None:
    await append(processes, MB, 100)
    async with SlowLine(processes.server.url, int(LINE), both_ways=True).open() as line:
        worker = processes.start(WORK, REDIS_URL=line.url, HOOKMILL_LEASE="2")
        for number in range(3):
            await append(processes, 10, 1, f"small-{number}")
            await asyncio.sleep(1)
        await eventually(lambda: len(ran(worker)) == 103, timeout=120)
        await eventually(lambda: not processes.pending)
        assert set(ran(worker).values()) == {1}
        worker.signal(signal.SIGTERM)
        await eventually(lambda: worker.returncode == 0)
    assert "cannot take" not in worker.log


async def test_behind_a_slow_line_ten_handlers_of_a_large_message_are_settled(
    processes: WorkerProcesses,
) -> None:
    await append(processes, 10 * MB, 2)
    async with SlowLine(processes.server.url, int(LINE), both_ways=True).open() as line:
        worker = processes.start(MANY, REDIS_URL=line.url)
        await eventually(lambda: sum(ran(worker).values()) == 20, timeout=120)
        await eventually(processes.is_drained, timeout=60)
        worker.signal(signal.SIGTERM)
        await eventually(lambda: worker.returncode == 0)
    assert set(ran(worker).values()) == {10}
    assert "cannot settle" not in worker.log
