"""What a fleet of workers costs Redis: `python -m benchmarks.fleet`.

The workers are whole ones, many in a process (`many_workers.py`). Messages come through the queue
of a receiver, at chance times: 100 a second, 1,000 a second, and as many as are stored with 512
waiting. The cost of a message is the server's CPU time (`INFO cpu`) from its append to its end, and
its commands, those of scripts included. What the same fleet costs while it is idle is measured
before, and is no part of it. It has tables of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import redis
import structlog

from benchmarks.filling import PREFIX, empty, message
from benchmarks.harness import OTHERS, SUBJECT, Bench, options, pinned_to, pins, progress
from hookmill.message import PACKED_VERSION
from hookmill.stream.client import Client
from hookmill.stream.keys import Keys
from hookmill.stream.producer import Producer
from receiver.appender import Appender
from tests.support import Server

FLEETS = ((1, 10), (16, 10), (64, 10), (16, 1), (16, 50), (64, 50))
"""Partitions and workers; all lines are compared with the first one."""

IDLE_FLEETS = ((16, 10), (16, 100), (64, 100), (16, 250))
"""The same for fleets that only wait."""

AT_ONCE = 250
"""The most workers in one process."""

RATES = {"100 a second": 100, "1,000 a second": 1000, "full load": 0}
WAITING = 512
"""Messages that wait to be stored at full load."""

SETTLES = 2.0
"""Seconds that a fleet has before it is measured: it looks more often at its start."""

_numbers = itertools.count()


class Used(NamedTuple):
    """What the server has used."""

    at: float
    cpu: float
    commands: int

    @classmethod
    def by(cls, client: redis.Redis) -> Used:
        """Return what it has used so far."""
        cpu: Any = client.info("cpu")
        stats: Any = client.info("commandstats")
        calls = sum(one["calls"] for one in stats.values())
        return cls(time.monotonic(), cpu["used_cpu_user"] + cpu["used_cpu_sys"], calls)


class Cost(NamedTuple):
    """CPU seconds of the server, and its commands: of a second, or of a message."""

    cpu: float
    commands: float


class Fleet:
    """Workers that run."""

    def __init__(self, server: Server, client: redis.Redis, partitions: int, workers: int) -> None:
        self._server, self._client = server, client
        self._partitions, self._workers = partitions, workers
        time.sleep(SETTLES)

    def idle(self, seconds: float) -> Cost:
        """Return what a second costs in which nothing comes."""
        before = Used.by(self._client)
        time.sleep(seconds)
        now = Used.by(self._client)
        passed = now.at - before.at
        return Cost((now.cpu - before.cpu) / passed, (now.commands - before.commands) / passed)

    def cost(self, rate: int, seconds: float, idle: Cost) -> Cost:
        """Send messages at a rate; return what each has cost beyond an `idle` fleet."""
        before = Used.by(self._client)
        count = asyncio.run(self._send(rate, seconds))
        asked = 1
        while self._unfinished():
            asked += 1
            time.sleep(0.02)
        now = Used.by(self._client)
        passed = now.at - before.at
        commands = now.commands - before.commands - asked * self._partitions
        cpu = now.cpu - before.cpu - idle.cpu * passed
        return Cost(cpu / count, (commands - idle.commands * passed) / count)

    def connections(self) -> float:
        """Return the connections of a worker."""
        info: Any = self._client.info("clients")
        return (int(info["connected_clients"]) - 1) / self._workers

    def _unfinished(self) -> int:
        """Count the messages that are not finished."""
        with self._client.pipeline(transaction=False) as pipe:
            for number in range(self._partitions):
                pipe.xinfo_groups(Keys(PREFIX, number).stream)
            found = pipe.execute(raise_on_error=False)
        groups = [group for each in found if not isinstance(each, Exception) for group in each]
        return sum(int(one["lag"] or 0) + int(one["pending"]) for one in groups)

    async def _send(self, rate: int, seconds: float) -> int:
        """Send messages for so many seconds; return their number."""
        async with Client(self._server.url, PREFIX, partitions=self._partitions) as client:
            appender = Appender(Producer(client), 10.0)
            appender.write_in(PACKED_VERSION)
            due, count = time.perf_counter(), 0
            ends = due + seconds
            while (now := time.perf_counter()) < ends:
                while due <= now if rate else appender.waiting < WAITING:
                    appender.put(message(next(_numbers)), check)
                    due += random.expovariate(rate) if rate else 0.0
                    count += 1
                await asyncio.sleep(max(0.0, due - time.perf_counter()) if rate else 0.0005)
            await appender.close()
        return count


def check(refusal: object) -> None:
    """Fail where a message was not stored."""
    if refusal is not None:
        raise RuntimeError(f"a message was refused: {refusal}")


@contextmanager
def running(bench: Bench, server: Server, partitions: int, workers: int) -> Iterator[Fleet]:
    """Run so many workers inside the block."""
    progress(f"{partitions} partitions, {workers} workers")
    empty(server)
    with ExitStack() as stack:
        client = stack.enter_context(redis.Redis.from_url(server.url))
        client.config_set("maxclients", 15_000)
        for first in range(0, workers, AT_ONCE):
            result = bench.folder / f"opened-{first}"
            result.unlink(missing_ok=True)
            env = {
                "REDIS_URL": server.url,
                "HOOKMILL_PREFIX": PREFIX,
                "HOOKMILL_PARTITIONS": str(partitions),
                "BENCH_RESULT": str(result),
            }
            count = str(min(AT_ONCE, workers - first))
            command = (sys.executable, "-m", "benchmarks.many_workers", count)
            program = stack.enter_context(bench.program(*command, core=SUBJECT, env=env))
            program.wait_for(result.exists)
        yield Fleet(server, client, partitions, workers)


class Tables:
    """The tables of this benchmark."""

    def __init__(self, bench: Bench) -> None:
        base = _name(*FLEETS[0])
        self.costs = {
            rate: (
                bench.table(f"A message, {rate}", "\u00b5s of Redis", digits=0, against=base,
                            target="within 10 % of the first line"),
                bench.table(f"A message, {rate}: commands", "commands", digits=1,
                            column="commands"),
            )
            for rate in RATES
        }  # fmt: skip
        self.idle = bench.table("An idle fleet", "ms of Redis in a second", digits=1)
        self.idle_commands = bench.table(
            "An idle fleet: commands", "commands", digits=0, column="commands a second"
        )
        self.connections = bench.table(
            "An idle fleet: connections", "connections", digits=1, column="connections a worker"
        )


def run(bench: Bench) -> None:
    """Run the benchmark."""
    tables, seconds = Tables(bench), 0.5 if bench.quick else 3.0
    fleets, idle_fleets = (FLEETS[:1], IDLE_FLEETS[:1]) if bench.quick else (FLEETS, IDLE_FLEETS)
    with bench.redis() as server, pinned_to(OTHERS):
        for _ in bench.each_round():
            for partitions, workers in fleets:
                with running(bench, server, partitions, workers) as fleet:
                    idle, name = fleet.idle(seconds), _name(partitions, workers)
                    for rate, (micros, commands) in tables.costs.items():
                        cost = fleet.cost(RATES[rate], seconds, idle)
                        micros.put(name, cost.cpu * 1e6)
                        commands.put(name, cost.commands)
            for partitions, workers in idle_fleets:
                with running(bench, server, partitions, workers) as fleet:
                    idle, name = fleet.idle(3 * seconds), _name(partitions, workers)
                    tables.idle.put(name, idle.cpu * 1e3)
                    tables.idle_commands.put(name, idle.commands)
                    tables.connections.put(name, fleet.connections())


def _name(partitions: int, workers: int) -> str:
    return f"{partitions} x {workers}"


def main(arguments: list[str] | None = None) -> None:
    given = options(__doc__, 2, "fleet").parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    with Bench("fleet", given, pins(Redis=OTHERS, the_workers=SUBJECT)) as bench:
        run(bench)
        bench.finish()


if __name__ == "__main__":
    main()
