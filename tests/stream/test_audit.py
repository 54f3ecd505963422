"""The records of what operators did are read in steps that do not hold up Redis."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from hookmill.stream import audit
from hookmill.stream.audit import AuditRecords
from hookmill.stream.client import Client
from hookmill.stream.producer import Producer

pytestmark = pytest.mark.one_server  # it counts commands, which each server does alike


def calls(client: redis.Redis, command: str) -> int:
    stats: Any = client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def read(client: Client, since_ms: int = 0) -> list[bytes]:
    return [fields[b"n"] async for _, fields in AuditRecords(client).newest(since_ms)]


async def test_nothing_is_looked_for_below_the_oldest_record(
    stream: Producer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XREVRANGE of a range below all entries goes through the whole stream."""
    monkeypatch.setattr(audit, "_PAGE", 5)
    ids = [await AuditRecords(stream.client).write({"n": str(n)}) for n in range(12)]
    before = calls(redis_client, "xrevrange")
    assert await read(stream.client) == [b"%d" % n for n in reversed(range(12))]
    assert calls(redis_client, "xrevrange") - before == 12  # one for each record
    assert await read(stream.client, int(ids[-1].partition("-")[0]) + 1) == []
    assert calls(redis_client, "xrevrange") - before == 12


async def test_a_step_ends_early_where_records_are_large(
    stream: Producer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_PAGE_BYTES", 3000)
    for n in range(6):
        await AuditRecords(stream.client).write({"n": str(n), "details": "x" * 1500})
    before = calls(redis_client, "evalsha")
    assert await read(stream.client) == [b"%d" % n for n in reversed(range(6))]
    assert calls(redis_client, "evalsha") - before >= 3
