"""What somebody deletes from a stream, or trims, is in the index still; no key waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Settlement, Taken
from hookmill.stream.producer import Producer
from tests.stream.direct import append, names
from tests.stream.toolkit import OpenGroup, ids, pending

BATCH = 20
"""Messages of a record of the index. A read that ends with a record can believe the wrong ones."""


def entry(client: redis.Redis, key: str, name: str) -> Any:
    """The ID and the fields of a message's entry."""
    entries: Any = client.xrange(key)
    return next(one for one in entries if one[1][b"id"] == name.encode())


def delete_one(client: redis.Redis, key: str) -> list[str]:
    client.xdel(key, entry(client, key, "m23")[0])
    return ["m23"]


def delete_the_oldest(client: redis.Redis, key: str) -> list[str]:
    first, _ = entry(client, key, "m20")
    client.xtrim(key, minid=first.decode(), approximate=False)  # what is finished
    client.xdel(key, first)
    return ["m20"]


def replace_one(client: redis.Redis, key: str) -> list[str]:
    """There are as many as before, and the last one is not in the index."""
    entry_id, fields = entry(client, key, "m23")
    client.xdel(key, entry_id)
    client.xadd(key, fields)
    return []


def trim_half(client: redis.Redis, key: str) -> list[str]:
    client.xtrim(key, maxlen=3 * BATCH, approximate=False)
    return names(BATCH, 4 * BATCH)


async def settle(group: Consumer, taken: Taken) -> list[str]:
    await group.settle([Settlement(one.ref, (), one.key, one.owner) for one in taken.entries])
    return ids(taken.entries)


@pytest.mark.parametrize("lose", [delete_one, delete_the_oldest, replace_one, trim_half])
async def test_no_key_waits_for_a_message_that_is_gone(
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    lose: Callable[[redis.Redis, str], list[str]],
) -> None:
    group, keys = await open_group(), stream.partitions[0]
    for number in range(7):
        first = number * BATCH
        await append(stream, *names(first, first + BATCH), key=f"k{number % 2}" if number else "")
    await settle(group, await group.take(BATCH))
    lost = lose(redis_client, keys.stream)
    found = []
    while not (taken := await group.take(2 * BATCH)).is_empty:
        found += await settle(group, taken)
    assert sorted(found) == sorted({*names(BATCH, 7 * BATCH)} - {*lost})
    assert pending(redis_client, group) == 0
    assert not redis_client.exists(group.partitions[0].busy)
