"""How much memory the programs need, and a message in Redis: `python -m benchmarks.memory`.

For each receiver: its resident memory when it has just started, and its peak with 64 and with 1,000
connections at full load. For each worker: when it waits, and its peak at work; ours by default, and
with 512 handlers that wait at a time. For each queue: what its Redis holds for a waiting message of
214 bytes, besides what it holds anyway. Memory that processes share, such as the code of libraries,
counts for each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import redis

from benchmarks import filling
from benchmarks.filling import empty, message, work, worker
from benchmarks.harness import (
    OTHERS,
    SUBJECT,
    Bench,
    Program,
    chunks,
    options,
    peak_mb,
    pins,
    progress,
    resident_mb,
    tool,
)
from benchmarks.programs import pinned_version, toolchains
from benchmarks.receiver import (
    BARE,
    CONNECTIONS,
    OURS,
    Load,
    check_refusals,
    commands,
    serving,
    signed,
    wrk,
)
from benchmarks.redis_cost import rows_of
from benchmarks.tables import Table
from benchmarks.worker import PEERS, Peer, Queue
from hookmill.stream.client import Client
from hookmill.stream.keys import Keys
from hookmill.stream.producer import Producer
from tests.support import Server

CROWD = 1_000
RECEIVERS = (
    *(BARE, OURS, "FastAPI, PyJWT"),
    *("Go, group commit", "axum, redis-rs", "fastify, ioredis"),
)
OUR_WORKER = "hookmill worker"
BUSY_WORKER = f"{OUR_WORKER}, 512 handlers wait at a time"
OTHERS_WORKERS = [one for one in PEERS if "batches" not in one.name and "log" not in one.name]
STORED = "hookmill, as from Marble: no token"
STORED_TOKEN = "hookmill, as from QStash: with a token that is remembered"
REMEMBERED = "hookmill, when it is handled: its ID is remembered"
STORED_BY_HAND = "Go by hand, an entry with ID and body"
ENTRIES = Keys(filling.PREFIX, 0).stream


class Tables:
    """The tables of this benchmark."""

    def __init__(self, bench: Bench) -> None:
        def column(name: str) -> Table:
            return bench.table(f"Receivers: {name}", "MB", digits=1, column=name)

        self.receiver = bench.table("Receivers, idle", "MB", digits=1)
        self.loaded = column(f"{CONNECTIONS} connections")
        self.crowded = column(f"{CROWD:,} connections")
        self.worker = bench.table("Workers, idle", "MB", digits=1)
        self.working = bench.table("Workers: at work", "MB", digits=1, column="at work")
        self.stored = bench.table("Redis: a message of 214 bytes that waits", "bytes")


def receivers(bench: Bench, server: Server, load: Load, tables: Tables) -> None:
    """Measure each receiver."""
    seconds = 1.0 if bench.quick else 3.0
    for name, command in commands(bench, RECEIVERS).items():
        progress(name)
        empty(server)
        with serving(bench, command, server.url) as served:
            if name != BARE:
                check_refusals(name, served.port)
            tables.receiver.put(name, settled_mb(bench, served.program))
            wrk(bench, load, served.port, seconds)
            tables.loaded.put(name, peak_mb(served.program.pid))
            wrk(bench, load, served.port, seconds, CROWD)
            tables.crowded.put(name, peak_mb(served.program.pid))


def settled_mb(bench: Bench, program: Program) -> float:
    """Return the memory of a program that has started and has nothing to do."""
    time.sleep(0.5 if bench.quick else 2.0)
    return resident_mb(program.pid)


def our_worker(bench: Bench, server: Server, tables: Tables) -> None:
    """Measure our worker: by default, and with many handlers that wait."""
    empty(server)
    result = bench.folder / "result"
    with worker(bench, server, "noop", 1, result=result) as program:
        program.wait_for(lambda: '"working"' in program.log)
        idle = settled_mb(bench, program)
    count = 1_000 if bench.quick else 20_000
    for name, handlers, concurrency in (
        (OUR_WORKER, "noop", "100"),
        (BUSY_WORKER, "waiting", "512"),
    ):
        empty(server)
        filling.fill(server, count)
        worked = work(bench, server, handlers, count, concurrency=concurrency)
        tables.worker.put(name, idle)
        tables.working.put(name, worked.peak_mb)


def peers(bench: Bench, server: Server, tables: Tables, wanted: list[Peer]) -> None:
    """Measure each peer. One that cannot be measured is noted."""
    for one in wanted:
        progress(one.name)
        try:
            peer(bench, server, one, tables)
            bench.report.versions[one.package] = pinned_version(one.package)
        except (LookupError, RuntimeError) as error:
            bench.note(f"{one.name} could not be measured: {str(error)[-200:]}")


def peer(bench: Bench, server: Server, given: Peer, tables: Tables) -> None:
    """Measure a peer's worker when it waits and at work, and its Redis in between."""
    queue = Queue(bench, server, given._replace(messages=max(1_000, given.messages // 4)))
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        with queue.start() as program:
            idle = settled_mb(bench, program)
        each = grown(client, queue.fill) / queue.messages
    worked = queue.work()
    tables.worker.put(given.name, idle, given.note)
    tables.working.put(given.name, worked.peak_mb)
    if "by hand" not in given.name:  # its receiver stores the ID as well: see `stored`
        tables.stored.put(given.name, each)


def grown(client: redis.Redis, fill: Callable[[], object]) -> int:
    """Return the bytes by which Redis grows while `fill` runs."""
    client.execute_command("FLUSHALL SYNC")  # type: ignore[no-untyped-call]
    before = used(client)
    fill()
    return used(client) - before


def used(client: redis.Redis) -> int:
    """Return how much memory Redis uses for all that it holds."""
    info: Any = client.info("memory")
    return int(info["used_memory"])


def stored(bench: Bench, server: Server, table: Table) -> None:
    """Measure what Redis holds for one of our messages, and for one that is stored by hand."""
    count = 2_000 if bench.quick else 50_000
    with redis.Redis.from_url(server.url) as client:
        before = append(server, client, count, with_tokens=True)
        table.put(STORED_TOKEN, (used(client) - before) / count)
        before = append(server, client, count, with_tokens=False)
        table.put(STORED, (used(client) - before) / count)
        work(bench, server, "noop", count)
        client.delete(ENTRIES)
        table.put(REMEMBERED, (used(client) - before) / count)
        by_hand = grown(client, lambda: append_by_hand(client, count)) / count
        table.put(STORED_BY_HAND, by_hand)


def append(server: Server, client: redis.Redis, count: int, *, with_tokens: bool) -> int:
    """Append messages as our receivers do; return what Redis used before."""
    empty(server)
    asyncio.run(_append(server.url, 1, with_tokens=with_tokens))  # Redis loads the scripts
    before = used(client)
    asyncio.run(_append(server.url, count, with_tokens=with_tokens))
    return before


async def _append(url: str, count: int, *, with_tokens: bool) -> None:
    rows = rows_of(count, with_tokens=with_tokens)
    async with Client(url, filling.PREFIX, timeout=60.0) as client:
        stream = Producer(client)
        for numbers in chunks(count, 100):
            await stream.append_rows(rows[numbers.start : numbers.stop])


def append_by_hand(client: redis.Redis, count: int) -> None:
    """Append messages as the receiver in Go does."""
    with client.pipeline(transaction=False) as pipe:
        for number in range(count):
            one = message(number)
            pipe.xadd("deliveries", {"id": one.id, "body": one.body})
        pipe.execute()


def run(bench: Bench) -> None:
    """Run the benchmark."""
    if tool("wrk") is None:
        raise SystemExit("wrk is needed: https://github.com/wg/wrk")
    load = signed(bench, 5_000 if bench.quick else 100_000)
    bench.report.versions.update(toolchains())
    tables = Tables(bench)
    with bench.redis() as server:
        for _ in bench.each_round():
            receivers(bench, server, load, tables)
            our_worker(bench, server, tables)
            stored(bench, server, tables.stored)
            peers(bench, server, tables, OTHERS_WORKERS)


def main(arguments: list[str] | None = None) -> None:
    given = options(__doc__, 1, "memory").parse_args(arguments)
    pinned = pins(the_measured_program=SUBJECT, Redis=OTHERS, the_load=OTHERS)
    with Bench("memory", given, pinned) as bench:
        run(bench)
        bench.finish()


if __name__ == "__main__":
    main()
