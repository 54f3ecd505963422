"""Spools, and the rows that tests put into them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from hookmill.stream.arrival import Row
from receiver.drain_progress import Refusals
from receiver.spool import Spool

MIB = 1024 * 1024

OpenSpool = Callable[..., Awaitable[Spool]]


def row(name: str, size: int = 0) -> Row:
    return Row({b"id": name.encode(), b"body": b"x" * size}, b"", 0, 0)


def in_partition(partition: int, name: str, partitions: int, size: int = 0) -> Row:
    """A row of this partition."""
    keys = (b"%d" % number for number in itertools.count())
    made = (msgspec.structs.replace(row(name, size), partition_key=key) for key in keys)
    return next(one for one in made if one.partition(partitions) == partition)


def rows(*names: str) -> list[Row]:
    return [row(name) for name in names]


class Redis:
    """Takes what is drained, and can be away or slow."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.batches: list[int] = []
        self.fails_after: int | None = None
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def append(self, given: Sequence[Row]) -> Refusals:
        if self.fails_after is not None and len(self.batches) >= self.fails_after:
            raise TimeoutError
        self.is_asked.set()
        await self.may_answer.wait()
        self.batches.append(len(given))
        self.names += [one.fields[b"id"].decode() for one in given]
        return {}
