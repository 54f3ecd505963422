"""Dead letters beyond a bound are dropped, the oldest first; without a bound none is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis
import structlog

from hookmill.message import Death, Progress
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import FollowUp, Settlement
from hookmill.stream.producer import Producer
from tests.support import Clock, Server, Stream, dead_letters, message, wait_until
from tests.worker.processes import WorkerProcesses
from worker import dead_letter_bounds as bounds_module
from worker.dead_letter_bounds import Bounds, DeadLetterBounds

OpenGroup = Callable[..., Awaitable[Consumer]]

HOUR = 3600.0


class Dying:
    """A group whose messages die, and the bounds that a test sets for its dead letters."""

    def __init__(self, stream: Producer, group: Consumer) -> None:
        self.stream = stream
        self.group = group
        self.letters = DeadLetters(stream.client, group.name, drains=True)
        self.clock = Clock()
        self.clock.now = time.time()

    async def die(self, *ids: str, body: bytes = b"{}", age: float = 0.0) -> None:
        """Have messages with these IDs die, `age` seconds ago."""
        await self.stream.append([message(body, id=one) for one in ids])
        died = int((self.clock.now - age) * 1000)
        settlements = []
        for entry in (await self.group.take(len(ids))).entries:
            progress = Progress(owner=entry.ref.id, handler="work")
            death = Death(reason="failed", error="", died_ms=died)
            fields = {**entry.fields, **progress.to_fields(), **death.to_fields()}
            settlements.append(Settlement(entry.ref, (FollowUp("dead", "t", fields),)))
        await self.group.settle(settlements)

    def bounded(self, **bounds: Any) -> DeadLetterBounds:
        return DeadLetterBounds(self.letters, Bounds(**bounds), clock=self.clock)

    async def left(self) -> list[str]:
        return [one.fields[b"id"].decode() for one in await dead_letters(self.stream)]


@pytest.fixture
async def dying(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> AsyncIterator[Dying]:
    group = await open_group()
    yield Dying(stream, group)
    redis_client.delete(group.partitions[0].dead)


async def test_without_a_bound_nothing_is_dropped(dying: Dying) -> None:
    await dying.die("m0", "m1", age=1000 * HOUR)
    await dying.bounded().enforce()
    assert await dying.left() == ["m0", "m1"]


async def test_the_oldest_beyond_the_number_are_dropped_and_logged(dying: Dying) -> None:
    await dying.die(*(f"m{n}" for n in range(6)))
    first = (await dead_letters(dying.stream))[0].id
    bounds = dying.bounded(messages=2)
    with structlog.testing.capture_logs() as logs:
        await bounds.enforce()
        await bounds.enforce()
    assert await dying.left() == ["m4", "m5"]
    (line,) = logs
    assert (line["log_level"], line["count"], line["oldest"]) == ("warning", 4, first)
    assert line["handlers"] == ["work"]


async def test_a_dropped_one_releases_its_message_id(dying: Dying) -> None:
    await dying.die("m0", "m1")
    await dying.bounded(messages=1).enforce()
    await dying.stream.append([message(id="m0"), message(id="m1")])
    taken = await dying.group.take(10)
    assert [entry.fields[b"id"] for entry in taken.entries] == [b"m0"]
    assert [duplicate.message_id for duplicate in taken.duplicates] == ["m1"]
    await dying.group.settle([Settlement(entry.ref) for entry in taken.entries])


async def test_what_is_too_old_is_dropped_by_two_clocks(
    dying: Dying, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds_module, "LONGEST_PAUSE", 0.0)
    await dying.die("m0", "m1")
    bounds = dying.bounded(age=HOUR)
    dying.clock.now += 2 * HOUR  # this machine's clock alone was set forward
    await bounds.enforce()
    assert await dying.left() == ["m0", "m1"]
    _age_by_redis(redis_client, dying.group.partitions[0].dead, 2 * HOUR)
    await bounds.enforce()
    assert await dying.left() == []
    await dying.die("young")
    await bounds.enforce()
    assert await dying.left() == ["young"]


def _age_by_redis(client: redis.Redis, key: str, seconds: float) -> None:
    """Write dead letters again as if they had been written earlier."""
    rows: Any = client.xrange(key)
    client.delete(key)
    for entry_id, fields in rows:
        ms, _, sequence = entry_id.decode().partition("-")
        client.xadd(key, fields, id=f"{int(ms) - int(seconds * 1000)}-{sequence}")


async def test_a_young_one_is_looked_at_only_when_it_may_be_too_old(
    dying: Dying, monkeypatch: pytest.MonkeyPatch
) -> None:
    await dying.die("m0")
    bounds = dying.bounded(age=HOUR)
    await bounds.enforce()
    looked: list[int] = []
    monkeypatch.setattr(dying.letters, "oldest", looked.append)
    await bounds.enforce()
    assert not looked


async def test_the_oldest_beyond_the_bytes_are_dropped(dying: Dying) -> None:
    await dying.die("small0", "small1")
    await dying.die("large0", "large1", "large2", body=b"x" * 500_000)
    await dying.die("small2")
    await dying.bounded(bytes=2_000_000).enforce()
    assert len(await dying.left()) == 6
    bounds = dying.bounded(bytes=1_200_000)
    await bounds.enforce()
    assert await dying.left() == ["large1", "large2", "small2"]
    assert await dying.letters.memory() <= 1_200_000
    await bounds.enforce()
    assert len(await dying.left()) == 3


async def test_without_the_right_to_measure_the_other_bounds_hold_and_that_is_logged(
    server: Server, prefix: str, dying: Dying, redis_client: redis.Redis
) -> None:
    redis_client.acl_setuser(
        "limited", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-memory"]
    )
    await dying.die("m0", "m1")
    limited = Stream(server.url.replace("://", "://limited:pw@"), prefix)
    letters = DeadLetters(limited.client, "main", drains=True)
    with structlog.testing.capture_logs() as logs:
        await DeadLetterBounds(letters, Bounds(messages=1, bytes=1)).enforce()
        await DeadLetterBounds(letters, Bounds(bytes=1)).enforce()
    assert await dying.left() == ["m1"]
    assert {line["event"] for line in logs} == {
        "HOOKMILL_DEAD_BYTES has no effect",
        "dead letters dropped: beyond a bound",
    }
    redis_client.acl_deluser("limited")
    await limited.close()


async def test_many_are_dropped_in_steps_of_few(
    dying: Dying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds_module, "AT_ONCE", 3)
    monkeypatch.setattr(bounds_module, "STEPS", 2)
    await dying.die(*(f"m{n:02}" for n in range(10)))
    bounds = dying.bounded(messages=1)
    await bounds.enforce()
    assert len(await dying.left()) == 4
    await bounds.enforce()
    assert await dying.left() == ["m09"]


@pytest.mark.parametrize("moment", ["before it reads", "after it has read"])
async def test_two_workers_that_drop_at_the_same_time_drop_no_more_than_one(
    dying: Dying, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    await dying.die(*(f"m{n}" for n in range(6)))
    first, second = dying.bounded(messages=4), dying.bounded(messages=4)
    oldest = dying.letters.oldest

    async def oldest_while_the_other_drops(count: int) -> Any:
        monkeypatch.setattr(dying.letters, "oldest", oldest)
        if moment == "before it reads":
            await second.enforce()
            return await oldest(count)
        found = await oldest(count)
        await second.enforce()
        return found

    monkeypatch.setattr(dying.letters, "oldest", oldest_while_the_other_drops)
    await first.enforce()
    assert await dying.left() == ["m2", "m3", "m4", "m5"]


async def test_the_oldest_of_all_partitions_are_dropped(
    server: Server, prefix: str, redis_client: redis.Redis
) -> None:
    stream = Stream(server.url, prefix, partitions=4)
    group = Consumer(stream.client, "main", "c1", dedup_window=3600)
    await group.open()
    dying = Dying(stream, group)
    for n in range(12):
        await dying.die(f"m{n}")
    before = await dying.left()
    await dying.bounded(messages=5).enforce()
    assert await dying.left() == before[7:]
    redis_client.delete(*(keys.dead for keys in group.partitions))
    await group.close()
    await stream.close()


def test_dead_letters_that_fill_redis_are_dropped_by_a_worker_and_messages_go_on(
    processes: WorkerProcesses,
) -> None:
    """Dead letters once filled Redis, and every delivery was refused."""
    worker = processes.start(
        """
        @handlers.on("bad", attempts=1)
        async def bad(delivery):
            raise ValueError("bad")
        """,
        HOOKMILL_DEAD_BYTES="20000000",
    )
    worker.wait_for("working")
    with redis.Redis.from_url(processes.server.url) as client:
        client.config_set("maxmemory", 100_000_000)
        for n in range(1, 121):
            processes.send("bad", body=b"x" * 1_000_000)
            if n % 20 == 0:
                wait_until(lambda: _megabytes(client) < 40)
    assert "dead letters dropped" in worker.log
    wait_until(processes.is_drained)


def _megabytes(client: redis.Redis) -> float:
    facts: Any = client.info("memory")
    return float(facts["used_memory"]) / 1_000_000
