"""What a consumer does after a reply was lost, and while one takes long."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from hookmill.errors import StreamUnavailableError
from hookmill.stream.consumer import Consumer
from hookmill.stream.producer import Producer
from tests.stream.partitioned import append_to, partitions_of
from tests.stream.toolkit import settle_all

KB = 1000


def wake_another(client: redis.Redis, group: Consumer) -> None:
    """Another worker is woken for what was appended last, and will come too late."""
    assert client.zpopmin(group.partitions[0].wake)


async def taken_without_a_wait(group: Consumer) -> list[int]:
    """Take one entry at a time until nothing may be left; return their partitions."""
    found, has_more = list[int](), True
    while has_more:
        taken = await group.take(1)
        found += partitions_of(taken)
        await settle_all(group, *taken.entries)
        has_more = taken.has_more
    return found


async def test_what_a_worker_was_woken_for_is_found_at_once_where_its_take_failed(
    split: tuple[Producer, Consumer],
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream, group = split
    await append_to(stream, 3)
    assert await group.wait(10)
    await append_to(stream, 0)
    wake_another(redis_client, group)
    with monkeypatch.context() as patch:
        patch.setattr(group._scripts, "try_each", _fails)
        with pytest.raises(StreamUnavailableError):
            await group.take(1)
    assert await taken_without_a_wait(group) == [0, 3]


async def test_what_a_wake_up_announced_is_found_at_once_where_its_reply_was_lost(
    split: tuple[Producer, Consumer],
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream, group = split
    waits = group._wakeup._new_entries
    ask = waits.ask

    async def lose(*args: Any, **named: Any) -> Any:
        await ask(*args, **named)
        raise StreamUnavailableError("cut")

    await append_to(stream, 3)
    with monkeypatch.context() as patch:
        patch.setattr(waits, "ask", lose)
        with pytest.raises(StreamUnavailableError):
            await group.wait(10)
    await append_to(stream, 0)
    wake_another(redis_client, group)
    assert await taken_without_a_wait(group) == [0, 3]


async def _fails(*_: Any, **__: Any) -> Any:
    raise StreamUnavailableError("cut")


async def test_what_a_partition_gave_is_in_use_until_the_whole_take_has_ended(
    split: tuple[Producer, Consumer],
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # To ask them alone can take longer than a lease. Others must not take over meanwhile.
    stream, group = split
    for partition in (1, 2):
        await append_to(stream, partition, 80 * KB)
    run, in_use = group._scripts.try_each, list[set[int]]()

    async def notes(*args: Any, **named: Any) -> Any:
        in_use.append(group.in_use(0.0))
        return await run(*args, **named)

    monkeypatch.setattr(group._scripts, "try_each", notes)
    taken = await group.take(20, 100 * KB)
    assert partitions_of(taken) == [1, 2]
    assert in_use == [{0, 1, 2, 3}, {1}, {1, 2}, {1, 2}]  # at last it reads the pauses
    assert group.in_use(60) == {1, 2}
    assert group.in_use(0.0) == set()
    await settle_all(group, *taken.entries)
