"""Reckons how many receivers, workers and shards a load needs, from the benchmarks' figures.

No I/O. All bounds grow with the load: more of anything never needs fewer of anything.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from math import ceil

import msgspec

from hookmill.admin.costs import MICROS, Fleet, Traffic, receiver_micros, worker_micros
from hookmill.admin.figures import Figures
from hookmill.admin.memory_checks import BYTES_PER_ID, NEARLY_FULL
from hookmill.config.settings import Settings

MOST_AT_ONCE = 512
"""Messages that one worker handles at the same time, at most: as many as were measured."""
MOST_SHARDS = 64
"""As many as a stream has partitions."""
TOKENS_LAST = 360
"""Seconds for which a token is remembered: its five minutes, and up to one until its hash goes."""
MESSAGES_ON_THEIR_WAY = 4
"""Copies of a message that a worker holds, about: read, decoded, and in the buffers between."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of the system. Times are in seconds, sizes in bytes, rates a second."""

    rate: float
    body: int = 2_000
    handler: float = 0.0
    """From a handler's begin to its end, its waiting included."""
    compute: float = 0.0
    """Of it, what the handler needs of the processor."""
    peak: float = 0.0
    """The highest rate at which deliveries come; none below `rate`."""
    peak_for: float = 60.0
    outage: float = 600.0
    """For how long nothing is handled, and all that comes is kept."""
    window: float = 259_200.0
    """HOOKMILL_DEDUP_WINDOW."""
    replicas: int = 1
    utilisation: float = 0.6
    call: float = 0.01
    """How long a call to Redis may take: what comes meanwhile goes with the next one."""
    server_memory: float = 64e9
    """What a shard's server may use: its `maxmemory`."""


class Receivers(msgspec.Struct):
    """Processes that each have a core."""

    processes: int
    micros: float
    megabytes: float
    spool_bytes: float
    """What each of them spools if Redis is away as long as the outage."""


class Workers(msgspec.Struct):
    """Processes that each have a core."""

    processes: int
    micros: float
    held: float
    """Messages that all of them have in their slots at the rate."""
    concurrency: int
    threads: int
    take_bytes: int
    megabytes: float


class Shards(msgspec.Struct):
    """Redis servers that each have a core, and how many the CPU and the memory each ask for."""

    masters: int
    by_cpu: int
    by_memory: int
    micros: float
    full: float
    """The share of its core that a shard needs, if as much goes with a call as under load."""
    busy: float
    """The share that it shows: smaller calls make it busier, as long as there is room for them."""
    call_ms: float


class Memory(msgspec.Struct):
    """Bytes of all shards together, without their replicas."""

    in_hand: float
    backlog: float
    ids: float
    tokens: float
    history: float

    @property
    def needed(self) -> float:
        """All of it."""
        return self.in_hand + self.backlog + self.ids + self.tokens + self.history


class Wire(msgspec.Struct):
    """Bytes a second between the programs and all shards, and from these to their replicas."""

    to_redis: float
    from_redis: float
    to_replicas: float


class LeftWaiting(msgspec.Struct):
    """What waits after the outage or the peak, whichever leaves more; the time until it is gone."""

    messages: float
    bytes: float
    seconds_to_clear: float | None
    """None: never, because what comes needs all that there is."""


class Limit(msgspec.Struct):
    """The rate at which something of the plan is fully used."""

    what: str
    rate: float


class CapacityPlan(msgspec.Struct):
    """What a load needs. `limits` come in the order in which a growing rate meets them."""

    load: Load
    receivers: Receivers
    workers: Workers
    shards: Shards
    memory: Memory
    wire: Wire
    backlog: LeftWaiting
    limits: list[Limit]


def plan(load: Load, figures: Figures) -> CapacityPlan:
    """Reckon what a load needs."""
    return _Reckoning(load, figures).plan()


def default(name: str) -> int:
    """Return the default of a setting."""
    return int(Settings.model_fields[name].default)


class _Reckoning:
    def __init__(self, load: Load, figures: Figures) -> None:
        self._load = load
        self._figures = figures
        self._comes = max(load.rate, load.peak)
        self._share = load.utilisation
        self._handler = max(load.handler, load.compute) / figures.waiting_share
        self._held = self._handler + figures.answer_ms / 1000 / (1 - load.utilisation)
        """For how long a message has its slot: from when it is asked for to its handler's end."""
        self._stored = figures.stored_bytes.at(load.body)

    def plan(self) -> CapacityPlan:
        receivers, workers = self._receivers(), self._workers()
        memory = self._memory()
        shards = self._shards(receivers.processes, workers.processes, memory)
        fleet = Fleet(receivers.processes, workers.processes, shards.masters)
        return CapacityPlan(
            load=self._load,
            receivers=receivers,
            workers=workers,
            shards=shards,
            memory=memory,
            wire=self._wire(),
            backlog=self._backlog(fleet, workers),
            limits=sorted(
                self._limits(fleet, receivers, workers, memory), key=lambda one: one.rate
            ),
        )

    def _receivers(self) -> Receivers:
        """For the peak: what they do not take is refused, and may not come again."""
        load, figures = self._load, self._figures
        micros = receiver_micros(figures, load.body)
        processes = _needed(self._comes * micros / MICROS, self._share)
        return Receivers(
            processes,
            micros,
            max(figures.receiver_most_mb, figures.receiver_mb.at(load.body)),
            load.rate * load.outage * figures.to_redis.at(load.body) / processes,
        )

    def _workers(self) -> Workers:
        """For the rate: what they do not take at once waits in Redis."""
        load, figures = self._load, self._figures
        micros = worker_micros(figures, load.body) + load.compute * MICROS
        slots = load.rate * self._held / self._share
        processes = max(
            _needed(load.rate * micros / MICROS, self._share), ceil(slots / MOST_AT_ONCE)
        )
        each = ceil(slots / processes)
        in_hand = each * self._stored
        return Workers(
            processes,
            micros,
            load.rate * self._held,
            max(default("concurrency"), each),
            max(default("threads"), each),
            max(default("take_bytes"), ceil(in_hand)),
            figures.worker_mb.at(load.body) + MESSAGES_ON_THEIR_WAY * in_hand / 1e6,
        )

    def _memory(self) -> Memory:
        load = self._load
        return Memory(
            in_hand=load.rate * (self._held + self._figures.half_load_ms[1] / 1000)
            * self._stored,
            backlog=self._left_waiting() * self._stored,
            ids=load.rate * 2 * load.window * BYTES_PER_ID,
            tokens=self._comes * TOKENS_LAST * self._figures.token_bytes,
            history=float(default("history_bytes")),
        )  # fmt: skip

    def _left_waiting(self) -> float:
        load = self._load
        return max(load.rate * load.outage, (self._comes - load.rate) * load.peak_for)

    def _shards(self, receivers: int, workers: int, memory: Memory) -> Shards:
        load, figures = self._load, self._figures

        at_peak = Traffic(load.body, self._comes, load.rate)

        def is_enough(shards: int) -> bool:
            fleet = Fleet(receivers, workers, shards)
            is_free = fleet.full(figures, at_peak) <= self._share
            return is_free and fleet.call_ms(figures, at_peak) <= load.call * 1000

        by_cpu = _fewest(is_enough)
        by_memory = max(1, ceil(memory.needed / (load.server_memory * NEARLY_FULL)))
        masters = max(by_cpu, by_memory)
        fleet = Fleet(receivers, workers, masters)
        usual = Traffic(load.body, load.rate, load.rate)
        return Shards(
            masters,
            by_cpu,
            by_memory,
            fleet.micros(figures, usual),
            fleet.full(figures, usual),
            fleet.busy(figures, usual),
            fleet.call_ms(figures, usual),
        )

    def _wire(self) -> Wire:
        load, figures = self._load, self._figures
        return Wire(
            load.rate * figures.to_redis.at(load.body),
            load.rate * figures.from_redis.at(load.body),
            load.rate * load.replicas * figures.to_replica.at(load.body),
        )

    def _backlog(self, fleet: Fleet, workers: Workers) -> LeftWaiting:
        """While a backlog is cleared, deliveries go on, and each message costs Redis more."""
        load, figures = self._load, self._figures
        waits = self._left_waiting()

        def is_too_much(taken: int) -> bool:
            full = fleet.full(figures, Traffic(load.body, load.rate, taken))
            return full + taken / fleet.shards * figures.clearing / MICROS > 1

        redis = _fewest(is_too_much, most=1 << 40) - 1
        clearing = min(float(redis), self._worked(workers)) - load.rate
        seconds = waits / clearing if clearing > 0 else None
        return LeftWaiting(waits, waits * self._stored, seconds)

    def _worked(self, workers: Workers) -> float:
        """Return the messages that all workers can handle in a second."""
        slots = workers.processes * workers.concurrency
        return min(
            workers.processes * MICROS / workers.micros,
            slots / self._held,
        )

    def _limits(
        self, fleet: Fleet, receivers: Receivers, workers: Workers, memory: Memory
    ) -> list[Limit]:
        load, figures = self._load, self._figures

        def is_full(rate: int) -> bool:
            return fleet.full(figures, Traffic(load.body, rate, rate)) > 1

        changing = memory.needed - memory.history
        room = fleet.shards * load.server_memory - memory.history
        limits = [
            Limit("CPU of receivers", receivers.processes * MICROS / receivers.micros),
            Limit("CPU of workers", workers.processes * MICROS / workers.micros),
            Limit("CPU of Redis", float(_fewest(is_full, most=1 << 40) - 1)),
            Limit("memory of Redis", load.rate * room / changing),
        ]
        slots = workers.processes * workers.concurrency
        return [*limits, Limit("concurrency of workers", slots / self._held)]


def _needed(busy: float, share: float) -> int:
    """Return how many cores have this work at such a share of their time."""
    return max(1, ceil(busy / share))


def _fewest(enough: Callable[[int], bool], most: int = 1 << 24) -> int:
    """Return the first number from 1 on that is enough, as all above it are."""
    return 1 + bisect_left(range(1, most), 1, key=enough)
