"""What seeing costs: `python -m benchmarks.cockpit`.

Worker and receiver run in turns with everything off, and with one thing on at a time. The worker's
handlers do nothing, 512 at a time: with real handlers the share is smaller. The receiver gets
deliveries at a constant rate that it can serve. What counts is CPU time: it does not depend on what
else the machine does as much as a rate does.
"""

from __future__ import annotations

import sys

import redis

from benchmarks.filling import empty, fill, work
from benchmarks.harness import OTHERS, SUBJECT, Bench, cpu_seconds, options, pins
from benchmarks.receiver import Load, at_rate, serving, signed
from benchmarks.tables import Table
from tests.support import Server

MESSAGES = 100_000
RATE = 4_000.0
SECONDS = 4.0

OFF = "off"
VARIANTS: dict[str, dict[str, str]] = {
    OFF: {},
    "metrics": {"admin_port": "0"},
}
"""What is on: settings in lower case."""


def workers(bench: Bench, server: Server, table: Table) -> None:
    """Have a worker of each kind handle the same messages."""
    messages = 2_000 if bench.quick else MESSAGES
    for name, settings in VARIANTS.items():
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        fill(server, messages)
        worked = work(bench, server, "noop", messages, concurrency="512", **settings)
        table.put(name, worked.worker_us)


def receivers(bench: Bench, server: Server, load: Load, table: Table) -> None:
    """Have a receiver of each kind take the same deliveries."""
    seconds = 1.0 if bench.quick else SECONDS
    for name, settings in VARIANTS.items():
        empty(server)
        env = {f"HOOKMILL_{key.upper()}": value for key, value in settings.items()}
        with serving(
            bench, [sys.executable, "-m", "hookmill", "receiver"], server.url, env
        ) as served:
            before = cpu_seconds(served.program.pid)
            at_rate(load, served.port, RATE, seconds)
            used = cpu_seconds(served.program.pid) - before
        table.put(name, used / min(load.total, RATE * seconds) * 1e6)


def run(bench: Bench) -> None:
    """Run the benchmark."""
    target = "metrics at most 1.03 of off"
    worked = bench.table(
        "A worker, no-op handler", "µs of CPU time a message", against=OFF, digits=2, target=target
    )
    received = bench.table(
        "A receiver", "µs of CPU time a delivery", against=OFF, digits=1, target=target
    )
    load = signed(bench, int(RATE * (1.0 if bench.quick else SECONDS)))
    with bench.redis() as server:
        for _ in bench.each_round():
            workers(bench, server, worked)
            receivers(bench, server, load, received)


def main(arguments: list[str] | None = None) -> None:
    given = options(__doc__, 7, "cockpit").parse_args(arguments)
    pinned = pins(the_program=SUBJECT, Redis=OTHERS, the_load=OTHERS)
    with Bench("cockpit", given, pinned) as bench:
        run(bench)
        bench.finish()


if __name__ == "__main__":
    main()
