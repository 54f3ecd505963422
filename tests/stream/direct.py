"""Messages for the tests of direct reads."""

from __future__ import annotations

from typing import Any

import redis

from hookmill.stream.arrival import row_of
from hookmill.stream.producer import Producer
from tests.support import message


def names(first: int, last: int) -> list[str]:
    return [f"m{number}" for number in range(first, last)]


async def append(stream: Producer, *some: str, key: str = "", body: bytes = b"{}") -> None:
    await stream.append([message(body, id=name, key=key) for name in some])


def append_as_older_release(client: redis.Redis, stream: Producer, *some: str) -> None:
    """An older release writes no index."""
    for name in some:
        fields: Any = row_of(message(id=name)).fields
        client.xadd(stream.partitions[0].stream, fields)
