"""A message that kills its workers runs alone, and is buried when it goes on killing."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from tests.e2e.line import Line
from tests.support import Program, Server, wait_until

POISON = """
import asyncio, os, signal
from hookmill import Delivery, Handlers, Message

handlers = Handlers()
ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@handlers.on("*")
async def work(delivery: Delivery[Message]) -> None:
    os.write(ledger, f"begin {delivery.id} 1 {os.getpid()} 0\\n".encode())
    if delivery.id == "msg_13":
        await asyncio.sleep(0.05)  # the neighbours are on their way
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(0.2)
    os.write(ledger, f"end {delivery.id} 1 {os.getpid()} 0\\n".encode())
"""


async def test_a_message_that_kills_its_workers_is_not_blamed_on_others(
    start_program: Callable[..., Program],
    tmp_path: Path,
    server: Server,
    prefix: str,
    redis_client: redis.Redis,
) -> None:
    line = Line(start_program, tmp_path, server.url, prefix)
    (tmp_path / "poison.py").write_text(POISON)
    line.receiver()
    env = line.env | {"HOOKMILL_LEASE": "0.5", "HOOKMILL_CONCURRENCY": "20"}
    worker = start_program("worker", "poison:handlers", env=env)
    assert await line.send(line.order(n) for n in range(20)) == {200: 20}

    deaths = 0
    dead = f"{prefix}:{{0}}:main:dead"

    def is_over() -> bool:
        nonlocal worker, deaths
        if worker.returncode is not None:
            assert worker.returncode == -signal.SIGKILL, worker.log
            deaths += 1
            worker = start_program("worker", "poison:handlers", env=env)
        return bool(redis_client.xlen(dead)) and len(line.noted()) == 19

    wait_until(is_over, timeout=60, what="19 handled messages and a dead letter")
    line.wait_for_drained(redis_client)
    assert worker.stop() == 0

    rows: Any = redis_client.xrange(dead)
    ((_, letter),) = rows
    assert (letter[b"id"], letter[b"reason"]) == (b"msg_13", b"crashed")
    # Twice among others, three times alone: no more, and no neighbour was taken along after that.
    assert deaths == 5
    begun = line.noted("begin")
    assert begun.pop("msg_13") == 5
    assert max(begun.values()) <= 3
    assert not redis_client.exists(f"{prefix}:{{0}}:main:suspects")
    redis_client.delete(dead)
