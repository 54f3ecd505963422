"""Messages for the appender, and what became of them."""

from __future__ import annotations

import asyncio
from typing import Any

import redis

from hookmill.message import Message
from hookmill.stream.producer import Producer
from receiver.appender import Appender
from receiver.responses import Result
from tests.support import message

PATIENT = 10.0
"""Seconds for a round trip in tests that delay Redis on purpose."""


class NotStoredError(Exception):
    """A message was not stored; its one argument is the refusal."""


def stored_ids(client: redis.Redis, stream: Producer) -> list[str]:
    entries: Any = client.xrange(stream.partitions[0].stream)
    return [fields[b"id"].decode() for _, fields in entries]


async def append(appender: Appender, message: Message) -> None:
    """Return when a message is stored; raise the refusal if it is not."""
    done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    appender.put(message, done.set_result)
    result = await done
    if result is not None:
        raise NotStoredError(result)


def numbered(count: int, **fields: Any) -> list[Message]:
    return [message(id=f"m{number}", **fields) for number in range(count)]


def blocked_clients(client: redis.Redis) -> int:
    stats: Any = client.info("clients")
    return int(stats["blocked_clients"])
