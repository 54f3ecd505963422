"""Says in short what the stored results show: what users want to know first, and who is faster.

`report` writes these parts into the page. Each row is left out whose results are missing, so that
older results can be shown as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from benchmarks.end_to_end import ALL_CPU, GO, LATENCY, RATE, cpu_of, later
from benchmarks.end_to_end import OURS as PAIR
from benchmarks.memory import STORED_BY_HAND
from benchmarks.memory import STORED_TOKEN as STORED
from benchmarks.receiver import BARE, STORING, VERIFYING
from benchmarks.receiver import OURS as RECEIVER
from benchmarks.tables import Report, Table
from benchmarks.worker import BARE as BARE_LOOP
from benchmarks.worker import OURS as WORKER

Reports = dict[str, Report]
Value = Callable[[Reports], float | None]

GO_RECEIVER, GO_WORKER = "Go, group commit", "Go by hand"
RECEIVED = "Verified and stored"
HANDLED = "Messages handled by one process, no-op handler"
IDLE = "From the POST to the handler's first line, idle"
TOGETHER = "A message, from its append to its end"
WAITING = "Redis: a message of 214 bytes that waits"
LOADED, WORKING = "Receivers: 64 connections", "Workers: at work"


OURS = {"hookmill", RECEIVER, WORKER, f"{WORKER}, 256 at a time", f"{WORKER}, 100 at a time"}
EVEN = 0.95
"""What has at least this share of another one's rate is not behind it: runs differ by more."""


def median(report: str, title: str, line: str) -> Value:
    """Return what finds the median of a line."""

    def find(reports: Reports) -> float | None:
        found = table_of(reports, report, title)
        one = found.line(line) if found else None
        return one.median if one else None

    return find


def ratio(above: Value, below: Value) -> Value:
    """Return what finds the ratio of two values."""

    def find(reports: Reports) -> float | None:
        first, second = above(reports), below(reports)
        return first / second if first is not None and second else None

    return find


def table_of(reports: Reports, report: str, title: str) -> Table | None:
    return reports[report].table(title) if report in reports else None


# --- what users want to know ----------------------------------------------------------------


class Fact(NamedTuple):
    """A row: what it is about, its values for us and for Go by hand, and how they are written.
    `{}` stands for a value.
    """

    what: str
    text: str
    ours: Sequence[Value]
    go: Sequence[Value] = ()


def _pair(title: str, line: str) -> Value:
    return median("end_to_end", title, line)


def _core_hours(line: str) -> Value:
    return ratio(_pair(ALL_CPU, line), lambda _: 3600.0)


def _of_pair(line: str) -> list[Value]:
    return [_pair(cpu_of(name), line) for name in ("receiver", "Redis", "worker")]


def _latencies(line: str) -> list[Value]:
    return [_pair(LATENCY, line), _pair(later("p95"), line), _pair(later("p99"), line)]


FACTS = [
    Fact("Deliveries a second on one core, from POST to handled", "{:,.0f}",
         [_pair(RATE, PAIR)], [_pair(RATE, GO)]),
    Fact("CPU time of a million deliveries", "{:,.0f} seconds, {:.3f} core-hours",
         [_pair(ALL_CPU, PAIR), _core_hours(PAIR)], [_pair(ALL_CPU, GO), _core_hours(GO)]),
    Fact("Of it: receiver, Redis, worker", "{:,.0f} s, {:,.0f} s, {:,.0f} s",
         _of_pair(PAIR), _of_pair(GO)),
    Fact("From POST to handler at half of our load: p50, p95, p99",
         "{:.1f}, {:.1f}, {:.1f} ms", _latencies(PAIR), _latencies(GO)),
    Fact("From POST to handler on an idle system: p50, p99", "{:.1f}, {:.1f} ms",
         [median("latency", IDLE, "p50"), median("latency", IDLE, "p99")]),
    Fact("A receiver with a core of its own, deliveries a second", "{:,.0f}",
         [median("receiver", RECEIVED, RECEIVER)], [median("receiver", RECEIVED, GO_RECEIVER)]),
    Fact("A worker with a core of its own, 512 at a time: messages a second", "{:,.0f}",
         [median("worker", HANDLED, WORKER)], [median("worker", HANDLED, GO_WORKER)]),
    Fact("One Redis with a core of its own: messages a second, appended, taken and settled",
         "{:,.0f}", [ratio(lambda _: 1e6, median("redis_cost", TOGETHER, "all, 200 at once"))]),
    Fact("Memory of a receiver and of a worker at work", "{:.0f} and {:.0f} MB",
         [median("memory", LOADED, RECEIVER), median("memory", WORKING, WORKER)],
         [median("memory", LOADED, GO_RECEIVER), median("memory", WORKING, GO_WORKER)]),
    Fact("Memory of Redis for a waiting message of 214 bytes", "{:,.0f} bytes",
         [median("memory", WAITING, STORED)], [median("memory", WAITING, STORED_BY_HAND)]),
]  # fmt: skip


def in_short(reports: Reports) -> str:
    """Return what users want to know, as a table."""
    rows = [(fact.what, _written(fact, fact.ours, reports), fact) for fact in FACTS]
    return markdown(
        ("", "Hookmill", "Go by hand"),
        [(what, ours, _written(fact, fact.go, reports)) for what, ours, fact in rows if ours],
    )


def _written(fact: Fact, values: Sequence[Value], reports: Reports) -> str:
    found = [value(reports) for value in values]
    return fact.text.format(*found) if found and None not in found else ""


# --- who is faster --------------------------------------------------------------------------


class Contest(NamedTuple):
    """A table in which ours is compared with others. `rivals` are they; none: all."""

    what: str
    report: str
    title: str
    ours: str
    is_cost: bool = False
    rivals: Sequence[str] = ()


class Standing(NamedTuple):
    """How we stand beside one of them: 0.5 is half of its rate, or twice its cost."""

    contest: Contest
    rival: str
    ratio: float


CONTESTS = [
    Contest("deliveries a second, from POST to handled", "end_to_end", RATE, PAIR),
    Contest("deliveries a second that a receiver stores", "receiver", RECEIVED, RECEIVER),
    Contest("messages a second that a worker handles", "worker", HANDLED, WORKER),
    Contest("Redis' CPU time for a delivery", "end_to_end", cpu_of("Redis"), PAIR, is_cost=True),
    Contest("latency at half load, p99", "end_to_end", later("p99"), PAIR, is_cost=True),
    Contest("memory of a receiver", "memory", LOADED, RECEIVER, is_cost=True),
    Contest("memory of a worker", "memory", WORKING, WORKER, is_cost=True,
            rivals=(GO_WORKER, "asynq", "apalis", "bee-queue", "BullMQ", "arq", "taskiq-redis")),
    Contest("memory of Redis for a message", "memory", WAITING, STORED, is_cost=True,
            rivals=(STORED_BY_HAND, "asynq", "BullMQ", "bee-queue", "taskiq-redis", "arq")),
]  # fmt: skip
LIMITS = {BARE, VERIFYING, STORING, BARE_LOOP}
"""Lines that show the limit of the parts, and do not store or handle."""


def standings(reports: Reports) -> list[Standing]:
    """Return how we stand beside everyone, the worst first."""
    found = []
    for contest in CONTESTS:
        table = table_of(reports, contest.report, contest.title)
        ours = table.line(contest.ours) if table else None
        if table is None or ours is None:
            continue
        for line in table.lines:
            if line.name in (contest.rivals or {line.name} - OURS - LIMITS):
                share = ours.median / line.median
                found.append(Standing(contest, line.name, 1 / share if contest.is_cost else share))
    return sorted(found, key=lambda one: one.ratio)


def behind(reports: Reports) -> str:
    """Return in what we are behind whom, the worst first."""
    return _by_contest(reports, lambda ratio: ratio < EVEN)


def ahead(reports: Reports) -> str:
    """Return in what we are ahead of whom, or even, the nearest first."""
    return _by_contest(reports, lambda ratio: ratio >= EVEN)


def _by_contest(reports: Reports, counts: Callable[[float], bool]) -> str:
    rows: dict[str, list[str]] = {contest.what: [] for contest in CONTESTS}
    for one in standings(reports):
        if counts(one.ratio):
            rows[one.contest.what].append(_shown(one))
    return markdown(
        ("in", "Hookmill has"), [(what, "; ".join(row)) for what, row in rows.items() if row]
    )


def _shown(one: Standing) -> str:
    """Say how many times another's rate or cost we have."""
    times = 1 / one.ratio if one.contest.is_cost else one.ratio
    return f"{times:.2f} of {one.rival}" if times < 1 else f"{times:.1f} times {one.rival}"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    head = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join(head + lines) if lines else ""
