"""A fleet in a discrete-event simulation: receivers, shards and workers as their plan has them.

What a call costs a shard is what was measured. Batches, queues and latencies are not put in: they
come out. Of many shards a few are simulated, with all programs that call them, because a shard
shares nothing with others but the slots of workers, of which each has its part.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

from hookmill.admin.capacity import CapacityPlan
from hookmill.admin.costs import MICROS, raised
from hookmill.admin.measured import MEASURED

SHARDS = 2
"""How many shards are simulated, at most."""
MOST_A_CALL = 200
Steps = Generator[simpy.Event, Any, None]


@dataclass
class Faults:
    """What goes wrong, from the second `begins` to `ends`, on the first shard or on all."""

    begins: float = math.inf
    ends: float = math.inf
    no_shard: bool = False
    no_workers: bool = False
    times: float = 1.0
    """How much more comes than usual."""
    slow_share: float = 0.0
    """Of all messages, those whose handler takes ten times as long."""
    hot_share: float = 0.0
    """Of all messages, those of one ordering key. They go to the first shard, one after another."""

    def now(self, time: float) -> bool:
        """Whether it is the time."""
        return self.begins <= time < self.ends


@dataclass
class Shard:
    """A server that does one thing after another."""

    number: int
    free_at: float = 0.0
    worked: float = 0.0
    calls: int = 0
    appended: int = 0
    appends: int = 0
    waiting: deque[tuple[float, int]] = field(default_factory=deque)
    waits: int = 0
    parked: int = 0
    handled: int = 0
    idle: list[simpy.Event] = field(default_factory=list)
    latencies: list[tuple[float, float, int]] = field(default_factory=list)
    """When messages were handed out, how long after they came, and how many."""
    backlog: list[tuple[float, int]] = field(default_factory=list)
    call_seconds: float = 0.0
    refused: int = 0


@dataclass
class Worker:
    """The free slots of a worker, and what it has to settle in each shard."""

    free: int
    ended: list[int]
    settles: list[bool]
    wanted: list[simpy.Event] = field(default_factory=list)


class Fleet:
    """Runs a plan for some seconds."""

    def __init__(self, plan: CapacityPlan, faults: Faults, seed: int = 1) -> None:
        self._env = simpy.Environment()
        self._plan, self._faults = plan, faults
        self._random = random.Random(seed)
        self._raised = raised(MEASURED) / MICROS
        self._bytes = MEASURED.redis_by_size.more_at(plan.load.body) / 2
        every = plan.shards.masters
        count = min(SHARDS, every)
        self.shards = [Shard(number) for number in range(count)]
        self._each = plan.load.rate / every / plan.receivers.processes
        self._slots = max(1, round(plan.workers.concurrency * count / every))
        self._handler = plan.load.handler / MEASURED.waiting_share
        self._most = 1 / plan.receivers.micros * MICROS / every
        """What a receiver takes for one shard if it does nothing else."""

    def run(self, seconds: float) -> list[Shard]:
        """Simulate so many seconds."""
        for shard in self.shards:
            for _ in range(self._plan.receivers.processes):
                self._env.process(self._receiver(shard))
            self._env.process(self._watch(shard))
        for _ in range(self._plan.workers.processes):
            worker = Worker(self._slots, [0] * len(self.shards), [False] * len(self.shards))
            for shard in self.shards:
                self._env.process(self._works(shard, worker))
        self._env.run(until=seconds)
        return self.shards

    def _call(self, shard: Shard, micros: float) -> simpy.Event:
        """Queue a call; return what happens when its answer is there."""
        now = self._env.now
        if shard.number == 0 and self._faults.no_shard and self._faults.now(now):
            shard.free_at = max(shard.free_at, self._faults.ends)
        service = micros * self._raised
        begins = max(now, shard.free_at)
        shard.free_at = begins + service
        shard.worked += service
        shard.calls += 1
        lasts = shard.free_at - now + max(0.0, MEASURED.answer_ms / 1000 - service)
        shard.call_seconds += lasts
        return self._env.timeout(lasts)

    def _receiver(self, shard: Shard) -> Steps:
        """Append what has come since the append before."""
        env, left = self._env, 0.0
        began = env.now
        while True:
            rate = self._comes_at(shard)
            if not left:
                yield env.timeout(self._random.expovariate(rate))
                left, began = 1.0, env.now
            count = int(min(left, MOST_A_CALL))
            came, at = (began + env.now) / 2, env.now
            append = MEASURED.append.of(count, 1) + self._bytes * count
            yield self._call(shard, append)
            lasted = env.now - at
            shard.appends += 1
            shard.appended += count
            if lasted > 1.0:  # a receiver gives up sooner than a shard that is gone answers
                shard.refused += _poisson(self._random, rate * lasted)
                left = 0.0
            else:
                left = left - count + _poisson(self._random, min(rate, self._most) * lasted)
            began = at
            self._arrived(shard, came, count)

    def _comes_at(self, shard: Shard) -> float:
        rate = self._each
        hot, every = self._faults.hot_share, self._plan.shards.masters
        if hot and self._faults.now(self._env.now):
            rate *= (1 - hot) + (hot * every if shard.number == 0 else 0)
        elif self._faults.now(self._env.now):
            rate *= self._faults.times
        return rate

    def _arrived(self, shard: Shard, came: float, count: int) -> None:
        shard.waiting.append((came, count))
        shard.waits += count
        if shard.idle:
            shard.idle.pop().succeed()

    def _works(self, shard: Shard, worker: Worker) -> Steps:
        """Take what waits as long as there are free slots; else wait to be woken."""
        env = self._env
        while True:
            if self._faults.no_workers and self._faults.now(env.now):
                yield env.timeout(self._faults.ends - env.now)
            if not shard.waits or worker.free < 1:
                woken = env.event()
                (shard.idle if worker.free >= 1 else worker.wanted).append(woken)
                yield woken
                continue
            count = min(shard.waits, worker.free, MOST_A_CALL)
            worker.free -= count
            came = self._given_out(shard, count)
            yield self._call(shard, MEASURED.take.of(count, 1) + self._bytes * count)
            shard.latencies.append((env.now, env.now - came, count))
            self._handle(shard, worker, count)

    def _given_out(self, shard: Shard, count: int) -> float:
        """Take so many of those that wait; return when the first of them came."""
        shard.waits -= count
        first = shard.waiting[0][0]
        while count:
            came, there = shard.waiting.popleft()
            if there > count:
                shard.waiting.appendleft((came, there - count))
            count -= min(count, there)
        return first

    def _handle(self, shard: Shard, worker: Worker, count: int) -> None:
        """Begin with messages, beside each other. Those of a hot key wait for one another without a
        slot, and their key goes on as fast as its handlers end.
        """
        if self._is_now and shard.number == 0 and self._faults.hot_share:
            hot = round(count * self._hot_part() + self._random.random() - 0.5)
            hot = max(0, min(count, hot))
            shard.parked += hot
            worker.free += hot
            count -= hot
        slow = 0
        if self._is_now:
            slow = round(count * self._faults.slow_share + self._random.random() - 0.5)
        slow = max(0, min(count, slow))
        for part, times in ((count - slow, 1.0), (slow, 10.0)):
            if part:
                self._env.process(self._run(shard, worker, part, self._handler * times))

    def _run(self, shard: Shard, worker: Worker, count: int, lasts: float) -> Steps:
        """Handle messages, let others have their slots, and settle them."""
        yield self._env.timeout(lasts)
        worker.free += count
        while worker.wanted:
            worker.wanted.pop().succeed()
        worker.ended[shard.number] += count
        if worker.settles[shard.number]:
            return
        worker.settles[shard.number] = True
        while ended := worker.ended[shard.number]:
            worker.ended[shard.number] = 0
            yield self._call(shard, MEASURED.settle.of(ended, 1))
            shard.handled += ended
        worker.settles[shard.number] = False

    @property
    def _is_now(self) -> bool:
        return self._faults.now(self._env.now)

    def _hot_part(self) -> float:
        """Return the share of the first shard's messages that have the hot key."""
        hot, every = self._faults.hot_share, self._plan.shards.masters
        return hot * every / (1 - hot + hot * every)

    def _watch(self, shard: Shard) -> Steps:
        while True:
            shard.backlog.append((self._env.now, shard.waits))
            yield self._env.timeout(0.05)


def _poisson(source: random.Random, mean: float) -> int:
    """Draw how many come where `mean` are expected."""
    if mean > 30:
        return max(0, round(source.gauss(mean, math.sqrt(mean))))
    bound, count, product = math.exp(-mean), 0, source.random()
    while product > bound:
        count += 1
        product *= source.random()
    return count
