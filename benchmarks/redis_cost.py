"""What a message costs Redis: `python -m benchmarks.redis_cost`.

Measures the server's own CPU time (`INFO cpu`) while the programs' own code appends messages, takes
them and settles them, in batches of 32 and of 200. Beside it, in the same run, the bare commands
for the same entries: XADD, and XREADGROUP with XACK. All wait for each reply before they go on, so
the server's own waking up counts, which small batches pay most.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import redis
from msgspec import structs

from benchmarks import filling
from benchmarks.harness import OTHERS, SUBJECT, Bench, Table, chunks, options, pinned_to, pins
from hookmill.message import PACKED_VERSION, Fields
from hookmill.signatures.scheme import Token
from hookmill.stream.arrival import Arrival, Row, row_of
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Settlement
from hookmill.stream.keys import Keys
from hookmill.stream.producer import Producer
from tests.support import Server

MESSAGES = 40_000
BATCHES = (32, 200)
READ_AT_ONCE = 256
"""How many entries the bare loop reads."""
BARE = "XREADGROUP and XACK, bare"
ENTRIES = Keys(filling.PREFIX, 0).stream


class Tables(NamedTuple):
    """The tables of this benchmark."""

    appends: Table
    takes: Table
    together: Table


class Spent:
    """The CPU time that a server spends, in microseconds a message."""

    def __init__(self, server: Server, messages: int) -> None:
        self._client = redis.Redis.from_url(server.url)
        self._messages = messages
        self.us = 0.0

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure what is done inside the block."""
        before = self._seconds()
        yield
        self.us = (self._seconds() - before) / self._messages * 1e6

    def _seconds(self) -> float:
        used: Any = self._client.info("cpu")
        return float(used["used_cpu_user"] + used["used_cpu_sys"])


def rows_of(count: int, *, with_tokens: bool) -> list[Row]:
    """Return messages as receivers append them, each with a token of its own where asked for."""
    expires = int(time.time()) + 300
    rows = []
    for number in range(count):
        token = Token(os.urandom(32), expires) if with_tokens else None
        plain = structs.asdict(filling.message(number))
        rows.append(row_of(Arrival(**plain, id_is_signed=True, token=token), PACKED_VERSION))
    return rows


async def append(spent: Spent, server: Server, rows: Sequence[Row], batch: int) -> float:
    """Append the rows as receivers do."""
    stream = Producer(Client(server.url, filling.PREFIX, timeout=60.0))
    await stream.append_rows(rows[:1])  # it loads the script
    with spent.measured():
        for numbers in chunks(len(rows) - 1, batch):
            await stream.append_rows(rows[numbers.start + 1 : numbers.stop + 1])
    await stream.client.close()
    return spent.us


async def take_and_settle(spent: Spent, server: Server, count: int, batch: int) -> float:
    """Take the entries and settle them as a worker does whose handlers take no time."""
    client = Client(server.url, filling.PREFIX, timeout=60.0)
    group = Consumer(client, "main", "one", dedup_window=86_400)
    await group.open()
    await group.settle([Settlement(one.ref) for one in (await group.take(1)).entries])
    left = count - 1
    with spent.measured():
        while left:
            taken = await group.take(batch)
            done = [Settlement(one.ref, weight=one.weight) for one in taken.entries]
            await group.settle(done)
            left -= len(done)
    await group.close()
    await client.close()
    return spent.us


def append_bare(spent: Spent, client: redis.Redis, fields: Sequence[Fields], batch: int) -> float:
    """Send an XADD for each entry, as many in a pipeline as in a batch."""
    with spent.measured():
        for numbers in chunks(len(fields), batch):
            pipeline = client.pipeline(transaction=False)
            for number in numbers:
                pipeline.xadd("bare", dict(fields[number]))  # type: ignore[arg-type]  # invariant
            pipeline.execute()
    client.delete("bare")
    return spent.us


def read_bare(spent: Spent, client: redis.Redis) -> float:
    """Read and acknowledge the stream's entries in a group of its own."""
    client.xgroup_create(ENTRIES, "bare", "0")
    with spent.measured():
        while found := client.xreadgroup("bare", "one", {ENTRIES: ">"}, count=READ_AT_ONCE):
            streams: Any = found
            client.xack(ENTRIES, "bare", *(entry_id for entry_id, _ in streams[0][1]))
    client.xgroup_destroy(ENTRIES, "bare")
    return spent.us


async def turn(bench: Bench, server: Server, tables: Tables, batch: int) -> None:
    """Measure one batch size."""
    count = 1_000 if bench.quick else MESSAGES
    spent, sized = Spent(server, count), f"{batch} at once"
    with redis.Redis.from_url(server.url, protocol=2) as client:
        client.flushall()
        rows = rows_of(count, with_tokens=False)
        tables.appends.put(
            f"XADD, bare, {sized}", append_bare(spent, client, [row.fields for row in rows], batch)
        )
        tables.appends.put(f"append, {sized}", await append(spent, server, rows, batch))
        client.flushall()
        rows = rows_of(count, with_tokens=True)
        appended = await append(spent, server, rows, batch)
        tables.appends.put(f"append, each with a token, {sized}", appended)
        bare = read_bare(spent, client)
        tables.takes.put(BARE, bare, f"{READ_AT_ONCE} at once")
        taken = await take_and_settle(spent, server, count, batch)
        tables.takes.put(f"take and settle, {sized}", taken)
        tables.together.put(f"append with a token, take and settle, {sized}", appended + taken)
    spent.close()


def main(arguments: list[str] | None = None) -> None:
    given = options(__doc__, 5, "redis_cost").parse_args(arguments)
    unit = "\u00b5s of CPU time a message"
    with Bench("redis_cost", given, pins(Redis=OTHERS, the_client=SUBJECT)) as bench:
        tables = Tables(
            bench.table("Append", unit, digits=1),
            bench.table("Take and settle", unit, digits=1, against=BARE,
                        target="at most 3.5 times the bare commands"),
            bench.table("A message, from its append to its end", unit, digits=1,
                        target="at most 9 \u00b5s"),
        )  # fmt: skip
        with bench.redis() as server, pinned_to(SUBJECT):
            for _ in bench.each_round():
                for batch in BATCHES:
                    asyncio.run(turn(bench, server, tables, batch))
        bench.finish()


if __name__ == "__main__":
    main()
