"""The places for refused deliveries: few, shared, and not to be flooded or flushed."""

from __future__ import annotations

from typing import Any

import redis

from hookmill.stream.producer import Producer
from hookmill.stream.refused import (
    GROWS_AFTER,
    KEPT_FOR,
    PAUSE,
    RefusedDeliveries,
    RefusedDelivery,
    RefusedPlace,
    order_of,
)


def delivery(source: str = "shop", body: bytes = b"{}") -> RefusedDelivery:
    return RefusedDelivery(source=source, status=401, code="wrong", detail="It is.", body=body)


class Places:
    """The places of a stream. `age` lets time pass for what is there."""

    def __init__(self, stream: Producer, client: redis.Redis, prefix: str) -> None:
        self.kept = RefusedDeliveries(stream.client)
        self._client, self.key = client, f"{prefix}:{{0}}:refused"

    def age(self, seconds: float) -> None:
        found: dict[Any, Any] = self._client.hgetall(self.key)
        for field, at_ms in found.items():
            self._client.hset(self.key, field, int(at_ms) - int(seconds * 1000))

    async def fill(self, source: str, most: int, times: int) -> int:
        """Ask so many times, without waiting; return how many places were given."""
        given = 0
        for _ in range(times):
            given += bool((await self.kept.claim(source, most)).id)
            self.age(30.0)
        return given


async def test_a_source_gets_one_each_ten_seconds_and_the_more_it_has_the_later(
    stream: Producer, redis_client: redis.Redis, prefix: str
) -> None:
    places = Places(stream, redis_client, prefix)
    for number in range(GROWS_AFTER + 2):
        assert (await places.kept.claim("shop", 100)).id
        is_long = number + 1 >= GROWS_AFTER
        pause = 2 * PAUSE if is_long else PAUSE
        refused = await places.kept.claim("shop", 100)
        assert not refused.id
        assert pause - 5 < refused.wait <= pause
        assert (await places.kept.claim(f"other {number}", 100)).id  # another need not wait
        places.age(pause)


async def test_no_source_takes_more_than_half_of_what_the_others_leave_free(
    stream: Producer, redis_client: redis.Redis, prefix: str
) -> None:
    places = Places(stream, redis_client, prefix)
    assert await places.fill("flooded", 8, 10) == 4
    assert await places.fill("second", 8, 10) == 2
    assert await places.fill("third", 8, 10) == 1
    full = await places.kept.claim("flooded", 8)
    assert not full.id
    assert len(await places.kept.places()) == 7
    assert full.wait > PAUSE  # nothing is thrown out: it waits until the oldest place is free
    places.age(KEPT_FOR)
    assert (await places.kept.claim("flooded", 8)).id
    assert len(await places.kept.places()) == 1


async def test_the_only_place_can_be_taken(stream: Producer) -> None:
    assert (await RefusedDeliveries(stream.client).claim("shop", 1)).id
    assert not (await RefusedDeliveries(stream.client).claim("other", 1)).id


async def test_a_clock_that_was_set_back_blocks_nobody(
    stream: Producer, redis_client: redis.Redis, prefix: str
) -> None:
    places = Places(stream, redis_client, prefix)
    assert (await places.kept.claim("shop", 2)).id
    places.age(-86_400)
    assert (await places.kept.claim("shop", 2)).id


async def test_what_is_kept_expires_and_is_read_back_as_it_was(
    stream: Producer, redis_client: redis.Redis, prefix: str
) -> None:
    kept = RefusedDeliveries(stream.client)
    first, empty = await kept.claim("shop", 9), await kept.claim("a b", 9)
    await kept.put(first, delivery())
    places = await kept.places()
    assert [(place[0], place[2]) for place in places] == [(first.id, "shop"), (empty.id, "a b")]
    (found,) = await kept.get(places)
    assert (found.id, found.delivery) == (first.id, delivery())
    for key in (f"{prefix}:{{0}}:refused", f"{prefix}:{{0}}:refused:{first.id}"):
        assert 0 < int(redis_client.ttl(key)) <= KEPT_FOR
    redis_client.set(f"{prefix}:{{0}}:refused:{empty.id}", b"\xc1")
    assert [one.id for one in await kept.get(places)] == [first.id]
    assert await kept.get([]) == []


def test_ids_are_sorted_by_time_and_whatever_was_written_can_be_sorted() -> None:
    assert sorted(["10-0", "9-11", "9-2", "x"], key=order_of) == ["x", "9-2", "9-11", "10-0"]
    assert RefusedPlace("1-0", 0.0).id == "1-0"
