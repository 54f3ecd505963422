"""What metrics, traces and history cost, side by side: `python -m benchmarks.cockpit`.

The same receiver, Redis and worker run in turns with one of them on, as in `end_to_end`: all on one
core, and the load on the other one. What counts is the CPU time of a delivery from its POST until
it is handled. Traces are sampled at 1 %; what is recorded is encoded for OTLP, and thrown away.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import end_to_end
from benchmarks.end_to_end import ALL_CPU, RATE, System, cpu_of, full_load
from benchmarks.filling import PREFIX, worker
from benchmarks.harness import OTHERS, SUBJECT, Bench, Program, options, pins, progress, tool
from benchmarks.receiver import signed
from hookmill.config.settings import Settings
from hookmill.stream.keys import Keys
from tests.support import Server

OFF, METRICS, HISTORY = "none of them", "metrics", "the history of attempts"
TRACES = "traces at 1 %"
SAMPLER = f"{TRACES}, by the SDK's sampler"

BARS = {METRICS: 1.03, TRACES: 1.05, HISTORY: 1.03}
"""What a delivery may cost with a feature, in what it costs with none."""

_TRACES = {
    "HOOKMILL_TRACES": "joined",
    "HOOKMILL_TRACES_SETUP": "benchmarks.cockpit_sdk:start",
}


def _default(setting: str) -> str:
    """Return the default of a setting."""
    return str(Settings.model_fields[setting].default)


FEATURES: dict[str, dict[str, str]] = {
    OFF: {},
    METRICS: {"HOOKMILL_ADMIN_PORT": "0"},  # a port that is free, for each program
    HISTORY: {"HOOKMILL_HISTORY": _default("history")},
    TRACES: {"HOOKMILL_TRACES_SAMPLE": "0.01", **_TRACES},
    SAMPLER: {
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.01",
        **_TRACES,
    },
}
"""The variables that switch each feature on, for receiver and worker alike."""

_WITHOUT = {"HOOKMILL_HISTORY": "0"}
"""Switches off what is on by default."""


class Tables(end_to_end.Tables):
    """The tables of this benchmark; all compare with nothing on."""

    def __init__(self, bench: Bench) -> None:
        unit = "µs a delivery"
        asked = ", ".join(f"{name} at most {most:.2f}" for name, most in BARS.items())
        self.all = bench.table(ALL_CPU, unit, digits=1, against=OFF, target=asked)
        self.cpu = {
            name: bench.table(cpu_of(name), unit, digits=1, against=OFF, column=name)
            for name in ("receiver", "Redis", "worker")
        }
        self.rates = bench.table(RATE, "deliveries/s", against=OFF, column="rate")


def system(name: str) -> System:
    """Return receiver and worker with one feature on."""
    env = [f"{variable}={value}" for variable, value in (_WITHOUT | FEATURES[name]).items()]
    command: list[str | Path] = ["env", *env, sys.executable, "-m", "hookmill"]

    @contextmanager
    def working(bench: Bench, server: Server, messages: int, times: Path) -> Iterator[Program]:
        with worker(
            bench, server, "noop", messages, result=times, command=[*command, "worker"]
        ) as program:
            yield program

    return System(name, Keys(PREFIX, 0).stream, [*command, "receiver"], working)


def run(bench: Bench, names: list[str]) -> None:
    """Run the benchmark."""
    if tool("wrk") is None:
        raise SystemExit("wrk is needed: https://github.com/wg/wrk")
    load = signed(bench, 80_000 if bench.quick else 250_000)
    tables = Tables(bench)
    for number in bench.each_round():
        # In turns, and every other round backwards, so that no feature always follows another.
        for name in reversed(names) if number % 2 else names:
            progress(name)
            full_load(bench, system(name), load, tables)


def main(arguments: list[str] | None = None) -> None:
    parser = options(__doc__, 7, "cockpit")
    parser.add_argument("--only", action="append", choices=FEATURES, help="only this feature")
    given = parser.parse_args(arguments)
    names = list(FEATURES) if given.only is None else [OFF, *given.only]
    pinned = pins(receiver=SUBJECT, Redis=SUBJECT, worker=SUBJECT, the_load=OTHERS)
    with Bench("cockpit", given, pinned) as bench:
        run(bench, names)
        bench.finish()


if __name__ == "__main__":
    main()
