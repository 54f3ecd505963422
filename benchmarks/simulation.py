"""Checks plans of fleets in a simulation: `python -m benchmarks.simulation`, some half a minute.

Fleets of about 10, 100 and 1,000 nodes get the load that `hookmill plan` gives them, and then a
lost shard, a herd, an outage, slow handlers and a hot key. Where a run on this machine can be
compared with what is reckoned, both stand beside each other. It starts no servers.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from benchmarks.harness import RESULTS, Bench, options, progress
from benchmarks.simulated import Faults, Fleet, Shard
from benchmarks.tables import Table
from hookmill.admin.capacity import CapacityPlan, Load, plan
from hookmill.admin.costs import raised
from hookmill.admin.measured import MEASURED

SECONDS = 4.0
BEGINS, ENDS = 1.0, 2.0
"""When a fault begins; slow handlers and a hot key stay to the end, the others end."""
NODES = {10: 0.02, 100: 0.02, 1000: 0.5}
"""Receivers, workers and shards together, and the seconds of a handler. With slow handlers, most of
a fleet are workers.
"""
SCENARIOS = {
    "as planned": Faults(),
    "a shard is lost for a second": Faults(BEGINS, ENDS, no_shard=True),
    "three times as much comes for a second": Faults(BEGINS, ENDS, times=3.0),
    "no workers for a second": Faults(BEGINS, ENDS, no_workers=True),
    "one handler of ten takes ten times as long": Faults(BEGINS, SECONDS, slow_share=0.1),
    "a hot key has a tenth of all messages": Faults(BEGINS, SECONDS, hot_share=0.1),
}
ON_ONE = {"a shard is lost for a second", "a hot key has a tenth of all messages"}
"""Scenarios in which the first shard fares otherwise than the others."""


class Tables(NamedTuple):
    """The tables of this benchmark."""

    fleets: Table
    busy: Table
    calls: Table
    typical: Table
    worst: Table
    left: Table
    refused: Table
    compared: Table


def fleet_of(nodes: int, handler: float) -> CapacityPlan:
    """Return the plan of the highest rate that needs no more nodes than these."""
    low, high = 1, 10_000_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if nodes_of(middle, handler) <= nodes else (low, middle)
    return plan(load_of(low, handler), MEASURED)


def nodes_of(rate: float, handler: float) -> int:
    """Return how many nodes a rate needs."""
    found = plan(load_of(rate, handler), MEASURED)
    return found.receivers.processes + found.workers.processes + found.shards.masters


def load_of(rate: float, handler: float) -> Load:
    """Return a load for which the CPU decides, and not the memory."""
    return Load(rate=rate, handler=handler, window=3600, server_memory=1e14, replicas=0)


def percentile(shards: list[Shard], share: float) -> float:
    """Return the milliseconds within which this share of the messages is handed out."""
    found = sorted((lasted, count) for shard in shards for _, lasted, count in shard.latencies)
    wanted = share * sum(count for _, count in found)
    for lasted, count in found:
        wanted -= count
        if wanted <= 0:
            return lasted * 1000
    return 0.0


def simulate(found: CapacityPlan, tables: Tables, place: str) -> None:
    """Run all scenarios on a fleet."""
    for name, faults in SCENARIOS.items():
        shards = Fleet(found, faults).run(SECONDS)
        parts = {name: shards}
        if name in ON_ONE and len(shards) > 1:
            parts = {f"{name}: that shard": shards[:1], f"{name}: another one": shards[1:]}
        for part, those in parts.items():
            tables.typical.put(f"{part} @ {place}", percentile(those, 0.5))
            tables.worst.put(f"{part} @ {place}", percentile(those, 0.99))
            left = max(one.waits + parked(one, found, faults) for one in those)
            tables.left.put(f"{part} @ {place}", left)
        if faults.no_shard:
            tables.refused.put(f"at the lost shard @ {place}", shards[0].refused)
            tables.refused.put(f"at another one @ {place}", sum(one.refused for one in shards[1:]))
        if name == "as planned":
            put_planned(found, shards, tables, place)


def parked(shard: Shard, found: CapacityPlan, faults: Faults) -> int:
    """Return how many messages of a hot key wait for those before them."""
    alone = (SECONDS - faults.begins) / found.load.handler if faults.hot_share else 0
    return max(0, round(shard.parked - alone))


def put_planned(found: CapacityPlan, shards: list[Shard], tables: Tables, place: str) -> None:
    """Put beside each other what was planned and what is found."""
    for name, number in (
        ("messages a second", found.load.rate),
        ("receivers", found.receivers.processes),
        ("workers", found.workers.processes),
        ("shards", found.shards.masters),
    ):
        tables.fleets.put(f"{name} @ {place}", number)
    calls = sum(one.calls for one in shards)
    tables.busy.put(f"needed, planned @ {place}", found.shards.full * 100)
    tables.busy.put(f"shown, planned @ {place}", found.shards.busy * 100)
    busy = sum(one.worked for one in shards) / len(shards) / SECONDS
    tables.busy.put(f"shown, simulated @ {place}", min(1.0, busy) * 100)
    tables.calls.put(f"planned @ {place}", found.shards.call_ms)
    lasted = sum(one.call_seconds for one in shards) / calls * 1000
    tables.calls.put(f"simulated @ {place}", lasted)


def compare(table: Table) -> None:
    """Put what is reckoned beside what was measured on one machine."""

    def put(name: str, reckoned: float, measured: float) -> None:
        table.put(f"{name} @ reckoned", reckoned)
        table.put(f"{name} @ measured", measured)
        table.put(f"{name} @ reckoned by measured, %", reckoned / measured * 100)

    held = 0.05 / MEASURED.waiting_share + MEASURED.answer_ms / 1000
    waits = measured_in("scaling", "Workers, handlers that wait 50 ms, 100 at a time")
    computes = measured_in("scaling", "Workers, handlers that compute 1 ms")
    receivers = measured_in("scaling", "Receivers")
    for count in (1, 2, 4):
        name = f"workers, handlers of 50 ms, 100 at a time: {count}"
        put(name, count * 100 / held, waits[f"wait @ {count}"])
    for count in (1, 2):
        each = 1e6 / (MEASURED.worker_us + 1000)
        name = f"workers, handlers that compute 1 ms: {count}"
        put(name, count * each, computes[f"compute @ {count}"])
    for count in (1, 2):
        each = 1e6 / MEASURED.receiver_us
        put(f"receivers: {count}", count * each, receivers[f"receivers @ {count}"])
    alone = measured_in("scaling", "One Redis, its clients not the limit")
    append = MEASURED.append.of(64, 1) / 64 * raised(MEASURED)
    put("one Redis, appends of 64", 1e6 / append, alone["appended"])
    take = (MEASURED.take.of(256, 1) + MEASURED.settle.of(256, 1)) / 256 * raised(MEASURED)
    put("one Redis, takes of 256", 1e6 / take, alone["taken, IDs remembered"])


def compare_latency(table: Table) -> None:
    """Put the latencies of one receiver, shard and worker at half load beside those measured."""
    half = MEASURED.one_core / 2
    found = plan(Load(rate=half, body=214, window=60, server_memory=1e14), MEASURED)
    shards = Fleet(found, Faults()).run(SECONDS)
    for name, share, measured in zip(
        ("p50", "p99"), (0.5, 0.99), MEASURED.half_load_ms, strict=True
    ):
        lasted = percentile(shards, share)
        table.put(f"from POST to handler at half load, {name} @ reckoned", lasted * 1000)
        table.put(f"from POST to handler at half load, {name} @ measured", measured * 1000)
        ratio = lasted / measured * 100
        table.put(f"from POST to handler at half load, {name} @ reckoned by measured, %", ratio)


def measured_in(name: str, title: str) -> dict[str, float]:
    """Return the medians of a stored table by the names of its lines."""
    report: Any = json.loads((RESULTS / f"{name}.json").read_bytes())
    table = next(one for one in report["tables"] if one["title"] == title)
    lines = ((line["name"], sorted(line["values"])) for line in table["lines"])
    return {name: (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
            for name, values in lines}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    given = options(__doc__, 1, "simulation").parse_args(arguments)
    with Bench("simulation", given, {"the simulation": "anywhere"}) as bench:

        def grid(title: str, unit: str, digits: int = 0) -> Table:
            return bench.table(title, unit, digits=digits, chart="grid")

        tables = Tables(
            grid("The fleets", "number"),
            grid("CPU of a shard", "%"),
            grid("A call to a shard", "ms", 1),
            grid("From POST to handler, p50", "ms", 1),
            grid("From POST to handler, p99", "ms", 1),
            grid("Messages that wait at a shard when 4 seconds are over", "messages"),
            grid("Refused while a shard is lost", "messages a shard"),
            grid("Reckoned, and measured on one machine", "messages/s, latencies in \u00b5s"),
        )
        for nodes, handler in list(NODES.items())[: 1 if bench.quick else None]:
            place = f"{nodes:,} nodes"
            progress(place)
            simulate(fleet_of(nodes, handler), tables, place)
        compare(tables.compared)
        compare_latency(tables.compared)
        bench.note("handlers of 20 ms, at 1,000 nodes of 500 ms; bodies of 2 KB; 60 % utilisation")
        bench.finish()


if __name__ == "__main__":
    main()
