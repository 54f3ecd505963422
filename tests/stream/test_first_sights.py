"""For how long an event type has been unknown: it grows with time, and is bounded in every way.

To step Redis' clock, a test moves the time of the last look that is stored.
"""

from __future__ import annotations

import asyncio

import pytest
import redis

from hookmill.stream import first_sights
from hookmill.stream.first_sights import KEPT_FOR, MOST_GROWTH, FirstSights
from hookmill.stream.producer import Producer
from tests.stream.toolkit import now_ms


@pytest.fixture
def sights(stream: Producer) -> FirstSights:
    return FirstSights(stream.client, "main")


class Stored:
    """What is stored of types."""

    def __init__(self, client: redis.Redis, stream: Producer) -> None:
        self.client = client
        self.key = stream.partitions[0].of_group("main").first_sights

    def step(self, event_type: str, seconds: float) -> None:
        """Do as if Redis' clock had moved by so much since the last look."""
        unknown, looked = self.read(event_type)
        self.client.hset(self.key, event_type, f"{unknown} {looked - int(seconds * 1000)}")

    def read(self, event_type: str) -> tuple[int, int]:
        text = self.client.hget(self.key, event_type)
        assert isinstance(text, bytes)
        unknown, looked = text.split()
        return int(unknown), int(looked)


@pytest.fixture
def stored(redis_client: redis.Redis, stream: Producer) -> Stored:
    return Stored(redis_client, stream)


async def test_the_time_counts_from_the_first_sight_of_the_type(
    sights: FirstSights, stored: Stored
) -> None:
    assert await sights.look("a") == 0
    await asyncio.sleep(0.05)
    first = await sights.look("a")
    assert 0.05 <= first < 5
    stored.step("a", 10)
    assert first + 10 <= await sights.look("a") < first + 15
    assert await sights.look("b") == 0
    assert stored.client.ttl(stored.key) > KEPT_FOR - 10


async def test_a_step_of_redis_clock_ends_no_grace_period_early(
    sights: FirstSights, stored: Stored, redis_client: redis.Redis
) -> None:
    await sights.look("a")
    stored.step("a", 3600)
    assert await sights.look("a") == MOST_GROWTH
    stored.step("a", -3600)  # a look from the future
    assert await sights.look("a") == MOST_GROWTH
    assert stored.read("a")[1] <= now_ms(redis_client)


async def test_a_type_that_a_worker_knows_begins_anew(sights: FirstSights, stored: Stored) -> None:
    await sights.look("a")
    stored.step("a", 30)
    assert await sights.look("a") >= 30
    assert await sights.look("a", is_known=True) == 0
    stored.step("a", 20)
    assert 20 <= await sights.look("a") < 25


async def test_a_type_that_is_forgotten_begins_anew(sights: FirstSights, stored: Stored) -> None:
    for event_type in ("a", "b", "ä"):
        await sights.look(event_type)
        stored.step(event_type, 30)
    assert set(await sights.types()) == {"a", "b", "ä"}
    await sights.forget(["a", "ä"])
    await sights.forget([])
    assert await sights.types() == ["b"]
    assert await sights.look("a") == 0
    assert await sights.look("b") >= 30


async def test_a_type_that_was_not_seen_for_long_begins_anew(
    sights: FirstSights, stored: Stored
) -> None:
    await sights.look("a")
    stored.step("a", 30)
    await sights.look("a")
    stored.step("a", KEPT_FOR + 1)
    assert await sights.look("a") == 0


async def test_of_too_many_types_those_that_were_not_seen_for_longest_go(
    sights: FirstSights, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_sights, "MOST_TYPES", 20)
    await sights.look("seen")
    for number in range(100):
        await sights.look(f"made up {number}" + "x" * 10_000)
        stored.step("seen", 1)
        assert await sights.look("seen") >= number + 1
        assert len(await sights.types()) <= 21
    assert max(map(len, await sights.types())) <= 200


async def test_what_cannot_be_read_counts_as_never_seen(
    sights: FirstSights, stored: Stored
) -> None:
    stored.client.hset(stored.key, "a", "yesterday")
    assert await sights.look("a") == 0
