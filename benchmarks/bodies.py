"""What bodies of 214 bytes to 2 MB cost receiver and worker: `python -m benchmarks.bodies`.

In turns run, for each size: aiohttp's bare server, which only reads the body and answers; our
receiver, which verifies and stores it; the fastest peers in Go, Rust and Node. Then a bare loop of
XREADGROUP and XACK; our worker with its default settings and a handler that does nothing; the
worker in Go by hand. Ours and the one in Go decode each body. A turn is bounded in time or in
bytes. Our worker bounds its takes by bytes; the two others are told to read about 16 MB at a time.
"""

from __future__ import annotations

from functools import partial

import redis

from benchmarks.filling import Worked, empty, fill, work
from benchmarks.harness import (
    OTHERS,
    SUBJECT,
    Bench,
    cpu_seconds,
    options,
    peak_mb,
    pins,
    progress,
    tool,
)
from benchmarks.programs import Command, go_peer, pinned_version, toolchains
from benchmarks.receiver import (
    BARE,
    OURS,
    Load,
    check_refusals,
    check_stored,
    check_version,
    commands,
    serving,
    signed,
    stored_in,
    wrk,
)
from benchmarks.tables import Table
from benchmarks.worker import BARE as BARE_WORKER
from benchmarks.worker import HAND_WRITTEN, Peer, bare, peer
from benchmarks.worker import OURS as OUR_WORKER
from tests.support import Server

SIZES = {"214 B": 214, "2 KB": 2_000, "20 KB": 20_000, "200 KB": 200_000, "2 MB": 2_000_000}
CONNECTIONS = {"200 KB": 16, "2 MB": 4}
"""So few that their bodies always fit into what a receiver may hold (HOOKMILL_QUEUE_BYTES)."""
USUAL_CONNECTIONS = 64

SIGNED = 80_000_000
"""Bytes of bodies that are signed for each size. The load generator sends them again and again."""
WORKED = 200_000_000
"""Bytes of bodies that a worker handles in a turn."""
MOST = 50_000
"""Deliveries and messages of a turn, at most."""
READ = 16_000_000
"""Bytes that the bare loop and the worker in Go read at a time; at most 256 messages."""

RECEIVERS = (BARE, OURS, "Go, group commit", "axum, redis-rs", "fastify, ioredis")
GO_WORKER = Peer("Go by hand", "go-redis", MOST, 100, HAND_WRITTEN, partial(go_peer, "goworker"))


class Tables:
    """The tables of one program: how many, how many bytes, CPU time, and memory."""

    def __init__(self, bench: Bench, what: str, unit: str, bare: str) -> None:
        def grid(title: str, unit: str, digits: int, against: str = "") -> Table:
            return bench.table(title, unit, digits=digits, against=against, chart="grid")

        self.rates = grid(f"{what}, by the size of the body", f"{unit}s/s", 0, bare)
        self.bytes = grid(f"{what}, bytes of bodies", "MB/s", 1)
        self.cpu = grid(f"{what}, CPU time", f"µs a {unit}", 1)
        self.memory = grid(f"{what}, memory at its peak", "MB", 0)

    def put(self, name: str, size: str, rate: float, micros: float, peak: float) -> None:
        """Add the result of one turn."""
        line = f"{name} @ {size}"
        self.rates.put(line, rate)
        self.bytes.put(line, rate * SIZES[size] / 1e6)
        self.cpu.put(line, micros)
        self.memory.put(line, peak)

    def put_worked(self, name: str, size: str, worked: Worked) -> None:
        """Add the result of one turn of a worker."""
        self.put(name, size, worked.rate, worked.worker_us, worked.peak_mb)


def receive(
    bench: Bench, server: Server, servers: dict[str, Command], load: Load, size: str, to: Tables
) -> None:
    """Run each receiver once with bodies of one size."""
    for name, command in servers.items():
        empty(server)
        env = {"HOOKMILL_BACKLOG_BYTES": "0"}  # nothing takes messages out meanwhile
        with (
            serving(bench, command, server.url, env) as served,
            redis.Redis.from_url(server.url) as client,
        ):
            if name != BARE:
                check_refusals(name, served.port)
            used, seconds = cpu_seconds(served.program.pid), 1.0 if bench.quick else 3.0
            connections = CONNECTIONS.get(size, USUAL_CONNECTIONS)
            answered = wrk(bench, load, served.port, seconds, connections)
            used = cpu_seconds(served.program.pid) - used
            if name != BARE:
                check_stored(name, answered, stored_in(client))
            elif answered.bad:
                raise RuntimeError(f"{name}, {size}: {answered.bad} requests failed")
            if name == OURS and size == "214 B":  # the body of a large one stays as it is
                check_version(client)
            micros = used / answered.requests * 1e6
            to.put(name, size, answered.rate, micros, peak_mb(served.program.pid))


def handle(bench: Bench, server: Server, size: str, to: Tables) -> None:
    """Run each worker once over messages of one size."""
    each = SIZES[size]
    messages = max(2, min(MOST, WORKED // each) // (20 if bench.quick else 1))
    read = max(1, min(256, READ // each))
    empty(server)
    fill(server, messages, body_size=each)
    to.put_worked(BARE_WORKER, size, bare(bench, server, messages, read))
    to.put_worked(OUR_WORKER, size, work(bench, server, "noop", messages))
    env = {"BENCH_BODY": str(each), "BENCH_COUNT": str(read)}
    try:
        found = peer(bench, server, GO_WORKER._replace(messages=messages), env)
    except LookupError as error:
        bench.note(f"{GO_WORKER.name} is missing: {error}")
    else:
        to.put_worked(GO_WORKER.name, size, found)


def run(bench: Bench) -> None:
    """Run the benchmark."""
    if tool("wrk") is None:
        raise SystemExit("wrk is needed: https://github.com/wg/wrk")
    share = 10 if bench.quick else 1
    loads = {
        name: signed(bench, max(2, min(MOST, SIGNED // size) // share), size)
        for name, size in SIZES.items()
    }
    received = Tables(bench, "Receiver", "request", BARE)
    handled = Tables(bench, "Worker", "message", BARE_WORKER)
    servers = commands(bench, RECEIVERS)
    packages = ("go-redis", "axum", "fastify")
    bench.report.versions |= toolchains() | {each: pinned_version(each) for each in packages}
    with bench.redis() as server:
        for _ in bench.each_round():
            for size, load in loads.items():
                progress(f"bodies of {size}")
                receive(bench, server, servers, load, size, received)
                handle(bench, server, size, handled)


def main(arguments: list[str] | None = None) -> None:
    given = options(__doc__, 2, "bodies").parse_args(arguments)
    pinned = pins(the_measured_program=SUBJECT, Redis=OTHERS, the_load=OTHERS)
    with Bench("bodies", given, pinned) as bench:
        run(bench)
        bench.finish()


if __name__ == "__main__":
    main()
