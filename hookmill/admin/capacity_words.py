"""Says a plan in words: how many of each, by which figure, what limits first, what to set.

No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hookmill.admin.capacity import MOST_SHARDS, CapacityPlan, Load, default
from hookmill.admin.figures import Figures
from hookmill.admin.memory_checks import BYTES_PER_ID
from hookmill.admin.units import count, size, span


class Reckoned(NamedTuple):
    """One answer: what, how much of it, and by which figures of which benchmarks."""

    what: str
    needed: str
    by: str


def title(load: Load) -> str:
    """Return what was asked."""
    peak = f", {load.peak:,.10g} for {lasts(load.peak_for)}" if load.peak > load.rate else ""
    return (
        f"{load.rate:,.10g} messages a second{peak}, bodies of {size(load.body)}, handlers of "
        f"{lasts(load.handler)}, {load.utilisation:.0%} utilisation"
    )


def rows(plan: CapacityPlan, figures: Figures) -> list[Reckoned]:
    """Return the answers."""
    return [_receivers(plan), _workers(plan, figures), _shards(plan), *_memory(plan, figures),
            _wire(plan), _backlog(plan, figures)]  # fmt: skip


def limits(plan: CapacityPlan) -> str:
    """Return what a growing rate meets first, and then."""
    said = [f"{one.what} at {_rate(one.rate)} a second" for one in plan.limits]
    return ", then ".join(said[:3])


def settings(plan: CapacityPlan) -> list[str]:
    """Return the settings that differ from their defaults, as a shell takes them."""
    load, workers, backlog = plan.load, plan.workers, plan.backlog
    wanted = {
        "partitions": min(plan.shards.masters, MOST_SHARDS),
        "concurrency": workers.concurrency,
        "take_bytes": workers.take_bytes,
        "dedup_window": round(load.window),
        "backlog_messages": max(round(1.25 * backlog.messages), default("backlog_messages")),
        "backlog_bytes": max(round(1.25 * backlog.bytes), default("backlog_bytes")),
    }
    return [
        f"HOOKMILL_{name.upper()}={value}"
        for name, value in wanted.items()
        if value != default(name)
    ]


def notes(plan: CapacityPlan) -> Iterator[str]:
    """Return what somebody who follows the plan should know."""
    load, shards = plan.load, plan.shards
    if shards.masters > MOST_SHARDS:
        yield (
            f"a stream has {MOST_SHARDS} partitions at most, so no more shards than that: divide "
            f"the senders among {count(-(-shards.masters // MOST_SHARDS), 'system', 'systems')}"
        )
    if shards.by_memory > shards.by_cpu:
        yield (
            f"the memory asks for {count(shards.by_memory, 'shard', 'shards')}, the CPU only for "
            f"{shards.by_cpu:,}: see above what takes it. A shorter --window needs less for "
            "IDs; it has to be longer than senders go on delivering"
        )
    if shards.busy > load.utilisation and shards.full <= load.utilisation:
        yield (
            f"a shard will show {shards.busy:.0%} of its core in use, though it needs "
            f"{shards.full:.0%}: while there is time, programs call it more often, with fewer "
            "messages each"
        )
    if plan.workers.threads > default("threads"):
        yield (
            "handlers that are a plain `def` need a thread each: set HOOKMILL_THREADS="
            f"{plan.workers.threads} for them"
        )


def lasts(seconds: float) -> str:
    """Return a time from a millisecond on."""
    return span(seconds) if seconds >= 1 or not seconds else f"{seconds * 1000:g} ms"


def _receivers(plan: CapacityPlan) -> Reckoned:
    one = plan.receivers
    return Reckoned(
        "receivers",
        f"{_processes(one.processes)}, {one.megabytes:.0f} MB each",
        f"{one.micros:,.0f} µs of CPU a delivery (end_to_end, bodies)",
    )


def _workers(plan: CapacityPlan, figures: Figures) -> Reckoned:
    one = plan.workers
    return Reckoned(
        "workers",
        f"{_processes(one.processes)}, {one.megabytes:.0f} MB each, "
        f"{one.concurrency:,} messages at a time each",
        f"{one.micros:,.0f} µs of CPU a message (end_to_end, bodies); "
        f"{one.held:,.0f} at a time in all, at {figures.waiting_share:.0%} of the ideal (worker)",
    )


def _shards(plan: CapacityPlan) -> Reckoned:
    one = plan.shards
    replicas = count(plan.load.replicas, "replica", "replicas")
    return Reckoned(
        "shards",
        f"{count(one.masters, 'master', 'masters')} with {replicas} each: the CPU asks for "
        f"{one.by_cpu:,}, the memory for {one.by_memory:,}",
        f"{one.micros:,.0f} µs of CPU a message, a call takes {one.call_ms:.1f} ms (redis_cost, "
        "wire, end_to_end)",
    )


def _memory(plan: CapacityPlan, figures: Figures) -> Iterator[Reckoned]:
    memory, load = plan.memory, plan.load
    each = size(memory.needed / plan.shards.masters)
    yield Reckoned(
        "memory",
        f"{size(memory.needed)} of Redis, {each} a shard; each replica as much again",
        f"a shard may use {size(load.server_memory)}, and a fifth of it stays free",
    )
    yield Reckoned(
        "  IDs",
        f"{size(memory.ids)}",
        f"{BYTES_PER_ID} B for up to twice {span(load.window)} (dedup_memory)",
    )
    stored = figures.stored_bytes.at(load.body)
    yield Reckoned(
        "  waiting",
        f"{size(memory.backlog)}, and {size(memory.in_hand)} in hand",
        f"{size(stored)} a message (wire)",
    )
    yield Reckoned(
        "  tokens",
        f"{size(memory.tokens)}, where QStash sends",
        f"{figures.token_bytes:.0f} B for six minutes (memory)",
    )
    yield Reckoned("  history", size(memory.history), "HOOKMILL_HISTORY_BYTES")


def _wire(plan: CapacityPlan) -> Reckoned:
    wire, masters = plan.wire, plan.shards.masters
    all_of_it = wire.to_redis + wire.from_redis + wire.to_replicas
    return Reckoned(
        "wire",
        f"{_bits(wire.to_redis)} to Redis, {_bits(wire.from_redis)} from it, "
        f"{_bits(wire.to_replicas)} to replicas: {_bits(all_of_it / masters)} a shard",
        f"{all_of_it / plan.load.rate:,.0f} B a message (wire)",
    )


def _backlog(plan: CapacityPlan, figures: Figures) -> Reckoned:
    one, load = plan.backlog, plan.load
    cleared = "never" if one.seconds_to_clear is None else f"in {_long(one.seconds_to_clear)}"
    is_peak = (load.peak - load.rate) * load.peak_for > load.rate * load.outage
    after = (
        f"a peak of {span(load.peak_for)}" if is_peak else f"{span(load.outage)} without workers"
    )
    return Reckoned(
        "an outage",
        f"{after} leaves {one.messages:,.0f} messages, {size(one.bytes)}; they are gone {cleared}. "
        f"Without Redis each receiver spools "
        f"{size(plan.receivers.spool_bytes)}",
        f"{figures.clearing:.0f} µs of Redis a message more while a million waits (growth)",
    )


def _processes(number: int) -> str:
    return f"{count(number, 'process', 'processes')}, a core each"


def _bits(bytes_a_second: float) -> str:
    """Return a rate of bytes as networks count it."""
    megabits = bytes_a_second * 8 / 1e6
    return f"{megabits / 1000:,.1f} Gb/s" if megabits >= 1000 else f"{megabits:,.1f} Mb/s"


def _long(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min" if seconds >= 120 else f"{seconds:,.0f} s"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
