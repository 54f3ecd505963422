"""What programs of release 0.1 add without a wake-up is found soon, whatever else wakes workers."""

from __future__ import annotations

import asyncio
import secrets
import time

import pytest
import redis

from hookmill.stream import wakeup
from tests.stream.toolkit import bodies, partitioned, settle_all
from tests.support import Server, message


async def test_what_has_no_wake_up_is_found_beside_what_has(
    server: Server, prefix: str, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "WHOLE_TAKE_PERIOD", 1.6)
    monkeypatch.setattr(wakeup, "OVERLOOKED_MS", 100)
    first, *_, last = bodies(8)
    async with partitioned(server, prefix) as (stream, group):
        assert (await group.take(1)).is_empty

        async def seconds_until_found() -> float:
            await stream.append([message(last, id=secrets.token_hex(4))])
            redis_client.delete(group.partitions[0].wake)  # as a receiver of 0.1 leaves it
            began, is_found = time.monotonic(), False
            while not is_found:
                await stream.append([message(first, id=secrets.token_hex(4))])
                assert await group.wait(30)
                has_more = True
                while has_more:
                    taken = await group.take(10)
                    await settle_all(group, *taken.entries)
                    is_found |= last in [entry.fields[b"body"] for entry in taken.entries]
                    has_more = taken.has_more
                await asyncio.sleep(0.01)
            return time.monotonic() - began

        assert await seconds_until_found() > 0.5  # nothing has said so far that there are such
        monkeypatch.setattr(wakeup, "WHOLE_TAKE_PERIOD", 30.0)
        for _ in range(3):
            assert await seconds_until_found() < 10
