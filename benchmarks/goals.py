"""What was asked for, and whether the stored results reach it. `report` writes it into the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.cockpit import BARS, OFF
from benchmarks.end_to_end import ALL_CPU
from benchmarks.receiver import BARE
from benchmarks.receiver import OURS as RECEIVER
from benchmarks.summary import (
    GO_RECEIVER,
    HANDLED,
    IDLE,
    RECEIVED,
    TOGETHER,
    Reports,
    Value,
    markdown,
    median,
    ratio,
    table_of,
)
from benchmarks.worker import BARE as BARE_LOOP
from benchmarks.worker import OURS as WORKER
from benchmarks.worker import PEERS

GO_RECEIVER_LOGS, GO_WORKER_LOGS = "Go, group commit, logs", "Go by hand, a log line each"
PYTHON = {one.name for one in PEERS if not one.command and "batches" not in one.name}
P99 = "p99 at half the load of ours"
SLEEPING = "Handlers that sleep 50 ms, 500 at a time"
TAKES, BARE_TAKES = "Take and settle", "XREADGROUP and XACK, bare"
VERDICT, START = "A verdict", "From nothing to ready"
FLEET = "What an idle fleet of 10 workers asks of Redis"
GROWTH = "CPU of worker and Redis"
OVERLOAD = f"{RECEIVER}, overload"


class Goal(NamedTuple):
    """What was asked for: a value of at most, or of at least, its bound."""

    what: str
    value: Value
    bound: float
    at_least: bool = False


def highest(report: str, title: str, lines: Callable[[str], bool]) -> Value:
    """Return what finds the highest median of some lines."""

    def find(reports: Reports) -> float | None:
        table = table_of(reports, report, title)
        found = [line.median for line in table.lines if lines(line.name)] if table else []
        return max(found, default=None)

    return find


def _received(line: str) -> Value:
    return median("receiver", RECEIVED, line)


def _handled(line: str) -> Value:
    return median("worker", HANDLED, line)


def _of(above: Value, below: Value, what: str, bound: float) -> Goal:
    return Goal(what, ratio(above, below), bound, at_least=True)


GOALS = [
    _of(_received(RECEIVER), _received(BARE),
        "receiver, 64 connections: 0.75 of bare aiohttp", 0.75),
    _of(_received(RECEIVER), _received(GO_RECEIVER),
        "receiver: 0.8 of Go with group commit and no log", 0.8),
    _of(_received(RECEIVER), _received(GO_RECEIVER_LOGS),
        "receiver: 0.8 of Go with group commit that logs, as ours does", 0.8),
    _of(_received(RECEIVER), _received("FastAPI, PyJWT"), "receiver: 6 times FastAPI", 6.0),
    Goal("receiver: p99 at half load at most twice the bare server's",
         ratio(median("receiver", P99, RECEIVER), median("receiver", P99, BARE)), 2.0),
    Goal("verification of QStash: 12 µs", median("verification", VERDICT, "qstash"), 12),
    Goal("verification of GitHub's HMAC: 5 µs", median("verification", VERDICT, "github"), 5),
    _of(_handled(WORKER), _handled(BARE_LOOP), "worker: 0.25 of a bare loop", 0.25),
    _of(_handled(WORKER), _handled(GO_WORKER_LOGS), "worker: even with Go by hand that logs", 1.0),
    _of(_handled(WORKER), highest("worker", HANDLED, PYTHON.__contains__),
        "worker: 12 times the fastest Python peer that acknowledges one by one", 12.0),
    _of(median("worker", SLEEPING, WORKER), median("worker", SLEEPING, "ideal"),
        "worker: 0.95 of the ideal with sleeping handlers", 0.95),
    Goal("worker: 0.05 round trips a message",
         median("worker", "Redis round trips", f"{WORKER}, 100 at a time"), 0.05),
    Goal("idle system, from POST to handler: p50 3 ms", median("latency", IDLE, "p50"), 3),
    Goal("idle system, from POST to handler: p99 10 ms", median("latency", IDLE, "p99"), 10),
    Goal("an idle fleet of 10: 20 commands a second",
         median("latency", FLEET, "commands, those inside of scripts as well"), 20),
    *(Goal(f"Redis: 9 µs a message in batches of {batch}",
           median("redis_cost", TOGETHER, f"all, {batch} at once"), 9) for batch in (32, 200)),
    *(Goal(f"Redis: take and settle in batches of {batch} at most 3.5 times the bare commands",
           ratio(median("redis_cost", TAKES, f"take and settle, {batch} at once"),
                 median("redis_cost", TAKES, BARE_TAKES)), 3.5) for batch in (32, 200)),
    Goal("growth: a backlog of a million costs 10 % more",
         ratio(median("growth", GROWTH, "a backlog of 1,000,000"),
               median("growth", GROWTH, "these messages alone")), 1.1),
    Goal("growth: a million remembered IDs cost 10 % more",
         ratio(median("growth", GROWTH, "1,000,000 IDs remembered"),
               median("growth", GROWTH, "these messages alone")), 1.1),
    *(Goal(f"{name}: at most {100 * (most - 1):.0f} % more CPU time a delivery",
           ratio(median("cockpit", ALL_CPU, name), median("cockpit", ALL_CPU, OFF)), most)
      for name, most in BARS.items()),
    Goal("receiver in overload: 80 MB", median("receiver", "Memory at its peak", OVERLOAD), 80),
    Goal("worker: 80 MB", median("worker", "Memory at its peak", WORKER), 80),
    Goal("`hookmill --help`: 150 ms", median("startup", START, "hookmill --help"), 150),
    Goal("receiver ready: 700 ms", median("startup", START, "hookmill receiver until /readyz"),
         700),
]  # fmt: skip


def compared(reports: Reports) -> str:
    """Return what was asked for and what was measured. What was not reached is first."""
    rows = []
    for goal in GOALS:
        found = goal.value(reports)
        if found is not None:
            reached = found >= goal.bound if goal.at_least else found <= goal.bound
            rows.append((goal.what, f"{found:.3g}", "reached" if reached else "**not reached**"))
    return markdown(("asked for", "measured", ""), sorted(rows, key=lambda row: row[2]))
