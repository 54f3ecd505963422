"""How many verified and stored deliveries a receiver answers: `python -m benchmarks.receiver`.

The servers run in turns: aiohttp's bare server, which only reads the body and answers (the limit);
the same with our verification; the same with our append; our receiver as a real process with
everything on; and the peers, which verify the same tokens and store the ID and the body: FastAPI
with PyJWT, and Go's net/http, with an XADD for each request or with group commit, with a log line
for each delivery (as ours) and without; axum with redis-rs; fastify with ioredis. Each has to
answer 401 to a delivery that is not genuine. After each turn, the answers with 200 are counted in
Redis. Redis has the heartbeat of a worker of this release, so our receiver writes what it writes
beside such workers.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import redis

from benchmarks import deliveries
from benchmarks.filling import empty
from benchmarks.harness import (
    OTHERS,
    ROOT,
    SUBJECT,
    Bench,
    Program,
    cpu_seconds,
    options,
    peak_mb,
    percentile,
    pins,
    resident_mb,
    tool,
)
from benchmarks.loadgen import Outcome
from benchmarks.peers.counting import BODY
from benchmarks.programs import (
    PEERS,
    Command,
    go_peer,
    installed,
    node_peer,
    pinned_version,
    python_peer,
    rust_peer,
    toolchains,
)
from benchmarks.tables import Table
from hookmill.message import PACKED
from tests.ports import free_port
from tests.support import Server

CONNECTIONS = 64
MANY = 256
BARE, OURS = "aiohttp, bare", "hookmill receiver"
VERIFYING, STORING = "aiohttp, verifying", "aiohttp, verifying and storing"
STORES_NOTHING = {BARE, VERIFYING}
PEER_COMMANDS: dict[str, Callable[[], Command]] = {
    "FastAPI, PyJWT": partial(python_peer, "fastapi"),
    "Go, XADD each": partial(go_peer, "goreceiver", "each"),
    "Go, XADD each, logs": partial(go_peer, "goreceiver", "-log", "each"),
    "Go, group commit": partial(go_peer, "goreceiver", "group"),
    "Go, group commit, logs": partial(go_peer, "goreceiver", "-log", "group"),
    "axum, redis-rs": partial(rust_peer, "axumreceiver"),
    "fastify, ioredis": partial(node_peer, "receiver"),
}
PACKAGES = ("fastapi", "go-redis", "axum", "fastify")
"""Packages of the peers whose pinned versions are shown."""


def ours() -> Command:
    """Return how our receiver is started, from an installation without extras."""
    return [installed(), "-m", "hookmill", "receiver"]


def _script(name: str, *arguments: str) -> Command:
    return [sys.executable, PEERS / name, *arguments]


OURS_AND_PARTS: dict[str, Callable[[], Command]] = {
    BARE: partial(_script, "with_aiohttp.py"),
    VERIFYING: partial(_script, "with_parts.py", "verify"),
    STORING: partial(_script, "with_parts.py", "store"),
    OURS: ours,
}


class Served(NamedTuple):
    """A running server and its port."""

    program: Program
    port: int


class Load(NamedTuple):
    """Deliveries that were signed in advance, in a file of requests of equal size."""

    path: Path
    total: int
    size: int
    script: Path


class Answered(NamedTuple):
    """What wrk measured: answered requests, seconds, and failed requests."""

    requests: int
    seconds: float
    bad: int

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def commands(bench: Bench, names: Sequence[str] = ()) -> dict[str, Command]:
    """Return how these servers are started, or all of them. A peer that cannot be had is noted."""
    makers, found = OURS_AND_PARTS | PEER_COMMANDS, {}
    for name in names or makers:
        try:
            found[name] = makers[name]()
        except LookupError as error:
            bench.note(f"{name} is missing: {error}")
    return found


@contextmanager
def serving(
    bench: Bench, command: Command, url: str, env: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Run a server inside the block."""
    port = free_port()
    given = {**deliveries.environment(url, port), "GOMAXPROCS": "1", **(env or {})}
    with bench.program(*command, core=SUBJECT, env=given) as program:
        program.wait_for(lambda: _listens(port))
        yield Served(program, port)


def signed(bench: Bench, count: int, body_size: int = BODY) -> Load:
    """Sign the deliveries that all rounds send."""
    path = bench.folder / f"deliveries-{body_size}"
    script = path.with_suffix(".lua")
    size = deliveries.write(path, count, body_size)
    deliveries.write_script(script, path, size)
    return Load(path, count, size, script)


def wrk(
    bench: Bench, load: Load, port: int, seconds: float, connections: int = CONNECTIONS
) -> Answered:
    """Send as fast as the server answers."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10"]
    url = f"http://127.0.0.1:{port}/qstash"
    with bench.program(*command, "-s", load.script, url, core=OTHERS) as program:
        code = program.wait(seconds + 60)
        line = next((x for x in program.log.splitlines() if x.startswith("RESULT ")), None)
        if code or line is None:
            raise RuntimeError(f"wrk failed: {program.log}")
    answered, micros, bad, _ = line.split()[1:]
    return Answered(int(answered), int(micros) / 1e6, int(bad))


def at_rate(load: Load, port: int, rate: float, seconds: float) -> Outcome:
    """Send at a constant rate, from a process on the second core. The first half second is the
    warm-up, or the first half of the deliveries if they last for less than a second.
    """
    count = min(load.total, int(rate * seconds))
    warm_up = min(0.5, count / rate / 2)
    command = [sys.executable, "-m", "benchmarks.loadgen", "--port", str(port)]
    command += [
        "--rate",
        str(rate),
        "--warm-up",
        str(warm_up),
        "--requests",
        str(load.path),
        "--size",
        str(load.size),
    ]
    taskset = ["taskset", "-c", str(OTHERS)] if tool("taskset") else []
    done = subprocess.run(
        [*taskset, *command, "--count", str(count)], cwd=ROOT, capture_output=True, check=True
    )
    return msgspec.json.decode(done.stdout, type=Outcome)


class Tables:
    """The tables of this benchmark."""

    def __init__(self, bench: Bench) -> None:
        self.rates = bench.table(
            "Verified and stored", "requests/s", against=BARE,
            target="ours at least 0.75 of bare aiohttp, 6 times FastAPI, "
            "0.8 of Go with group commit",
        )  # fmt: skip
        self.many = bench.table(
            f"The same from {MANY} connections", "requests/s", against=BARE,
            column=f"from {MANY} connections",
        )  # fmt: skip
        self.cpu = bench.table(
            "CPU of the server", "µs a request", against=BARE, digits=1, column="CPU time"
        )
        self.memory = bench.table(
            "Memory at its peak", "MB", digits=1, column="memory at its peak",
            target="ours under 80 MB, under overload as well",
        )  # fmt: skip
        self.middle = bench.table("p50 at half the load of ours", "ms", against=BARE, digits=2)
        self.late = bench.table(
            "p99 at half the load of ours", "ms", against=BARE, digits=2, column="p99",
            target="ours at most 2 times bare aiohttp's p99",
        )  # fmt: skip


def throughput(bench: Bench, load: Load, server: Server, tables: Tables) -> None:
    """Run each server once at full load."""
    seconds = 1.0 if bench.quick else 4.0
    starts = commands(bench)
    with redis.Redis.from_url(server.url) as client:
        for _ in bench.each_round():
            for name, command in starts.items():
                empty(server)
                with serving(bench, command, server.url) as served:
                    if name != BARE:
                        check_refusals(name, served.port)
                    if not bench.quick:
                        wrk(bench, load, served.port, 1.0)  # warm-up
                    before = cpu_seconds(served.program.pid)
                    stored = stored_in(client)
                    answered = wrk(bench, load, served.port, seconds)
                    used = cpu_seconds(served.program.pid) - before
                    if name not in STORES_NOTHING:
                        check_stored(name, answered, stored_in(client) - stored)
                    if name == OURS:
                        check_version(client)
                    tables.rates.put(name, answered.rate)
                    tables.cpu.put(name, used / answered.requests * 1e6)
                    if name not in {VERIFYING, STORING}:
                        tables.memory.put(name, peak_mb(served.program.pid))
                        crowd = wrk(bench, load, served.port, seconds, MANY)
                        tables.many.put(name, crowd.rate)


def stored_in(client: redis.Redis) -> int:
    """Count the stored deliveries."""
    kept: Any = [client.xlen(key) for key in ("bench:{0}:stream", "deliveries")]
    return sum(kept)


def check_refusals(name: str, port: int) -> None:
    """Raise unless a wrong signature and another body are answered with 401."""
    headers, body = deliveries.delivery(0, int(time.time()) - 1)
    signature = headers["Upstash-Signature"]
    forged = {**headers, "Upstash-Signature": signature[:-4] + signature[:-5:-1]}
    for given, sent in ((forged, body), (headers, body + b" ")):
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/qstash", sent, given)
        status = connection.getresponse().status
        connection.close()
        if status != HTTPStatus.UNAUTHORIZED:
            raise RuntimeError(f"{name} answers {status} to a delivery that is not genuine")


def check_stored(name: str, answered: Answered, stored: int) -> None:
    """Raise unless each answer with 200 is a stored delivery. The last may be under way."""
    if answered.bad or stored < answered.requests:
        raise RuntimeError(
            f"{name}: {answered.requests} answers, {answered.bad} of them bad, {stored} stored"
        )


def check_version(client: redis.Redis) -> None:
    """Raise unless the receiver writes in the version that it writes beside present workers."""
    newest: Any = client.xrevrange("bench:{0}:stream", count=1)
    if PACKED not in newest[0][1]:
        raise RuntimeError("the receiver writes in the version of release 0.1")


def latency(bench: Bench, load: Load, server: Server, tables: Tables) -> None:
    """Measure latencies at half of the highest rate of our receiver."""
    rate = next(line.median for line in tables.rates.lines if line.name == OURS) / 2
    bench.note(f"latencies at {rate:,.0f} requests/s, {CONNECTIONS} connections")
    seconds = 0.8 if bench.quick else 5.0
    starts = commands(bench)
    for _ in bench.each_round():
        for name in (BARE, OURS):
            empty(server)
            with serving(bench, starts[name], server.url) as served:
                outcome = at_rate(load, served.port, rate, seconds)
                if outcome.refused:
                    raise RuntimeError(f"{name} refused {outcome.refused}")
                tables.middle.put(name, percentile(outcome.latencies, 0.5) * 1000)
                tables.late.put(name, percentile(outcome.latencies, 0.99) * 1000)


def overload(bench: Bench, load: Load, server: Server, table: Table) -> None:
    """Send over 16 times the connections, while Redis is stopped for the middle third."""
    seconds = 0.4 if bench.quick else 3.0
    empty(server)
    with serving(bench, ours(), server.url) as served:
        url = f"http://127.0.0.1:{served.port}/qstash"
        sending = ["wrk", "-t1", f"-c{16 * CONNECTIONS}", f"-d{round(3 * seconds)}s"]
        with bench.program(*sending, "-s", load.script, url, core=OTHERS) as program:
            time.sleep(seconds)
            server.signal(signal.SIGSTOP)
            try:
                time.sleep(seconds)
            finally:
                server.signal(signal.SIGCONT)
            program.wait()
        table.put(
            f"{OURS}, overload", peak_mb(served.program.pid), "1,024 connections, Redis halts"
        )
        table.put(f"{OURS}, afterwards", resident_mb(served.program.pid))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run(bench: Bench) -> None:
    """Run the benchmark."""
    if tool("wrk") is None:
        raise SystemExit("wrk is needed: https://github.com/wg/wrk")
    load = signed(bench, 5_000 if bench.quick else 200_000)
    tables = Tables(bench)
    bench.report.versions.update(toolchains())
    bench.report.versions.update({package: pinned_version(package) for package in PACKAGES})
    with bench.redis() as server:
        throughput(bench, load, server, tables)
        latency(bench, load, server, tables)
        overload(bench, load, server, tables.memory)


def main(arguments: list[str] | None = None) -> None:
    given = options(__doc__, 3, "receiver").parse_args(arguments)
    pinned = pins(the_server=SUBJECT, Redis=OTHERS, the_load=OTHERS)
    with Bench("receiver", given, pinned) as bench:
        run(bench)
        bench.finish()


if __name__ == "__main__":
    main()
