"""How throughput grows with more processes, and how much one Redis can do.

`python -m benchmarks.scaling`. No process is pinned: workers, receivers, the load generator and
Redis share all cores. A curve that flattens at the number of cores shows the limit of the machine,
not of Redis. Redis alone is measured in a table of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import redis

from benchmarks import deliveries, replay
from benchmarks.filling import PREFIX, empty, fill, message, worker
from benchmarks.harness import CORES, OTHERS, Bench, Program, options, pinned_to, progress, tool
from benchmarks.receiver import Load
from benchmarks.startup import is_ready
from benchmarks.tables import Table
from hookmill.message import PACKED_VERSION
from hookmill.stream.keys import Keys
from hookmill.stream.producer import Producer
from tests.ports import free_port
from tests.support import Server, wait_until

BATCH = 64
"""Messages in one append: about as many as arrive during the append before."""
MOUTHFUL = 256
KEYS = Keys(PREFIX, 0)


def workers(bench: Bench, server: Server, count: int, handlers: str) -> float:
    """Return how many messages a number of workers settle per second."""
    seconds = 0.2 if bench.quick else 3.0
    empty(server)
    with ExitStack() as stack, redis.Redis.from_url(server.url) as client:
        fill(server, 3_000 if bench.quick else 12_000 + 10_000 * count)
        for number in range(count):
            result = bench.folder / f"result-{number}"
            given = worker(bench, server, handlers, 10**9, result=result, core=None)
            stack.enter_context(given)
        wait_until(lambda: consumers(client) >= count, timeout=60.0, what="all workers")
        before, began = settled(client), time.perf_counter()
        time.sleep(seconds)
        return (settled(client) - before) / (time.perf_counter() - began)


def consumers(client: redis.Redis) -> int:
    """Count the workers that have taken a message."""
    try:
        found: Any = client.xinfo_consumers(KEYS.stream, "main")
    except redis.ResponseError:  # the group does not exist yet
        return 0
    return sum(1 for one in found if one["pending"])


def settled(client: redis.Redis) -> int:
    """Count the finished messages."""
    groups: Any = client.xinfo_groups(KEYS.stream)
    group = next(one for one in groups if one["name"] == b"main")
    return int(group["entries-read"]) - int(group["pending"])


def receivers(
    bench: Bench, server: Server, loads: Sequence[Load], *, one_command: bool = False
) -> float:
    """Return how many deliveries the receivers answer per second. Each has its own port and load;
    those of one command share a port.
    """
    seconds = 1 if bench.quick else 4
    empty(server)
    with ExitStack() as stack, redis.Redis.from_url(server.url) as client:
        ports = [free_port()] * len(loads) if one_command else [free_port() for _ in loads]
        words = ["receiver", *(["--processes", str(len(loads))] if one_command else [])]
        for port in dict.fromkeys(ports):
            env = deliveries.environment(server.url, port)
            program = stack.enter_context(bench.hookmill(*words, core=None, env=env))
            program.wait_for(lambda port=port: is_ready(port))
            if one_command and len(loads) > 1:
                program.wait_for(partial(are_all_ready, program))
        sending = []
        for port, load in zip(ports, loads, strict=True):
            url = f"http://127.0.0.1:{port}/qstash"
            command: list[str | Path] = ["wrk", "-t1", "-c64", f"-d{seconds}s", "-s", load.script]
            sending.append(stack.enter_context(bench.program(*command, url, core=None)))
        for program in sending:
            if program.wait():
                raise RuntimeError(f"wrk failed: {program.log}")
        stored: Any = client.xlen(KEYS.stream)
    return float(stored) / seconds


def are_all_ready(supervisor: Program) -> bool:
    """Return whether all receivers of one command have begun to work."""
    return "all processes are ready" in supervisor.log


def carried(bench: Bench, server: Server, table: Table) -> None:
    """Measure how many appends and takes Redis alone can do."""
    batch = [message(number) for number in range(BATCH)]
    appends = 50 if bench.quick else 4_000
    empty(server)
    with redis.Redis.from_url(server.url) as client:

        async def append(stream: Producer) -> None:
            await stream.append(batch, PACKED_VERSION)

        async def take(stream: Producer) -> None:
            await replay.taking(stream, MOUTHFUL)

        command = asyncio.run(replay.recorded(server, PREFIX, append))
        took = replay.send(server, [command] * appends)
        table.put("appended", appends * BATCH / took, f"{BATCH} an append")
        empty(server)
        total = 3_000 if bench.quick else 150_000
        fill(server, total)
        said = asyncio.run(replay.recorded(server, PREFIX, take))
        times = total // MOUTHFUL - 2
        took = replay.send(server, [replay.last_script(said)] * times)
        groups: Any = client.xinfo_groups(KEYS.stream)
        taken = max(int(one["pending"]) for one in groups) - 2 * MOUTHFUL
        table.put("taken, IDs remembered", taken / took, f"{MOUTHFUL} a take")


def run(bench: Bench) -> None:
    """Run the benchmark."""
    computing = bench.table("Workers, handlers that compute 1 ms", "messages/s", chart="curves")
    waiting = bench.table(
        "Workers, handlers that wait 50 ms, 100 at a time", "messages/s", chart="curves"
    )
    answering = bench.table("Receivers", "requests/s", chart="curves")
    carrying = bench.table("One Redis, its clients not the limit", "messages/s")
    loads = make_loads(bench) if tool("wrk") else []
    if not loads:
        bench.note("receivers are missing: wrk is not installed")
    with bench.redis() as server:
        for _ in bench.each_round():
            for count in (1,) if bench.quick else (1, 2, 4):
                progress(f"{count} workers")
                computing.put(f"compute @ {count}", workers(bench, server, count, "computing"))
                waiting.put(f"wait @ {count}", workers(bench, server, count, "waiting"))
            for count in range(1, len(loads) + 1):
                answering.put(f"receivers @ {count}", receivers(bench, server, loads[:count]))
                rate = receivers(bench, server, loads[:count], one_command=True)
                answering.put(f"--processes @ {count}", rate)
            with pinned_to(CORES[0]):
                carried(bench, server, carrying)


def make_loads(bench: Bench) -> list[Load]:
    """Sign deliveries for two receivers, with different IDs."""
    count = 2_000 if bench.quick else 100_000
    path = bench.folder / "deliveries"
    size = deliveries.write(path, 2 * count)
    loads = []
    for number in range(2):
        part, script = bench.folder / f"part-{number}", bench.folder / f"part-{number}.lua"
        with path.open("rb") as file:
            file.seek(number * count * size)
            part.write_bytes(file.read(count * size))
        deliveries.write_script(script, part, size)
        loads.append(Load(part, count, size, script))
    return loads


def main(arguments: list[str] | None = None) -> None:
    given = options(__doc__, 2, "scaling").parse_args(arguments)
    pinned = {
        "workers, receivers, the load": f"any of {len(CORES)} cores",
        "Redis": f"core {OTHERS}",
        "the client of the last table": f"core {CORES[0]}",
    }
    with Bench("scaling", given, pinned) as bench:
        run(bench)
        bench.finish()


if __name__ == "__main__":
    main()
