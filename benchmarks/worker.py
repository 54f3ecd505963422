"""How many messages a worker handles: `python -m benchmarks.worker`.

The programs run in turns, each in one process with handlers that do nothing: a bare loop of
XREADGROUP and XACK (the limit); our worker as a real process with deduplication, typed decoding,
logs and acknowledgement; and the peers, each in its best documented configuration with a handler
call and an acknowledgement for each message. The worker in Go by hand reads ahead, and acknowledges
in batches. The queue is filled before. The time runs from the first call to the last. Peers in
Python get a plain dict, which is less work than ours; those in Node an object; those in Go and Rust
decode into a struct.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple

import redis

from benchmarks import filling
from benchmarks.filling import Worked, fill, measured, work
from benchmarks.harness import OTHERS, SUBJECT, Bench, Program, options, pins, progress
from benchmarks.programs import PEERS as _PEERS
from benchmarks.programs import (
    Command,
    go_peer,
    node_peer,
    pinned_version,
    python_peer,
    rust_peer,
    toolchains,
)
from benchmarks.tables import Table
from hookmill.stream.keys import Keys
from tests.support import Server

MESSAGES = 100_000
BARE, OURS = "XREADGROUP + XACK, bare", "hookmill worker"
SIZES = {
    "512": (OURS, "512 messages at a time: a take brings some 200, as many as the bare loop reads"),
    "256": (f"{OURS}, 256 at a time", ""),
    "100": (f"{OURS}, 100 at a time", "as by default"),
}
"""How many messages our worker runs at a time. This limits the size of a take."""


class Peer(NamedTuple):
    """A peer, and how many messages it handles in about two seconds. Those in Node get more, so
    that the time until their code is compiled does not count.

    `package` is whose pinned version is shown, and what `--peers` takes. A peer without a `command`
    is the script `with_PACKAGE.py`.
    """

    name: str
    package: str
    messages: int
    concurrency: int
    note: str = ""
    command: Callable[[], Command] | None = None


HAND_WRITTEN = "no retries, leases, order or deduplication"
PEERS = [
    Peer("taskiq-redis", "taskiq", 6_000, 100),
    Peer("FastStream", "faststream", 6_000, 32),
    Peer("streaQ", "streaq", 4_000, 32),
    Peer("SAQ", "saq", 3_000, 20),
    Peer("arq", "arq", 3_000, 10),
    Peer("dramatiq", "dramatiq", 4_000, 8, "8 threads"),
    Peer("docket", "docket", 1_000, 75),
    Peer("FastStream, batches", "faststream", 60_000, 1, "acknowledges a whole batch or nothing"),
    Peer("Go by hand", "go-redis", 200_000, 100, HAND_WRITTEN, partial(go_peer, "goworker")),
    Peer(
        "Go by hand, a log line each", "go-redis", 200_000, 100, HAND_WRITTEN,
        partial(go_peer, "goworker", "-log"),
    ),
    Peer("asynq", "asynq", 30_000, 10, "Go", partial(go_peer, "asynq")),
    Peer(
        "watermill-redisstream", "watermill-redisstream", 40_000, 8, "Go, 8 subscribers",
        partial(go_peer, "watermill"),
    ),
    Peer(
        "apalis", "apalis-redis", 7_000, 10, "Rust; fails where more than some 8,000 messages wait",
        partial(rust_peer, "apalisworker"),
    ),
    Peer("BullMQ", "bullmq", 50_000, 500, "Node", partial(node_peer, "bullmq")),
    Peer("Bull", "bull", 50_000, 500, "Node", partial(node_peer, "bull")),
    Peer("bee-queue", "bee-queue", 50_000, 500, "Node", partial(node_peer, "bee")),
]  # fmt: skip


class Tables:
    """The tables of this benchmark."""

    def __init__(self, bench: Bench) -> None:
        self.rates = bench.table(
            "Messages handled by one process, no-op handler", "messages/s", against=BARE,
            target="ours at least 0.25 of the bare loop, 12 times the fastest Python peer but "
            "batches, even with Go by hand that logs",
        )  # fmt: skip
        micros = "µs a message"
        self.cpu = bench.table(
            "CPU of the worker", micros, against=BARE, digits=1, column="CPU time"
        )
        self.redis = bench.table(
            "CPU of Redis, its filling apart", micros, digits=1, column="CPU time of Redis"
        )
        self.reads = bench.table(
            "Redis round trips", "a message", digits=4, column="round trips",
            target="ours at most 0.05 round trips a message",
        )  # fmt: skip
        self.memory = bench.table(
            "Memory at its peak", "MB", digits=1, column="memory at its peak",
            target="ours under 80 MB",
        )  # fmt: skip
        self.sleeping = bench.table(
            "Handlers that sleep 50 ms, 500 at a time", "messages/s", against="ideal",
            target="ours at least 0.95 of the ideal",
        )  # fmt: skip

    def put(self, name: str, worked: Worked, note: str = "") -> None:
        """Add the result of one turn."""
        self.rates.put(name, worked.rate, note)
        self.cpu.put(name, worked.worker_us)
        self.redis.put(name, worked.redis_us)
        self.reads.put(name, worked.reads)
        self.memory.put(name, worked.peak_mb)


def bare(bench: Bench, server: Server, messages: int, count: int = 256) -> Worked:
    """Only read and acknowledge the stream's entries, `count` at a time."""
    result = bench.folder / "result"
    result.unlink(missing_ok=True)
    env = {
        "REDIS_URL": server.url,
        "BENCH_STREAM": Keys(filling.PREFIX, 0).stream,
        "BENCH_MESSAGES": str(messages),
        "BENCH_COUNT": str(count),
        "BENCH_RESULT": str(result),
    }
    worked = measured(
        server,
        result,
        lambda: bench.program(sys.executable, _PEERS / "with_hiredis.py", core=SUBJECT, env=env),
    )
    with redis.Redis.from_url(server.url) as client:
        client.xgroup_destroy(env["BENCH_STREAM"], "bare")  # else nothing is trimmed
    return worked


def ours(bench: Bench, server: Server, messages: int, tables: Tables) -> None:
    """Run in turns over the same messages. The bare loop has its own group."""
    with redis.Redis.from_url(server.url) as client:
        for concurrency, (name, note) in SIZES.items():
            client.flushall()
            fill(server, messages)
            if name == OURS:
                tables.put(BARE, bare(bench, server, messages), "reads 256 at a time")
            worked = work(bench, server, "noop", messages, concurrency=concurrency)
            tables.put(name, worked, note)


def sleeping(bench: Bench, server: Server, table: Table) -> None:
    """Measure handlers that wait, compared with the limit that their sleep allows."""
    messages = 2_000 if bench.quick else 40_000
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    fill(server, messages)
    table.put("ideal", 500 / 0.05)
    table.put("uvloop, no queue", asleep(bench, server, messages).rate)
    table.put(OURS, work(bench, server, "waiting", messages, concurrency="500").rate)


def asleep(bench: Bench, server: Server, messages: int) -> Worked:
    """Run tasks that only sleep."""
    result = bench.folder / "result"
    result.unlink(missing_ok=True)
    env = {
        "BENCH_MESSAGES": str(messages),
        "BENCH_CONCURRENCY": "500",
        "BENCH_RESULT": str(result),
    }
    return measured(
        server,
        result,
        lambda: bench.program(sys.executable, _PEERS / "with_sleep.py", core=SUBJECT, env=env),
    )


class Queue:
    """A peer's program, which fills its queue with its own producer, or empties it. `further` is
    added to its environment.
    """

    def __init__(
        self, bench: Bench, server: Server, given: Peer, further: Mapping[str, str] | None = None
    ) -> None:
        self.messages = min(100, given.messages) if bench.quick else given.messages
        self._bench = bench
        self._server = server
        self._command = given.command() if given.command else python_peer(given.package)
        self._result = bench.folder / "result"
        self._env = {
            "REDIS_URL": server.url,
            "BENCH_MESSAGES": str(self.messages),
            "BENCH_CONCURRENCY": str(given.concurrency),
            "BENCH_RESULT": str(self._result),
            "GOMAXPROCS": "1",
            **({"BENCH_BATCH": "1"} if "batches" in given.name else {}),
            **(further or {}),
        }

    def fill(self) -> None:
        """Empty Redis, and fill the queue."""
        with redis.Redis.from_url(self._server.url) as client:
            client.flushall()
        with self._run("fill") as filling_up:
            if filling_up.wait():
                raise RuntimeError(f"could not fill its queue: {filling_up.log}")

    def start(self) -> AbstractContextManager[Program]:
        """Start the worker."""
        self._result.unlink(missing_ok=True)
        return self._run("work")

    def work(self) -> Worked:
        """Run the worker until the queue is empty."""
        return measured(self._server, self._result, self.start)

    def _run(self, verb: str) -> AbstractContextManager[Program]:
        return self._bench.program(*self._command, verb, core=SUBJECT, env=self._env)


def peer(
    bench: Bench, server: Server, given: Peer, further: Mapping[str, str] | None = None
) -> Worked:
    """Fill a peer's queue, and run the peer until it is empty."""
    queue = Queue(bench, server, given, further)
    queue.fill()
    return queue.work()


def peers(bench: Bench, server: Server, tables: Tables, wanted: list[Peer]) -> None:
    """Run each peer once. A peer that cannot be measured is noted."""
    for one in wanted.copy():
        progress(one.name)
        try:
            tables.put(one.name, peer(bench, server, one), one.note)
            bench.report.versions[one.package] = pinned_version(one.package)
        except (AssertionError, LookupError, RuntimeError) as error:
            last = str(error).strip().rpartition("\n")[2]
            bench.note(f"{one.name} could not be measured: {last[:200]}")
            wanted.remove(one)


def run(bench: Bench, names: list[str] | None = None) -> None:
    """Run the benchmark."""
    tables = Tables(bench)
    bench.report.versions.update(toolchains())
    wanted = [one for one in PEERS if names is None or one.package in names]
    with bench.redis() as server:
        for _ in bench.each_round():
            ours(bench, server, 2_000 if bench.quick else MESSAGES, tables)
            sleeping(bench, server, tables.sleeping)
            peers(bench, server, tables, wanted)


def main(arguments: list[str] | None = None) -> None:
    parser = options(__doc__, 3, "worker")
    parser.add_argument("--peers", nargs="*", metavar="NAME", help="these alone; none: ours alone")
    given = parser.parse_args(arguments)
    with Bench("worker", given, pins(the_worker=SUBJECT, Redis=OTHERS)) as bench:
        run(bench, given.peers)
        bench.finish()


if __name__ == "__main__":
    main()
