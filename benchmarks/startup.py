"""How fast the programs start: `python -m benchmarks.startup`."""

from __future__ import annotations

import http.client
import sys
import time

from benchmarks import deliveries
from benchmarks.harness import OTHERS, SUBJECT, Bench, options, pins
from tests.ports import free_port
from tests.support import Server

TIMES = 20


def help_ms(bench: Bench) -> float:
    """Time `hookmill --help`, from its start to its end."""
    began = time.perf_counter()
    with bench.hookmill("--help", env={}) as program:
        code = program.wait()
        took = (time.perf_counter() - began) * 1000
        if code:
            raise RuntimeError(f"hookmill --help: {program.log}")
    return took


def python_ms(bench: Bench) -> float:
    """Time a Python that does nothing, which is the lower limit."""
    began = time.perf_counter()
    with bench.program(sys.executable, "-c", "pass", core=SUBJECT) as program:
        program.wait()
        return (time.perf_counter() - began) * 1000


def ready_ms(bench: Bench, server: Server) -> float:
    """Time a receiver from its start until /readyz answers with 200."""
    port = free_port()
    began = time.perf_counter()
    env = deliveries.environment(server.url, port)
    with bench.hookmill("receiver", env=env) as program:
        while not is_ready(port):
            if not program.is_running:
                raise RuntimeError(f"the receiver ended: {program.log}")
            time.sleep(0.002)
        return (time.perf_counter() - began) * 1000


def is_ready(port: int) -> bool:
    """Return whether /readyz answers with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def run(bench: Bench) -> None:
    """Run the benchmark: each round starts each program once."""
    table = bench.table(
        "From nothing to ready", "ms",
        target="hookmill --help under 150 ms, the receiver ready in under 700 ms",
    )  # fmt: skip
    with bench.redis() as server:
        for _ in bench.each_round():
            table.put("python -c pass", python_ms(bench))
            table.put("hookmill --help", help_ms(bench))
            table.put("hookmill receiver until /readyz", ready_ms(bench, server))


def main(arguments: list[str] | None = None) -> None:
    given = options(__doc__, TIMES, "startup").parse_args(arguments)
    with Bench("startup", given, pins(the_program=SUBJECT, Redis=OTHERS)) as bench:
        run(bench)
        bench.finish()


if __name__ == "__main__":
    main()
