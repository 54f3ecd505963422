"""What the tests of direct reads do: append, have a group under load, finish all."""

from __future__ import annotations

from typing import Any

import redis

from hookmill.stream import direct_reads
from hookmill.stream.arrival import row_of
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, Settlement
from hookmill.stream.producer import Producer
from tests.stream.toolkit import ids, settle_all
from tests.support import message

FEW = direct_reads.LEAST


def names(first: int, last: int) -> list[str]:
    return [f"m{number}" for number in range(first, last)]


async def append(stream: Producer, *some: str, key: str = "", body: bytes = b"{}") -> None:
    await stream.append([message(body, id=name, key=key) for name in some])


def append_as_older_release(client: redis.Redis, stream: Producer, *some: str) -> None:
    """An older release writes no index."""
    for name in some:
        fields: Any = row_of(message(id=name)).fields
        client.xadd(stream.partitions[0].stream, fields)


async def under_load(stream: Producer, group: Consumer) -> None:
    """Append twice as much as a take brings, and take it once: the next read is a direct one."""
    await append(stream, *names(1000, 1000 + 2 * FEW), body=bytes(100))  # the largest ones
    taken = await group.take(FEW)
    assert len(taken.entries) == FEW
    await settle_all(group, *taken.entries)


async def settle_keyed(group: Consumer, *entries: Entry) -> None:
    done = [Settlement(entry.ref, (), entry.key, entry.owner) for entry in entries]
    assert await group.settle(done) == []


async def finish_all(group: Consumer) -> list[str]:
    found = []
    while not (taken := await group.take(100)).is_empty:
        found += ids(taken.entries)
        await settle_keyed(group, *taken.entries)
    return found


def direct(client: redis.Redis) -> int:
    """How many transactions have read until now: a shut gate is an error of XREADGROUP."""
    stats: Any = client.info("commandstats")
    reads = stats.get("cmdstat_xreadgroup", {})
    return int(stats.get("cmdstat_exec", {}).get("calls", 0)) - int(reads.get("failed_calls", 0))
