"""What several tests of the stream do: settle entries, ask Redis what is there, open a group."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import redis

from hookmill.message import Progress
from hookmill.stream.arrival import row_of
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, EntryRef, FollowUp, Settlement, Taken
from hookmill.stream.producer import Producer
from tests.support import (
    ANY_BYTES,
    Server,
    Stream,
    message,
    watch_for,
)

OpenGroup = Callable[..., Awaitable[Consumer]]
OwnServer = Callable[..., Server]


def again(entry: Entry, handler: str = "h", delay_ms: int = 0, attempts: int = 1) -> FollowUp:
    """What a retry leaves in its entry's place."""
    owner = entry.fields.get(b"owner", entry.ref.id.encode()).decode()
    progress = Progress(owner=owner, handler=handler, attempts=attempts)
    fields = {**entry.fields, **progress.to_fields()}
    return FollowUp("again", f"{owner}/{handler}", fields, delay_ms)


def dead(entry: Entry) -> FollowUp:
    fields = {**again(entry).changes, b"reason": b"failed"}
    return msgspec.structs.replace(again(entry), kind="dead", changes=fields)


def bodies(partitions: int) -> list[bytes]:
    """A body for each partition. A message's ID is not signed here, so the body alone decides."""
    found: dict[int, bytes] = {}
    for number in range(100 * partitions):
        body = b"%d" % number
        found.setdefault(row_of(message(body)).partition(partitions), body)
    return [found[number] for number in range(partitions)]


def ids(entries: list[Entry]) -> list[str]:
    """The message IDs of entries."""
    return [entry.fields[b"id"].decode() for entry in entries]


async def settle_all(group: Consumer, *entries: Entry) -> None:
    assert await group.settle([Settlement(entry.ref) for entry in entries]) == []


def pending(client: redis.Redis, group: Consumer) -> int:
    """How many entries the group holds, in both of its streams."""
    return sum(
        client.xpending(key, group.name)["pending"]
        for key in (group.partitions[0].stream, group.partitions[0].again)
    )


@asynccontextmanager
async def opened(server: Server) -> AsyncIterator[tuple[Producer, Consumer]]:
    """A stream and a group on a server of the test's own."""
    stream = Stream(server.url, "t")
    group = Consumer(stream.client, "main", f"c-{secrets.token_hex(2)}", dedup_window=3600)
    try:
        yield stream, group
    finally:
        await group.close()
        await stream.close()


async def all_taken_over(group: Consumer) -> AsyncIterator[Taken]:
    """Have a consumer take over all that is held, as if all had died, and recover its own."""
    await watch_for(group, 0)
    known: list[EntryRef] = []
    for take in (group.take_over, partial(group.recover, known=known)):
        has_more = True
        while has_more:
            taken, has_more = await take(0, 100, 0, ANY_BYTES)
            known += [entry.ref for entry in taken.entries]
            yield taken


async def release(group: Consumer) -> bool:
    """Whether something was let go."""
    return (await group.release(10))[0] > 0


def written(client: redis.Redis, group: Consumer) -> tuple[int, int, int, int]:
    """How many entries wait to run again, are delayed (by both their keys), and dead."""
    keys = group.partitions[0]
    return (
        client.xlen(keys.again), client.zcard(keys.delayed), client.hlen(keys.delayed_entries),
        client.xlen(keys.dead),
    )  # fmt: skip


def forget_follow_ups(client: redis.Redis, group: Consumer) -> None:
    client.delete(
        group.partitions[0].delayed, group.partitions[0].delayed_entries, group.partitions[0].dead
    )
    client.xtrim(group.partitions[0].again, maxlen=0, approximate=False)


def now_ms(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return seconds * 1000 + micros // 1000


def blocked(client: redis.Redis) -> int:
    return sum("b" in row["flags"] for row in client.client_list())


@asynccontextmanager
async def partitioned(server: Server, prefix: str) -> AsyncIterator[tuple[Producer, Consumer]]:
    """A stream of eight partitions with a group."""
    stream = Stream(server.url, prefix, partitions=8)
    group = Consumer(stream.client, "main", "c1", dedup_window=3600)
    try:
        await group.open()
        yield stream, group
    finally:
        await group.close()
        await stream.close()
