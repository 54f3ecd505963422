"""What a message moves, holds and costs at Redis, by the size of its body.

`python -m benchmarks.wire`. The programs' own code appends messages with tokens, takes them and
settles them, while a replica follows. Bytes and memory are the server's own counts, so they hardly
differ between runs. `hookmill plan` reckons with them.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import redis
from msgspec import structs

from benchmarks import filling
from benchmarks.bodies import SIZES
from benchmarks.harness import OTHERS, SUBJECT, Bench, chunks, options, pinned_to, pins
from benchmarks.redis_cost import FULL_HISTORY, done, group_of
from benchmarks.tables import Table
from hookmill.message import PACKED_VERSION
from hookmill.signatures.scheme import Token
from hookmill.stream.arrival import Arrival, Row, row_of
from hookmill.stream.client import Client
from hookmill.stream.producer import Producer
from tests.support import Server, wait_until

AT_ONCE = 32
"""Messages in one append, one take and one settlement, unless their bodies are large."""
BYTES_AT_ONCE = 8_000_000
BYTES, MOST = 64_000_000, 4_096
"""Bytes of bodies and messages of a turn, at most."""


class Counts(NamedTuple):
    """What the server says that it has moved and spent so far."""

    received: float
    sent: float
    replicated: float
    cpu: float


class Tables(NamedTuple):
    """The tables of this benchmark."""

    moved: Table
    cost: Table
    held: Table


def counts(client: redis.Redis) -> Counts:
    """Ask for the counts."""
    stats: Any = client.info("stats")
    cpu: Any = client.info("cpu")
    repl_in = stats["total_net_repl_input_bytes"]
    repl_out = stats["total_net_repl_output_bytes"]
    return Counts(
        stats["total_net_input_bytes"] - repl_in,
        stats["total_net_output_bytes"] - repl_out,
        repl_out,
        cpu["used_cpu_user"] + cpu["used_cpu_sys"],
    )


@contextmanager
def replica_of(bench: Bench, server: Server) -> Iterator[None]:
    """Run a replica that follows the server inside the block."""
    follow = ("--replicaof", "127.0.0.1", str(server.port), "--save", "")
    replica = Server(server.binary, Path(tempfile.mkdtemp(dir=bench.folder)), *follow)
    with pinned_to(SUBJECT):
        replica.start()
    try:
        with redis.Redis.from_url(replica.url) as client:
            wait_until(lambda: is_following(client), timeout=30.0, what="the replica to follow")
        yield
    finally:
        replica.kill()


def is_following(client: redis.Redis) -> bool:
    """Whether a replica has all that its master had."""
    info: Any = client.info("replication")
    return bool(info["master_link_status"] == "up")


def rows_of(count: int, size: int) -> list[Row]:
    """Return messages as receivers append them, each with a token of its own."""
    expires = int(time.time()) + 300
    return [
        row_of(
            Arrival(
                **structs.asdict(filling.message(number, size)),
                id_is_signed=True,
                token=Token(os.urandom(32), expires),
            ),
            PACKED_VERSION,
        )
        for number in range(count)
    ]


async def handle(server: Server, count: int, size: int, at_once: int) -> float:
    """Append, take and settle; return the bytes of memory that a waiting message has."""
    async with Client(server.url, filling.PREFIX, timeout=60.0) as client:
        producer, group = Producer(client), group_of(client, FULL_HISTORY)
        await group.open()
        rows, before = rows_of(count, size), memory(server)
        for numbers in chunks(count, at_once):
            await producer.append_rows(rows[numbers.start : numbers.stop])
        held = (memory(server) - before) / count
        left = count
        while left:
            taken = (await group.take(at_once)).entries
            assert taken
            await group.settle([done(one.ref.id) for one in taken])
            left -= len(taken)
        await group.close()
    return held


def memory(server: Server) -> int:
    """Return the memory of the server's data, without what connections and replicas hold."""
    with redis.Redis.from_url(server.url) as client:
        stats: Any = client.memory_stats()
        return int(stats["dataset.bytes"])


def measure(server: Server, tables: Tables, size: str, *, quick: bool) -> None:
    """Run one turn with bodies of one size."""
    each = SIZES[size]
    at_once = max(1, min(AT_ONCE, BYTES_AT_ONCE // each))
    count = min(128 if quick else MOST, max(1, BYTES // each // at_once) * at_once)
    filling.empty(server)
    asyncio.run(handle(server, at_once, each, at_once))  # so that the scripts are there
    filling.empty(server)
    with redis.Redis.from_url(server.url) as client:
        before = counts(client)
        held = asyncio.run(handle(server, count, each, at_once))
        found = Counts(*(b - a for a, b in zip(before, counts(client), strict=True)))
    tables.moved.put(f"to Redis @ {size}", found.received / count)
    tables.moved.put(f"from Redis @ {size}", found.sent / count)
    tables.moved.put(f"to each replica @ {size}", found.replicated / count)
    tables.cost.put(f"append, take and settle @ {size}", found.cpu / count * 1e6)
    tables.held.put(f"a message that waits, with its token @ {size}", held)


def main(arguments: list[str] | None = None) -> None:
    given = options(__doc__, 3, "wire").parse_args(arguments)
    with Bench("wire", given, pins(Redis=OTHERS, the_client=SUBJECT)) as bench:
        tables = Tables(
            bench.table("Bytes on the wire", "bytes a message", chart="grid"),
            bench.table(
                "CPU time of Redis, with a replica", "µs a message", chart="grid", digits=1
            ),
            bench.table("Memory of Redis", "bytes a message", chart="grid"),
        )
        bench.note(f"{AT_ONCE} at once; of bodies of 2 MB, 4 at once")
        with bench.redis() as server, replica_of(bench, server), pinned_to(SUBJECT):
            for _ in bench.each_round():
                for size in SIZES:
                    measure(server, tables, size, quick=bench.quick)
        bench.finish()


if __name__ == "__main__":
    main()
