"""Who is alive, with real worker processes: idle, killed, blocked and stopped ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from hookmill.admin.group_checks import judge_groups
from hookmill.config.settings import Settings
from hookmill.stream import facts
from hookmill.stream.facts import GroupFacts
from hookmill.stream.inspector import Inspector
from hookmill.stream.producer import Producer
from tests.e2e.line import Line
from tests.support import Program, eventually, message

LEASE = 2.0

LONG_LEASE = 6.0
"""For a blocked worker: its leases are renewed for ten leases only, and a busy machine takes
seconds for each command that looks at it.
"""


@pytest.fixture
def worker(line: Line) -> Callable[..., Program]:
    def start(lease: float = LEASE) -> Program:
        return line.worker(HOOKMILL_LEASE=str(lease))

    return start


async def group_of(stream: Producer) -> GroupFacts | None:
    overview = await Inspector(stream.client).overview()
    return next((group for group in overview.groups if group.name == "main"), None)


async def with_heartbeats(stream: Producer, count: int) -> GroupFacts:
    found: list[GroupFacts] = []

    async def is_so() -> bool:
        group = await group_of(stream)
        if group is not None:
            found.append(group)
        return group is not None and len(group.heartbeats) == count

    await eventually(is_so, what=f"{count} heartbeats")
    return found[-1]


async def test_an_idle_worker_counts_however_long_redis_did_not_hear_of_its_consumer(
    stream: Producer,
    worker: Callable[..., Program],
    settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(facts, "SILENCE", 0.0)  # so that two seconds count as a minute
    running = worker(lease=60)  # nor does it sweep meanwhile
    await stream.append([message(type="post.published")])  # from here on Redis knows the consumer

    async def is_idle() -> bool:
        group = await group_of(stream)
        return bool(group and group.consumers and group.consumers[0].idle_ms > LEASE * 1000)

    await eventually(is_idle, what="an idle consumer")
    group = await with_heartbeats(stream, 1)

    assert group.workers(LEASE) == 1
    assert group.heartbeats[0].pid == running.pid
    assert group.heartbeats[0].handlers == {
        "note_order": ("order.paid",),
        "note_post": ("post.*",),
    }
    # It holds nothing, but the group has work: nobody is told that no worker runs.
    waiting = msgspec.structs.replace(group, delayed=1)
    overview = await Inspector(stream.client).overview()
    judged = msgspec.structs.replace(overview, groups=(waiting,))
    assert list(judge_groups(judged, settings(lease=LEASE))) == []
    assert running.stop() == 0


async def test_a_killed_workers_heartbeat_is_gone_within_a_lease(
    stream: Producer, worker: Callable[..., Program], redis_client: redis.Redis
) -> None:
    victim, survivor = worker(), worker()
    await with_heartbeats(stream, 2)
    victim.kill()
    # It is waited for for half a minute. One that no lease ended would be there for a minute.
    group = await with_heartbeats(stream, 1)
    assert [one.pid for one in group.heartbeats] == [survivor.pid]
    assert group.workers(60.0) == 1

    survivor.kill()
    keys = stream.partitions[0].of_group("main")
    await eventually(lambda: not redis_client.exists(keys.heartbeats, keys.heartbeat_times))


async def test_a_worker_with_a_blocked_event_loop_loses_its_heartbeat_and_keeps_its_messages(
    stream: Producer,
    worker: Callable[..., Program],
    line: Line,
    redis_client: redis.Redis,
    tmp_path: Path,
) -> None:
    blocked = _blocking_worker(worker, line, tmp_path)
    await with_heartbeats(stream, 1)
    await stream.append([message(type="block")])
    group = await with_heartbeats(stream, 0)
    keys = stream.partitions[0].of_group("main")
    number = int(str(group.consumers[0].lease_number))
    name = group.consumers[0].name

    def is_raised() -> bool:
        return int(redis_client.hget(keys.lease_numbers, name) or 0) > number + 3

    def is_held() -> bool:
        (held,) = _pending(redis_client, keys.stream)
        assert held["times_delivered"] == 1
        return bool(held["time_since_delivered"] < LONG_LEASE * 1000)

    async def is_found_blocked() -> bool:
        group = await with_heartbeats(stream, 0)
        return (group.workers(LONG_LEASE), [one.name for one in group.blocked(LONG_LEASE)]) == (
            0,
            [name],
        )

    await eventually(is_raised)  # for longer than a lease
    # Each of these is waited for, because on a busy machine a renewal comes late.
    await eventually(is_held)
    await eventually(is_found_blocked)
    fault = f"worker {name} in group main is sick: loop_blocked"
    await eventually(lambda: fault in _findings(line), timeout=60)
    await eventually(lambda: "its event loop is blocked" in line.hookmill("status"), timeout=60)

    (tmp_path / "go").touch()
    group = await with_heartbeats(stream, 1)
    assert group.workers(LONG_LEASE) == 1
    assert blocked.stop() == 0


def _pending(client: redis.Redis, stream: str) -> Any:
    return client.xpending_range(stream, "main", "-", "+", 10)


def _blocking_worker(worker: Callable[..., Program], line: Line, folder: Path) -> Program:
    """Start a worker whose handler blocks its event loop until there is a file `go`."""
    (folder / "ledger.py").write_text(
        "import os, time\n"
        "from hookmill import Handlers\n"
        "handlers = Handlers()\n"
        "@handlers.on('block')\n"
        "async def block(delivery):\n"
        "    while not os.path.exists('go'):\n"
        "        time.sleep(0.02)\n"
    )
    line.env["HOOKMILL_LEASE"] = str(LONG_LEASE)  # `status` and `check` judge by it
    return worker(lease=LONG_LEASE)


def _findings(line: Line) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "hookmill", "check", "--json"],
        env={"PATH": os.environ["PATH"], **line.env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,  # it finds something
    )
    return [json.loads(row)["what"] for row in done.stdout.splitlines()]


async def test_a_stop_removes_what_the_worker_said_of_itself(
    stream: Producer, worker: Callable[..., Program], redis_client: redis.Redis, line: Line
) -> None:
    running = worker()
    group = await with_heartbeats(stream, 1)
    shown: Any = json.loads(line.hookmill("status", "--json"))
    (row,) = shown["groups"]
    assert (row["workers"], row["heartbeats"][0]["pid"]) == (1, running.pid)
    assert f"main: {group.heartbeats[0].name} holds 0; " in line.hookmill("status")
    assert running.stop() == 0
    keys = stream.partitions[0].of_group("main")
    assert not redis_client.exists(keys.heartbeats, keys.heartbeat_times, keys.lease_numbers)
