"""Delayed messages are found by their message ID."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from hookmill.message import Progress
from hookmill.stream import delayed as delayed_module
from hookmill.stream.consumer import Consumer
from hookmill.stream.delayed import DelayedMessages
from hookmill.stream.entries import Entry, FollowUp, Settlement
from tests.support import Stream, message

OpenGroup = Callable[..., Awaitable[Consumer]]


def retry(entry: Entry, *handlers: str, seconds: float = 60.0) -> Settlement:
    """Return a settlement that delays an entry, for each of its handlers."""
    follow_ups = []
    for handler in handlers or ("work",):
        progress = Progress(owner=entry.ref.id, handler=handler, attempts=1)
        fields = {**entry.fields, **progress.to_fields(), b"error": b"no"}
        token = f"{entry.ref.id}/{handler}"
        follow_ups.append(FollowUp("again", token, fields, int(seconds * 1000)))
    return Settlement(entry.ref, tuple(follow_ups))


@pytest.mark.parametrize("partitions", [1, 4])
async def test_a_message_is_found_for_each_handler_that_it_waits_for(
    server: Any,
    prefix: str,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    partitions: int,
) -> None:
    monkeypatch.setattr(delayed_module, "_NAMES", 7)
    monkeypatch.setattr(delayed_module, "_AT_ONCE", 3)
    stream = Stream(server.url, prefix, partitions=partitions)
    group = Consumer(stream.client, "main", "c1", dedup_window=3600)
    await group.open()
    await stream.append([message(id=f"m{n}") for n in range(30)])
    taken = 0
    while taken < 30:
        entries = (await group.take(30)).entries
        taken += len(entries)
        await group.settle(
            retry(entry, *(("work", "mail") if entry.fields[b"id"] == b"m17" else ()))
            for entry in entries
        )
    delayed = DelayedMessages(stream.client, "main")
    found = await delayed.find("m17")
    assert sorted(one.fields[b"handler"] for one in found) == [b"mail", b"work"]
    seconds, _ = redis_client.time()
    assert all(0 < one.due_ms / 1000 - seconds <= 61 for one in found)
    assert len(await delayed.find("m0")) == 1
    assert await delayed.find("m") == []
    for keys in group.partitions:
        redis_client.delete(keys.delayed, keys.delayed_entries, keys.sooner)
    await group.close()
    await stream.close()


async def test_large_ones_are_looked_at_one_by_one(
    stream: Stream,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delayed_module, "_PAGE_BYTES", 1000)
    group = await open_group()
    await stream.append([message(b"x" * 2000, id=f"m{n}") for n in range(5)])
    await group.settle(retry(entry) for entry in (await group.take(5)).entries)
    (found,) = await DelayedMessages(stream.client, "main").find("m4")
    assert found.fields[b"error"] == b"no"
    keys = group.partitions[0]
    redis_client.delete(keys.delayed, keys.delayed_entries)
