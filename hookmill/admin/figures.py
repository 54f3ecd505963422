"""The kinds of figures that capacity is reckoned with, and how a figure is read off for a size.

No I/O. `measured.py` has the figures themselves, made of the benchmarks' results.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import NamedTuple


class BySize(NamedTuple):
    """A figure for several sizes of a body, in bytes."""

    sizes: tuple[int, ...]
    values: tuple[float, ...]

    def at(self, size: float) -> float:
        """Return the figure for a size: between two measured ones on a straight line, above the
        largest one in proportion. A larger body never has a smaller figure, whatever noise says.
        """
        values = list(accumulate(self.values, max))
        if size <= self.sizes[0]:
            return values[0]
        if size >= self.sizes[-1]:
            return values[-1] * size / self.sizes[-1]
        above = bisect_left(self.sizes, size)
        low, high = self.sizes[above - 1], self.sizes[above]
        share = (size - low) / (high - low)
        return values[above - 1] + share * (values[above] - values[above - 1])

    def more_at(self, size: float) -> float:
        """Return what a body of this size needs more than the smallest one."""
        return self.at(size) - self.at(0)


class InBatches(NamedTuple):
    """Microseconds a message in batches of two sizes."""

    small: tuple[int, float]
    large: tuple[int, float]

    @property
    def call(self) -> float:
        """What a call costs, whatever it brings: the two batches differ by their share of it."""
        (few, dear), (many, cheap) = self.small, self.large
        return max(0.0, (dear - cheap) / (1 / few - 1 / many))

    @property
    def each(self) -> float:
        """What a message costs beside its share of a call."""
        many, cheap = self.large
        return max(0.0, cheap - self.call / many)

    def of(self, messages: float, calls: float) -> float:
        """Return the microseconds of so many messages in so many calls."""
        return messages * self.each + calls * self.call


class Figures(NamedTuple):
    """What the benchmarks have measured. Times of the processor are in microseconds a message."""

    machine: str
    date: str
    receiver_us: float
    worker_us: float
    redis_us: float
    """The three: end to end, in small batches, with an append-only file."""
    one_core: float
    """Messages a second that receiver, Redis and worker do together on one core."""
    receiver_by_size: BySize
    worker_by_size: BySize
    redis_by_size: BySize
    append: InBatches
    take: InBatches
    settle: InBatches
    answer_ms: float
    """From a POST to its answer at half load, which includes a round trip to Redis."""
    half_load_ms: tuple[float, float]
    """From a POST to its handler: p50 and p99."""
    waiting_share: float
    """How near a worker comes to the ideal with handlers that wait, for their time is not exact."""
    clearing: float
    """What a message costs Redis more while a million others wait."""
    receiver_mb: BySize
    receiver_most_mb: float
    worker_mb: BySize
    stored_bytes: BySize
    """Memory of Redis for a message that waits, with its token."""
    token_bytes: float
    to_redis: BySize
    from_redis: BySize
    to_replica: BySize
