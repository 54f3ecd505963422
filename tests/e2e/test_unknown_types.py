"""Messages of event types that no handler knows, beside those that are handled."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
import redis

from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.keys import Keys
from tests.e2e.line import Line, settle_down, unfinished
from tests.support import Program, Stream, message, wait_until
from worker.unknown_types import knows

pytestmark = pytest.mark.one_server  # tests/stream/test_first_sights.py has both servers

UNKNOWN = ("created", "labelled", "renamed", "deleted")


async def test_unknown_types_do_not_hold_up_the_messages_of_their_ordering_key(
    line: Line, redis_client: redis.Redis, prefix: str
) -> None:
    stream = Stream(line.env["REDIS_URL"], prefix)
    worker = line.worker(HOOKMILL_GRACE="8")
    began = time.monotonic()
    await stream.append(
        [message(id=name, type=f"repo.{name}", key="repo-7") for name in UNKNOWN]
        + [message(id=f"push-{n}", type="post.pushed", key="repo-7") for n in range(3)]
    )
    line.wait_for_handled(3)
    assert time.monotonic() - began < 8  # none waited for a grace period
    ended = [row.split()[1] for row in line.ledger.read_text().splitlines() if row[:3] == "end"]
    assert ended == ["push-0", "push-1", "push-2"]

    # They become dead letters as before, one grace period after they came.
    wait_for_dead_letters(line, redis_client, len(UNKNOWN))
    assert {row["reason"] for row in dead_letters(line)} == {"unhandled"}
    assert {row["message_id"] for row in dead_letters(line)} == set(UNKNOWN)
    assert not unfinished(redis_client, prefix, 1, trimmed=False)
    assert "dropped 4 of 4" in line.hookmill("dead", "drop", "--all", "--yes")
    assert worker.stop() == 0
    await stream.close()


async def test_the_grace_period_counts_from_the_first_message_of_the_type(
    line: Line, redis_client: redis.Redis, prefix: str
) -> None:
    stream = Stream(line.env["REDIS_URL"], prefix)
    worker = line.worker(HOOKMILL_GRACE="3")
    await stream.append([message(id="first", type="repo.created")])
    wait_for_dead_letters(line, redis_client, 1)
    assert dead(line) == ["first"]
    assert waited("first", worker)

    await stream.append([message(id="second", type="repo.created")])
    wait_for_dead_letters(line, redis_client, 2)
    assert dead(line) == ["first", "second"]
    assert not waited("second", worker)
    assert "dropped 2 of 2" in line.hookmill("dead", "drop", "--all", "--yes")
    assert worker.stop() == 0
    await stream.close()


async def test_the_grace_period_begins_anew_after_a_deploy_that_knew_the_type(
    line: Line, redis_client: redis.Redis, prefix: str, tmp_path: Path
) -> None:
    stream = Stream(line.env["REDIS_URL"], prefix)
    old = line.worker(HOOKMILL_GRACE="120")
    # The type has been unknown for an hour.
    seconds, _ = redis_client.time()
    sights = stream.partitions[0].of_group("main").first_sights
    redis_client.hset(sights, "repo.created", f"3600000 {seconds * 1000}")
    await stream.append([message(id="too-late", type="repo.created")])
    wait_for_dead_letters(line, redis_client, 1)
    assert dead(line) == ["too-late"]
    assert not waited("too-late", old)

    # A release that knows the type, beside the one that does not.
    source = tmp_path / "ledger.py"
    source.write_text(source.read_text().replace('on("post.*")', 'on("repo.*")'))
    new = line.worker()
    await somebody_knows(stream, "repo.created")
    settle_down(1.5)  # the old one asks again who lives
    await stream.append([message(id=f"new-{n}", type="repo.created") for n in range(10)])
    line.wait_for_handled(10)
    assert dead(line) == ["too-late"]

    # It is rolled back. What comes now waits for its return.
    assert new.stop() == 0
    settle_down(1.5)
    await stream.append([message(id="waits", type="repo.created")])
    wait_until(lambda: waited("waits", old), what="a message that waits")
    new = line.worker()
    line.wait_for_handled(11)
    assert "dropped 1 of 1" in line.hookmill("dead", "drop", "--all", "--yes")
    assert [old.stop(), new.stop()] == [0, 0]
    await stream.close()


async def somebody_knows(stream: Stream, event_type: str) -> None:
    """Wait until a worker's heartbeat says that it knows a type."""
    heartbeats = Heartbeats(stream.client, "main")
    async with asyncio.timeout(30):
        while not knows(await heartbeats.read(), event_type):  # noqa: ASYNC110 - it is in Redis
            await asyncio.sleep(0.05)


def waited(name: str, worker: Program) -> bool:
    """Whether a worker has put a message off."""
    rows = worker.log.splitlines()
    return any("will run again" in row and f'"{name}"' in row for row in rows)


def wait_for_dead_letters(line: Line, client: redis.Redis, count: int) -> None:
    """Wait for them in Redis, because each look with the command starts a program."""
    key = Keys(line.env["HOOKMILL_PREFIX"]).of_group("main").dead
    wait_until(lambda: client.xlen(key) == count, timeout=30, what=f"{count} dead letters")


def dead(line: Line) -> list[str]:
    return [row["message_id"] for row in dead_letters(line)]


def dead_letters(line: Line) -> list[dict[str, str]]:
    return [json.loads(row) for row in line.hookmill("dead", "list", "--json").splitlines()]
