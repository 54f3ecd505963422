"""A retry begins on time although most of the workers were killed or frozen meanwhile."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from hookmill.stream.keys import Keys
from tests.e2e.line import Line
from tests.support import Program, wait_until

HANDLERS = """
import os

from hookmill import Delivery, Handlers, Message, Retry
from ledger import _write

handlers = Handlers()


@handlers.on("order.paid")
async def work(delivery: Delivery[Message]) -> None:
    with open(os.environ["LEDGER"]) as ledger:
        is_first = f"begin {delivery.id} " not in ledger.read()
    _write("begin", delivery.id, delivery.attempt)
    if is_first:
        raise Retry(after=3)
    _write("end", delivery.id, delivery.attempt)
"""


@pytest.fixture
def line(line: Line, tmp_path: Path) -> Line:
    (tmp_path / "retrying.py").write_text(HANDLERS)
    return line


@pytest.mark.parametrize(
    ("killed", "how"),
    [(1, signal.SIGSTOP), (4, signal.SIGKILL)],
    ids=["the worker that delayed it stands still", "all but one are killed"],
)
async def test_a_retry_runs_on_time_although_workers_died_or_stand_still(
    line: Line,
    start_program: Callable[..., Program],
    redis_client: redis.Redis,
    killed: int,
    how: signal.Signals,
) -> None:
    keys = Keys(line.env["HOOKMILL_PREFIX"]).of_group("main")
    line.receiver()
    fleet = [
        start_program("worker", "retrying:handlers", env=line.env, name=f"worker-{number}")
        for number in range(5)
    ]
    for worker in fleet:
        worker.wait_for('"working"')
    # Each worker has two blocked clients: one waits for a message, one for a delayed message.
    wait_until(lambda: redis_client.info("clients")["blocked_clients"] >= 2 * len(fleet))
    assert await line.send([line.order(1)]) == {200: 1}
    wait_until(lambda: redis_client.zcard(keys.delayed) == 1, what="the message to be delayed")

    (row,) = line.ledger.read_text().splitlines()
    fleet.sort(key=lambda worker: worker.pid != int(row.split()[3]))
    for worker in fleet[:killed]:
        worker.signal(how)
    # A worker that gets no wake-up would look for it only after half a minute.
    line.wait_for_handled(1, timeout=20)
    line.wait_for_drained(redis_client)
    assert line.noted("begin") == {"msg_1": 2}
