"""A stream with several partitions, a group in it, and messages for one of the partitions."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hookmill.message import Message
from hookmill.stream.arrival import row_of
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Taken
from hookmill.stream.producer import Producer
from tests.support import Server, Stream, message

PARTITIONS = 4


@pytest.fixture
async def split(server: Server, prefix: str) -> AsyncIterator[tuple[Producer, Consumer]]:
    """A stream with several partitions, and a group in it."""
    stream = Stream(server.url, prefix, partitions=PARTITIONS)
    group = Consumer(stream.client, "main", "c1", dedup_window=3600)
    await group.open()
    yield stream, group
    await group.close()
    await stream.close()


async def append_to(stream: Producer, partition: int, size: int = 1, count: int = 1) -> None:
    """Append messages that belong into a partition."""
    found: list[Message] = []
    number = 0
    while len(found) < count:
        one = message(b"%0*d" % (size, number), id=f"{partition}-{number}")
        if row_of(one).partition(PARTITIONS) == partition:
            found.append(one)
        number += 1
    await stream.append(found)


def partitions_of(taken: Taken) -> list[int]:
    """Return the partition of each entry that was taken."""
    return [entry.ref.partition for entry in taken.entries]
