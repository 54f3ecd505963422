"""How long an idle system takes from a delivery to its handler, and what idle workers cost.

`python -m benchmarks.latency`. The time runs from writing the POST to an open connection until the
handler's first line, on the clock that all processes of the machine share.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from benchmarks import deliveries
from benchmarks.filling import PREFIX, empty, worker
from benchmarks.harness import OTHERS, SUBJECT, Bench, options, percentile, pins, progress
from benchmarks.loadgen import Connection
from benchmarks.startup import is_ready
from hookmill.stream.keys import Keys
from tests.ports import free_port
from tests.support import Server, wait_until

EVERY = 0.02
"""Seconds between deliveries, so that each finds an idle system."""
FLEET = 10


def latencies(bench: Bench, server: Server, count: int) -> list[float]:
    """Send deliveries one by one; return the milliseconds until each handler started."""
    port, told = free_port(), bench.folder / "told"
    env = deliveries.environment(server.url, port)
    with ExitStack() as stack:
        receiver = stack.enter_context(bench.hookmill("receiver", env=env))
        receiver.wait_for(lambda: is_ready(port))
        stack.enter_context(worker(bench, server, "telling", 1, result=told, core=OTHERS))
        sent = send(port, count, told)
        wait_until(lambda: len(read(told)) >= len(sent), what="the last delivery")
    began = read(told)
    # The first one is left out, because it waited for the worker to start.
    return [(began[one] - at) / 1e6 for one, at in list(sent.items())[1:]]


def send(port: int, count: int, told: Path) -> dict[str, int]:
    """Send deliveries evenly after the first was handled; return the time of each (ns)."""
    connection = Connection(port)
    sent: dict[str, int] = {}
    issued = int(time.time()) - 1
    for number in range(count + 1):
        request = deliveries.request(number, issued)
        sent[f"msg_{number:024d}"] = time.monotonic_ns()
        connection.send(request, 0.0)
        while not (status := connection.receive()):
            pass
        if status != b"200":
            raise RuntimeError(f"refused with {status.decode()}")
        if number == 0:
            wait_until(told.exists, what="the first delivery")
        time.sleep(EVERY)
    connection.socket.close()
    return sent


def read(told: Path) -> dict[str, int]:
    """Read when the handler of each message started."""
    lines = told.read_text().splitlines() if told.exists() else []
    return {one: int(at) for one, at in (line.split() for line in lines)}


def idle(bench: Bench, server: Server, seconds: float) -> tuple[float, float]:
    """Return what idle workers ask of Redis in a second: commands and round trips.

    The commands include those inside scripts. The count begins when all workers have been there for
    a while: a start asks for some 120 commands, so one that falls into the count doubles it.
    """
    with ExitStack() as stack, redis.Redis.from_url(server.url) as client:
        client.flushall()
        for number in range(FLEET):
            result = bench.folder / f"result-{number}"
            stack.enter_context(worker(bench, server, "noop", 1, result=result, core=None))
        wait_until(lambda: workers_in(client) >= FLEET, timeout=60.0, what="the fleet")
        time.sleep(0.1 if bench.quick else 20.0)  # until the first sweeps are over
        before = counts(client)
        time.sleep(seconds)
        after = counts(client)
    # The second count includes its own commands and those of the first count.
    commands, reads = ((b - a - 2) / seconds for a, b in zip(before, after, strict=True))
    return commands, reads


def workers_in(client: redis.Redis) -> int:
    """Count the workers of the group, by their heartbeats."""
    found: Any = client.hlen(Keys(PREFIX, 0).of_group("main").heartbeats)
    return int(found)


def counts(client: redis.Redis) -> tuple[int, int]:
    """Return the numbers of commands and reads of the server so far."""
    info: Any = client.info("stats")
    return int(info["total_commands_processed"]), int(info["total_reads_processed"])


def run(bench: Bench) -> None:
    """Run the benchmark."""
    table = bench.table(
        "From the POST to the handler's first line, idle", "ms", digits=2,
        target="p50 at most 3 ms, p99 at most 10 ms",
    )  # fmt: skip
    fleet = bench.table(
        f"What an idle fleet of {FLEET} workers asks of Redis", "a second", digits=1,
        target="less than 20 commands",
    )  # fmt: skip
    with bench.redis() as server:
        for _ in bench.each_round():
            empty(server)
            found = latencies(bench, server, 20 if bench.quick else 1000)
            for name, share in {"p50": 0.5, "p90": 0.9, "p99": 0.99}.items():
                table.put(name, percentile(found, share))
        progress("an idle fleet")
        commands, reads = idle(bench, server, 0.4 if bench.quick else 30.0)
        fleet.put("commands, those inside of scripts as well", commands)
        fleet.put("round trips", reads)


def main(arguments: list[str] | None = None) -> None:
    given = options(__doc__, 3, "latency").parse_args(arguments)
    pinned = pins(the_receiver=SUBJECT, Redis=OTHERS, the_worker=OTHERS) | {"the fleet": "anywhere"}
    with Bench("latency", given, pinned) as bench:
        run(bench)
        bench.finish()


if __name__ == "__main__":
    main()
