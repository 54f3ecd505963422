"""A fleet of real workers heeds a pause under load, also while one of them is killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from hookmill.stream.keys import Keys
from tests.e2e.line import Line
from tests.support import Program, wait_until

HANDLERS = """
import asyncio

from hookmill import Delivery, Handlers, Message
from ledger import _write

handlers = Handlers()
failed = set()


@handlers.on("order.paid", attempts=3, name="work", aliases=("worked",))
async def work(delivery: Delivery[Message]) -> None:
    _write("begin", delivery.id, delivery.attempt)
    await asyncio.sleep(0.002)
    if delivery.id.endswith("7") and delivery.attempt == 1:
        raise ValueError("once")
    _write("end", delivery.id, delivery.attempt)
"""


@pytest.fixture
def line(line: Line, tmp_path: Path) -> Line:
    (tmp_path / "pausing.py").write_text(HANDLERS)
    return line


def begun(line: Line) -> set[str]:
    return set(line.noted("begin"))


@pytest.mark.one_server  # it is about processes
async def test_a_fleet_begins_nothing_after_a_pause_and_loses_nothing_when_a_worker_is_killed(
    line: Line, start_program: Callable[..., Program], redis_client: redis.Redis
) -> None:
    keys = Keys(line.env["HOOKMILL_PREFIX"]).of_group("main")
    env = line.env | {"HOOKMILL_LEASE": "2"}
    line.receiver()
    fleet = [
        start_program("worker", "pausing:handlers", env=env, name=f"worker-{number}")
        for number in range(3)
    ]
    for worker in fleet:
        worker.wait_for('"working"')
    assert await line.send([line.order(n) for n in range(300)]) == {200: 300}
    wait_until(lambda: len(begun(line)) > 50)
    line.hookmill("pause", "--handler", "worked", "--why", "a drill")
    assert await line.send([line.order(n) for n in range(300, 600)]) == {200: 300}

    def held_back() -> int:
        count: Any = redis_client.hget(keys.paused, "count")
        return int(count or 0)

    wait_until(lambda: held_back() >= 300, what="all that came since to be held back")
    later = {f"msg_{n}" for n in range(300, 600)}
    assert not later & begun(line)  # however soon they came, no worker has begun one of them
    fleet[0].kill()
    before = held_back()  # it grows while workers set aside what they held
    (noted,) = [json.loads(row) for row in line.hookmill("pause", "--list", "--json").splitlines()]
    assert (noted["handler"], noted["why"]) == ("work", "a drill")
    assert before <= noted["held_back"] <= held_back()

    assert "put back" in line.hookmill("resume", "--handler", "work")
    line.wait_for_handled(600)
    line.wait_for_drained(redis_client)
    again = {name for name, times in line.noted("begin").items() if times > 1}
    assert {name for name in again if not name.endswith("7")} == set()
    assert set(line.noted("end").values()) == {1}
    assert not redis_client.exists(keys.paused)
    for worker in fleet[1:]:  # their heartbeats come often, and would outlast the test's keys
        assert worker.stop() == 0
