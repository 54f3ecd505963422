"""What messages cost the receivers, the workers and the shards of a fleet, by the figures.

No I/O. Costs are CPU time, in microseconds a message or as a share of a core.
"""

from __future__ import annotations

import msgspec

from hookmill.admin.figures import Figures

MICROS = 1_000_000.0
FULL_CALL = 32
"""Messages in an append or a take under load: larger calls cost little less, and were measured."""
_STEPS = 40
"""Halvings of the interval in which a load lies. After so many, nothing is left of it."""


def receiver_micros(figures: Figures, body: float) -> float:
    """Return the CPU time of a delivery: as end to end, and what a larger body needs more."""
    return figures.receiver_us + figures.receiver_by_size.more_at(body)


def worker_micros(figures: Figures, body: float) -> float:
    """Return the CPU time of a message without its handler."""
    return figures.worker_us + figures.worker_by_size.more_at(body)


class Traffic(msgspec.Struct, frozen=True):
    """What all shards together are given: messages a second, and the size of their bodies."""

    body: float
    appended: float
    taken: float


class Fleet(msgspec.Struct, frozen=True):
    """How many there are of each."""

    receivers: int
    workers: int
    shards: int

    def full(self, figures: Figures, traffic: Traffic) -> float:
        """Return the share of its core that each shard needs at least, because calls are full:
        so many messages go with each that more would save little.
        """
        return self._asked(figures, traffic, 0.0) * raised(figures)

    def busy(self, figures: Figures, traffic: Traffic) -> float:
        """Return the share of its core that each shard shows. The busier it is, the longer a call
        takes, and the more messages go with the next one; so find where both agree.
        """
        factor = raised(figures)
        low, high = 0.0, 1.0
        for _ in range(_STEPS):
            middle = (low + high) / 2
            calls = 1000 / figures.answer_ms * (1 - middle)
            is_more = self._asked(figures, traffic, calls) * factor > middle
            low, high = (middle, high) if is_more else (low, middle)
        return high

    def call_ms(self, figures: Figures, traffic: Traffic) -> float:
        """Return how long a call to a shard takes about."""
        return figures.answer_ms / max(1 - self.busy(figures, traffic), 1e-9)

    def micros(self, figures: Figures, traffic: Traffic) -> float:
        """Return what a message costs Redis."""
        return self.busy(figures, traffic) * self.shards * MICROS / max(traffic.appended, 1e-9)

    def _asked(self, figures: Figures, traffic: Traffic, calls: float) -> float:
        """Return the share of a core that the raw costs give, if a program has time for so many
        calls a second: one at a time to each shard. What comes meanwhile goes together.
        """
        appended, taken = traffic.appended / self.shards, traffic.taken / self.shards
        appends = _calls(appended, self.receivers * calls)
        takes = _calls(taken, self.workers * calls)
        micros = (
            figures.append.of(appended, appends)
            + figures.take.of(taken, takes)
            + figures.settle.of(taken, takes)
            + figures.redis_by_size.more_at(traffic.body) / 2 * (appended + taken)
        )
        return micros / MICROS


def _calls(messages: float, at_most: float) -> float:
    return min(messages, max(messages / FULL_CALL, at_most))


def raised(figures: Figures) -> float:
    """Return by how much Redis needed more, end to end, than the raw costs give: there it wrote a
    file, and shared its core.
    """
    rate, busy = figures.one_core, figures.redis_us * figures.one_core / MICROS
    calls = 1000 / figures.answer_ms * (1 - busy)
    raw = Fleet(1, 1, 1)._asked(figures, Traffic(0, rate, rate), calls)  # noqa: SLF001 - its own class
    return max(1.0, busy / raw)
