"""What a delivery costs from its POST until it is handled: `python -m benchmarks.end_to_end`.

Receiver, Redis and worker share one core, and the load has the other one, so a rate is that of a
core. Redis keeps an append-only file that it syncs each second. In turns run: our programs with
their default settings; and what is written by hand in Go without any framework, a receiver with
group commit and a worker that reads ahead, each without and with a log line for each message. First
all run at full load; a turn ends when the last delivery is handled. Then latencies are measured at
half of our rate, from when a POST was due to the start of its handler. Those in Go keep no headers,
and have no limits, metrics, retries, leases or deduplication.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import redis

from benchmarks import deliveries
from benchmarks.filling import PREFIX, empty, worker
from benchmarks.harness import (
    OTHERS,
    SUBJECT,
    Bench,
    Program,
    cpu_seconds,
    options,
    percentile,
    pins,
    progress,
    tool,
)
from benchmarks.programs import Command, go_peer, pinned_version, toolchains
from benchmarks.receiver import (
    CONNECTIONS,
    Load,
    Served,
    at_rate,
    check_refusals,
    ours,
    serving,
    signed,
    wrk,
)
from benchmarks.tables import Table
from hookmill.stream.keys import Keys
from tests.support import Server

OURS, GO, GO_LOGS = "hookmill", "Go by hand", "Go by hand, log lines"
ENDLESS = 10**9
"""More messages than a turn has: the worker counts them, and writes no result."""

RATE, LATENCY = "Deliveries from POST to handled, on one core", "From POST to handler, at half load"
ALL_CPU = "CPU time of all"


def cpu_of(name: str) -> str:
    """Return the title of the table of a program's CPU time."""
    return f"CPU time of {name}"


def later(name: str) -> str:
    """Return the title of the table of a later percentile."""
    return f"{LATENCY}, {name}"


class System(NamedTuple):
    """A receiver and a worker. `stream` is where the messages between them lie."""

    name: str
    stream: str
    receiver: Command
    worker: Callable[[Bench, Server, int, Path], AbstractContextManager[Program]]


class Running(NamedTuple):
    """A system that runs."""

    system: System
    server: Server
    served: Served
    worker: Program
    client: redis.Redis

    def used(self) -> dict[str, float]:
        """Return the seconds of CPU time of each program so far."""
        pids = {
            "receiver": self.served.program.pid,
            "Redis": self.server.pid,
            "worker": self.worker.pid,
        }
        return {name: cpu_seconds(pid) for name, pid in pids.items()}

    def stored(self) -> int:
        """Return how many deliveries were stored so far."""
        found: Any = self.client.xinfo_stream(self.system.stream)
        return int(found["entries-added"])

    def handled(self) -> int:
        """Return how many of them were handled, and acknowledged."""
        groups: Any = self.client.xinfo_groups(self.system.stream)
        group = next(one for one in groups if one["name"] == b"main")
        return int(group["entries-read"] or 0) - int(group["pending"])

    def all_handled(self) -> None:
        """Wait until nothing is left to handle."""
        self.worker.wait_for(lambda: self.handled() == self.stored())


class Tables:
    """The tables of this benchmark."""

    def __init__(self, bench: Bench) -> None:
        unit = "µs a delivery"
        self.rates = bench.table(RATE, "deliveries/s", against=GO)
        self.cpu = {
            name: bench.table(cpu_of(name), unit, digits=1, column=name)
            for name in ("receiver", "Redis", "worker")
        }
        self.all = bench.table(ALL_CPU, unit, digits=1, column="all")
        self.p50 = bench.table(LATENCY, "p50, ms", digits=2)
        self.later = {
            share: bench.table(later(name), "ms", digits=2, column=name)
            for name, share in {"p95": 0.95, "p99": 0.99}.items()
        }

    def put_latencies(self, name: str, found: list[float]) -> None:
        """Add the latencies of one turn."""
        self.p50.put(name, percentile(found, 0.5))
        for share, table in self.later.items():
            table.put(name, percentile(found, share))


def our_worker(
    bench: Bench, server: Server, messages: int, times: Path
) -> AbstractContextManager[Program]:
    """Return our worker. It writes when each handler began, after so many messages."""
    handlers = "noop" if messages == ENDLESS else "timing"
    return worker(bench, server, handlers, messages, result=times)


def go_worker(
    command: Command, bench: Bench, server: Server, messages: int, times: Path
) -> AbstractContextManager[Program]:
    """Return the worker in Go."""
    env = {
        "REDIS_URL": server.url,
        "BENCH_MESSAGES": str(messages),
        "BENCH_RESULT": str(times.with_suffix(".result")),
        "GOMAXPROCS": "1",
    }
    if messages != ENDLESS:
        env["BENCH_TIMES"] = str(times)
    return bench.program(*command, "work", core=SUBJECT, env=env)


def systems(bench: Bench) -> list[System]:
    """Return what is measured. A peer that cannot be had is noted."""
    found = [System(OURS, Keys(PREFIX, 0).stream, ours(), our_worker)]
    for name, logs in {GO: (), GO_LOGS: ("-log",)}.items():
        try:
            receiver = go_peer("goreceiver", *logs, "group")
            working = partial(go_worker, go_peer("goworker", *logs))
            found.append(System(name, "deliveries", receiver, working))
        except LookupError as error:
            bench.note(f"{name} is missing: {error}")
    return found


@contextmanager
def running(
    bench: Bench, system: System, messages: int, times: Path | None = None
) -> Iterator[Running]:
    """Run a system inside the block, on a server of its own."""
    times = times or bench.folder / "times"
    times.unlink(missing_ok=True)
    with bench.redis("everysec", SUBJECT) as server, redis.Redis.from_url(server.url) as client:
        empty(server)
        with (
            system.worker(bench, server, messages, times) as working,
            serving(bench, system.receiver, server.url) as served,
        ):
            working.wait_for(lambda: client.exists(system.stream))
            check_refusals(system.name, served.port)
            yield Running(system, server, served, working, client)
            note_waits(bench, system.name, client)


def note_waits(bench: Bench, name: str, client: redis.Redis) -> None:
    """Note where Redis had to wait for the disk, because that is not the programs' time."""
    info: Any = client.info("persistence")
    if waits := info["aof_delayed_fsync"]:
        bench.note(f"{name}: in a turn, Redis waited {waits} times for the disk")


def full_load(bench: Bench, system: System, load: Load, tables: Tables) -> None:
    """Run a system once as fast as it can, until all is handled."""
    fresh = after_warm_up(load)
    with running(bench, system, ENDLESS) as turn:
        wrk(bench, load, turn.served.port, 1.0)  # warm-up
        turn.all_handled()
        stored, used, began = turn.stored(), turn.used(), time.perf_counter()
        answered = wrk(bench, fresh, turn.served.port, 1.0 if bench.quick else 5.0)
        turn.all_handled()
        seconds = time.perf_counter() - began
        count = turn.stored() - stored
        if answered.bad or count < answered.requests:
            raise RuntimeError(f"{system.name}: {answered} and {count} stored")
        tables.rates.put(system.name, count / seconds)
        spent = {name: (at - used[name]) / count * 1e6 for name, at in turn.used().items()}
        for name, micros in spent.items():
            tables.cpu[name].put(system.name, micros)
        tables.all.put(system.name, sum(spent.values()))


def after_warm_up(load: Load) -> Load:
    """Return the load without its first fifth: what the warm-up has sent would be a repeat."""
    script = load.path.with_suffix(".fresh.lua")
    deliveries.write_script(script, load.path, load.size, first=load.total // 5)
    return load._replace(script=script)


def latencies(bench: Bench, system: System, load: Load, rate: float, seconds: float) -> list[float]:
    """Send at a constant rate; return the milliseconds from when each POST was due to when its
    handler began. The first tenth is the warm-up.
    """
    count, times = min(load.total, int(rate * seconds)), bench.folder / "times"
    with running(bench, system, count, times) as turn:
        outcome = at_rate(load, turn.served.port, rate, seconds)
        if outcome.refused:
            raise RuntimeError(f"{system.name} refused {outcome.refused}")
        turn.worker.wait_for(times.exists)
    began = begun(times)
    due = {number: outcome.began_ns + number / rate * 1e9 for number in range(count)}
    return [(began[number] - due[number]) / 1e6 for number in range(count // 10, count)]


def begun(times: Path) -> dict[int, int]:
    """Read when the handler of each order began (ns since 1970), by the order's number."""
    lines = (line.split() for line in times.read_text().splitlines())
    return {int(order_id.removeprefix("ord_")): int(at) for order_id, at in lines}


def run(bench: Bench) -> None:
    """Run the benchmark."""
    if tool("wrk") is None:
        raise SystemExit("wrk is needed: https://github.com/wg/wrk")
    load = signed(bench, 80_000 if bench.quick else 250_000)
    tables, wanted = Tables(bench), systems(bench)
    bench.report.versions |= toolchains() | {"go-redis": pinned_version("go-redis")}
    for _ in bench.each_round():
        for system in wanted:
            progress(system.name)
            full_load(bench, system, load, tables)
    rate = half_of_ours(tables.rates)
    bench.note(f"latencies at {rate:,.0f} deliveries/s; {CONNECTIONS} connections")
    for _ in bench.each_round():
        for system in wanted:
            found = latencies(bench, system, load, rate, 1.0 if bench.quick else 5.0)
            tables.put_latencies(system.name, found)


def half_of_ours(rates: Table) -> float:
    """Return half of our median rate."""
    line = rates.line(OURS)
    assert line is not None
    return line.median / 2


def main(arguments: list[str] | None = None) -> None:
    given = options(__doc__, 3, "end_to_end").parse_args(arguments)
    pinned = pins(receiver=SUBJECT, Redis=SUBJECT, worker=SUBJECT, the_load=OTHERS)
    with Bench("end_to_end", given, pinned) as bench:
        run(bench)
        bench.finish()


if __name__ == "__main__":
    main()
