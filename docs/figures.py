"""Makes `hookmill/admin/measured.py` of the benchmarks' stored results, so that `hookmill plan`
reckons with what was measured, and the tables of docs/explanation/scale.md. `docs/generate.py`
writes both.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import msgspec

from hookmill.admin import units
from hookmill.admin.capacity import Load, plan
from hookmill.admin.figures import Figures

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"

SIZES = {"214 B": 214, "2 KB": 2_000, "20 KB": 20_000, "200 KB": 200_000, "2 MB": 2_000_000}
"""The sizes of bodies, by their names in the tables."""

_MODULE = '''\
"""What the benchmarks have measured, for `capacity.py`. Made by `docs/generate.py` from
`benchmarks/results`: do not edit it, but run `make bench` and `make docs`.
"""

from __future__ import annotations

from hookmill.admin.figures import BySize, Figures, InBatches

MEASURED = Figures(
{fields}
)
'''


def module() -> str:
    """Return the text of the module."""
    fields = "\n".join(f"    {name}={value}," for name, value in _fields().items())
    return _MODULE.format(fields=fields)


def capacity() -> str:
    """Return tables of what loads need. The figures are those that are written in the same run."""
    fresh: dict[str, Any] = {}
    exec(module(), fresh)  # noqa: S102 - the module that is imported may be the one before
    figures: Figures = fresh["MEASURED"]
    return "\n".join([*_by_rate(figures), "", *_by_body(figures), "", *_by_window(figures)])


def _by_rate(figures: Figures) -> list[str]:
    rows = [
        "| messages a second | receivers | workers | shards by CPU | a call takes | network |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for rate in (100, 1_000, 10_000, 50_000, 100_000, 200_000, 400_000):
        found = plan(Load(rate=rate, handler=0.02, window=3600, server_memory=1e14), figures)
        wire = (found.wire.to_redis + found.wire.from_redis) * 8 / 1e9
        rows.append(
            f"| {rate:,} | {found.receivers.processes} | {found.workers.processes} | "
            f"{found.shards.by_cpu} | {found.shards.call_ms:.1f} ms | {wire:,.2f} Gb/s |"
        )
    return rows


def _by_body(figures: Figures) -> list[str]:
    rows = [
        "| body | receivers | workers | shards by CPU | network | a worker has | first limit |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, size in SIZES.items():
        load = Load(rate=10_000, body=size, handler=0.02, window=3600, server_memory=1e14)
        found = plan(load, figures)
        wire = (found.wire.to_redis + found.wire.from_redis) * 8 / 1e9
        rows.append(
            f"| {name} | {found.receivers.processes:,} | {found.workers.processes:,} | "
            f"{found.shards.by_cpu:,} | {wire:,.2f} Gb/s | {found.workers.megabytes:,.0f} MB | "
            f"{found.limits[0].what} |"
        )
    return rows


def _by_window(figures: Figures) -> list[str]:
    rows = [
        "| messages a second | IDs of 72 h | IDs of 1 h | 10 minutes leave | cleared in |",
        "|---:|---:|---:|---:|---:|",
    ]
    for rate in (1_000, 10_000, 50_000, 200_000):
        long, short = (
            plan(Load(rate=rate, handler=0.02, window=window), figures)
            for window in (259_200.0, 3_600.0)
        )
        cleared = short.backlog.seconds_to_clear
        rows.append(
            f"| {rate:,} | {units.size(long.memory.ids)} | {units.size(short.memory.ids)} | "
            f"{units.size(short.memory.backlog)} | "
            f"{'never' if cleared is None else f'{cleared / 60:,.0f} min'} |"
        )
    return rows


def _fields() -> dict[str, str]:
    end = _Result("end_to_end")
    posted = "From POST to handler, at half load"
    half_load = [end.table(f"{posted}{which}")["hookmill"] for which in ("", ", p99")]
    return {
        "machine": f'"{end.machine}"',
        "date": f'"{end.date}"',
        **{name: _number(value) for name, value in _numbers(end).items()},
        **_batches(_Result("redis_cost")),
        "half_load_ms": f"({', '.join(map(_number, half_load))})",
        **_sizes(_Result("bodies"), _Result("wire")),
    }


def _numbers(end: _Result) -> dict[str, float]:
    waiting = _Result("worker").table("Handlers that sleep 50 ms, 500 at a time")
    growth = _Result("growth").table("CPU of Redis")
    stored = _Result("memory").table("Redis: a message of 214 bytes that waits")
    token, none = "as from QStash: with a token that is remembered", "as from Marble: no token"
    receiver = _Result("receiver")
    return {
        "receiver_us": end.table("CPU time of receiver")["hookmill"],
        "worker_us": end.table("CPU time of worker")["hookmill"],
        "redis_us": end.table("CPU time of Redis")["hookmill"],
        "one_core": end.table("Deliveries from POST to handled, on one core")["hookmill"],
        "answer_ms": receiver.table("p50 at half the load of ours")["hookmill receiver"],
        "waiting_share": waiting["hookmill worker"] / waiting["ideal"],
        "clearing": growth["a backlog of 1,000,000"] - growth["these messages alone"],
        "receiver_most_mb": receiver.table("Memory at its peak")["hookmill receiver, overload"],
        "token_bytes": stored[f"hookmill, {token}"] - stored[f"hookmill, {none}"],
    }


def _batches(costs: _Result) -> dict[str, str]:
    appended, taken = costs.table("Append"), costs.table("Take and settle")
    settle = "settle, with a history" if "settle, with a history, 32 at once" in taken else "settle"
    return {
        "append": _in_batches(appended, "append, each with a token"),
        "take": _in_batches(taken, "take"),
        "settle": _in_batches(taken, settle),
    }


def _sizes(bodies: _Result, wire: _Result) -> dict[str, str]:
    receiver, worker = "hookmill receiver", "hookmill worker"
    moved = wire.table("Bytes on the wire")
    spent = wire.table("CPU time of Redis, with a replica")
    held = wire.table("Memory of Redis")
    return {
        "receiver_by_size": _by_size(bodies.table("Receiver, CPU time"), receiver),
        "worker_by_size": _by_size(bodies.table("Worker, CPU time"), worker),
        "redis_by_size": _by_size(spent, "append, take and settle"),
        "receiver_mb": _by_size(bodies.table("Receiver, memory at its peak"), receiver),
        "worker_mb": _by_size(bodies.table("Worker, memory at its peak"), worker),
        "stored_bytes": _by_size(held, "a message that waits, with its token"),
        "to_redis": _by_size(moved, "to Redis"),
        "from_redis": _by_size(moved, "from Redis"),
        "to_replica": _by_size(moved, "to each replica"),
    }


class _Result:
    """A benchmark's stored result."""

    def __init__(self, name: str) -> None:
        self._report: dict[str, Any] = msgspec.json.decode((RESULTS / f"{name}.json").read_bytes())
        self.date = str(self._report["date"])[:10]
        machine = self._report["machine"]
        self.machine = f"{machine['cpu']}, Python {machine['python']}"

    def table(self, title: str) -> dict[str, float]:
        """Return the medians of a table by the names of its lines."""
        table = next(one for one in self._report["tables"] if one["title"] == title)
        return {line["name"]: statistics.median(line["values"]) for line in table["lines"]}


def _number(value: float) -> str:
    """Return a number with four digits that count: the others are noise."""
    return repr(float(f"{value:.4g}"))


def _by_size(table: dict[str, float], name: str) -> str:
    values = ", ".join(_number(table[f"{name} @ {size}"]) for size in SIZES)
    sizes = ", ".join(f"{size:_}" if size >= 1000 else str(size) for size in SIZES.values())
    return f"BySize(\n        sizes=({sizes}),\n        values=({values}),\n    )"


def _in_batches(table: dict[str, float], name: str) -> str:
    pairs = [f"({size}, {_number(table[f'{name}, {size} at once'])})" for size in (32, 200)]
    return f"InBatches(small={pairs[0]}, large={pairs[1]})"
