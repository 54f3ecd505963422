"""What large bodies cost receiver and worker: `python -m benchmarks.bodies`.

Bodies have 10 KB to 10 MB. In turns run, for each size: aiohttp's bare server, which only reads the
body and answers, and our receiver, which verifies and stores it; then a bare loop of XREADGROUP and
XACK that reads about 16 MB at a time, and our worker with its default settings and a handler that
does nothing. Our worker decodes each body.
"""

from __future__ import annotations

import sys
from pathlib import Path

import redis

from benchmarks.filling import fill, work
from benchmarks.harness import OTHERS, ROOT, SUBJECT, Bench, Table, options, peak_mb, pins, tool
from benchmarks.receiver import Load, check_stored, ours, serving, signed, stored_in, wrk
from benchmarks.worker import bare
from tests.support import Server

SIZES = {"10 KB": 10_000, "100 KB": 100_000, "1 MB": 1_000_000, "10 MB": 10_000_000}
SIGNED = 100_000_000
"""Bytes of bodies that are signed for each size. The load generator sends them again and again."""

WORKED = 200_000_000
"""Bytes of bodies that a worker handles in a turn, but at most `MOST` messages."""
MOST = 5_000

CONNECTIONS = 4
"""So few that their bodies always fit into what a receiver may hold (HOOKMILL_QUEUE_BYTES)."""

BARE_READ = 16_000_000
"""Bytes that the bare loop reads at a time."""

BARE, OURS = "bare", "hookmill"


class Tables:
    """The tables of one program: how many, how many bytes, and how much memory."""

    def __init__(self, bench: Bench, what: str, unit: str) -> None:
        self.rates = bench.table(what, unit, digits=1)
        self.bytes = bench.table(f"{what}, by bytes", "MB/s", digits=1)
        self.memory = bench.table(f"{what}: memory at its peak", "MB", digits=1)

    def put(self, name: str, size: str, rate: float, peak: float) -> None:
        """Add the result of one turn."""
        line = f"{name}, {size}"
        self.rates.put(line, rate)
        self.bytes.put(line, rate * SIZES[size] / 1e6)
        self.memory.put(line, peak)

    def compare(self) -> None:
        """Note beside each of our lines its ratio to the bare one of the same size."""
        compare(self.rates)
        compare(self.bytes)


def compare(table: Table) -> None:
    """Write the ratios of a table into its notes."""
    medians = {line.name: line.median for line in table.lines}
    for line in table.lines:
        name, _, size = line.name.partition(", ")
        if name == OURS:
            line.note = f"{line.median / medians[f'{BARE}, {size}']:.2f} of the bare one"


def receive(
    bench: Bench, server: Server, client: redis.Redis, loads: dict[str, Load], tables: Tables
) -> None:
    """Run each server once with each size."""
    seconds = 1.0 if bench.quick else 4.0
    script = ROOT / "benchmarks" / "peers" / "with_aiohttp.py"
    commands: dict[str, list[str | Path]] = {BARE: [sys.executable, script], OURS: ours()}
    for size, load in loads.items():
        for name, command in commands.items():
            client.flushall()
            env = {"HOOKMILL_BACKLOG_BYTES": "0"}  # nothing takes messages out meanwhile
            with serving(bench, command, server.url, env) as served:
                answered = wrk(bench, load, served.port, seconds, CONNECTIONS)
                if answered.bad:
                    raise RuntimeError(f"{name}, {size}: {answered.bad} requests failed")
                if name == OURS:
                    check_stored(name, answered, stored_in(client))
                tables.put(name, size, answered.rate, peak_mb(served.program.pid))


def handle(bench: Bench, server: Server, client: redis.Redis, tables: Tables) -> None:
    """Run the bare loop and our worker once over messages of each size."""
    for size, count in SIZES.items():
        messages = max(2, min(MOST, WORKED // count) // (20 if bench.quick else 1))
        client.flushall()
        fill(server, messages, body_size=count)
        limit = bare(bench, server, messages, max(1, BARE_READ // count))
        tables.put(BARE, size, limit.rate, limit.peak_mb)
        worked = work(bench, server, "noop", messages)
        tables.put(OURS, size, worked.rate, worked.peak_mb)


def run(bench: Bench) -> None:
    """Run the benchmark."""
    if tool("wrk") is None:
        raise SystemExit("wrk is needed: https://github.com/wg/wrk")
    share = 10 if bench.quick else 1
    loads = {
        name: signed(bench, max(2, SIGNED // size // share), size) for name, size in SIZES.items()
    }
    received = Tables(bench, "Receiver, large bodies", "requests/s")
    handled = Tables(bench, "Worker, large bodies", "messages/s")
    with bench.redis() as server, redis.Redis.from_url(server.url) as client:
        for _ in bench.each_round():
            receive(bench, server, client, loads, received)
            handle(bench, server, client, handled)
        client.flushall()
    received.compare()
    handled.compare()


def main(arguments: list[str] | None = None) -> None:
    given = options(__doc__, 3, "bodies").parse_args(arguments)
    pinned = pins(the_measured_program=SUBJECT, Redis=OTHERS, the_load=OTHERS)
    with Bench("bodies", given, pinned) as bench:
        run(bench)
        bench.finish()


if __name__ == "__main__":
    main()
