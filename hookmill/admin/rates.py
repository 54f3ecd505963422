"""What went in and out during the last hour and the last day, from the history in Redis."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from hookmill.instrumentation.rates import Field, percentile, read
from hookmill.stream.client import Client
from hookmill.stream.heartbeats import PLACE
from hookmill.stream.rates import DAY, HOUR, PERIOD, RateHistory, Span

LATE = 3 * PERIOD
"""Seconds after its end for which a step may still change."""

STEPS = {HOUR.name: 60, DAY.name: 144}
"""How many steps are shown."""


class HandlerRates(NamedTuple):
    """What became of a handler's attempts, and how long they took (seconds, None: no attempt)."""

    handler: str
    outcomes: Counter[str]
    ran: Counter[int]
    took: Counter[int]

    @property
    def attempts(self) -> int:
        """How many attempts there were."""
        return self.outcomes.total()

    @property
    def failed(self) -> int:
        """How many of them failed: they were retried or given up."""
        return self.outcomes["retried"] + self.outcomes["dead"]

    def percentiles(self, counted: Counter[int]) -> dict[str, float | None]:
        """Return the median and two high percentiles of what the buckets counted."""
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        return {name: percentile(counted, share) for name, share in shares.items()}


class Rates(NamedTuple):
    """The counts of consecutive steps of `step` seconds each. The first begins at `start` (Unix
    seconds), the last one is not over.
    """

    step: int
    start: int
    counts: list[dict[Field, int]]

    def series(self, of: Callable[[Field], str | None]) -> dict[str, list[int]]:
        """Return the number in each step by the name that `of` gives a field; None leaves it out.
        The largest come first.
        """
        found: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(self.counts))
        for number, counts in enumerate(self.counts):
            for field, count in counts.items():
                name = of(field)
                if name is not None:
                    found[name][number] += count
        return dict(sorted(found.items(), key=lambda item: (-sum(item[1]), item[0])))

    def total(self, of: Callable[[Field], str | None]) -> Counter[str]:
        """Return the same summed up over all steps."""
        return Counter({name: sum(numbers) for name, numbers in self.series(of).items()})

    def handlers(self, group: str) -> list[HandlerRates]:
        """Return what is known of each handler of a group, the busiest first."""
        found: dict[str, HandlerRates] = {}
        for counts in self.counts:
            for field, count in counts.items():
                match field:
                    case ("out", str() as of, str() as handler, str() as outcome) if of == group:
                        _of(found, handler).outcomes[outcome] += count
                    case ("ran", str() as of, str() as handler, int() as bucket) if of == group:
                        _of(found, handler).ran[bucket] += count
                    case ("took", str() as of, str() as handler, int() as bucket) if of == group:
                        _of(found, handler).took[bucket] += count
        return sorted(found.values(), key=lambda one: (-one.attempts, one.handler))


def received_by_source(field: Field) -> str | None:
    """Name what was accepted, for `Rates.series`."""
    return str(field[1]) if len(field) == 3 and (field[0], field[2]) == ("in", "accepted") else None


def received_by_type(field: Field) -> str | None:
    """Name what was accepted by its source and type."""
    return f"{field[1]} {field[2]}" if len(field) == 3 and field[0] == "came" else None


def refused_by_reason(field: Field) -> str | None:
    """Name what was refused by its source and its reason."""
    if len(field) != 3 or field[0] != "in" or field[2] in {"accepted", "answered"}:
        return None
    return f"{field[1]}: {field[2]}"


def finished_by_type(field: Field) -> str | None:
    """Name what was finished or given up by its source and type."""
    return f"{field[2]} {field[3]}" if len(field) == 4 and field[0] == "type" else None


def attempts_by_outcome(field: Field) -> str | None:
    """Name attempts by their outcome."""
    return str(field[3]) if len(field) == 4 and field[0] == "out" else None


class RateReader:
    """Reads the history. What is over is read once; only the last steps are read again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], dict[Field, int]] = {}

    async def read(self, client: Client, span: Span) -> Rates:
        """Return the counts of the last steps: none where the partition that has them cannot be
        asked. Raises `StreamUnavailableError`.
        """
        if PLACE in client.unseen:
            return Rates(span.step, int(time.time()), [{} for _ in range(STEPS[span.name])])
        history = RateHistory(client)
        now = await history.now()
        last = now // span.step
        numbers = range(last - STEPS[span.name] + 1, last + 1)
        self._forget(span, numbers)
        missing = [number for number in numbers if (span.name, number) not in self._kept]
        rows = await history.read(span, missing)
        fresh = {number: read(row) for number, row in zip(missing, rows, strict=True)}
        for number, counts in fresh.items():
            if (number + 1) * span.step + LATE <= now:
                self._kept[span.name, number] = counts
        steps = [fresh[n] if n in fresh else self._kept[span.name, n] for n in numbers]
        return Rates(span.step, numbers[0] * span.step, steps)

    def _forget(self, span: Span, numbers: Iterable[int]) -> None:
        first = min(numbers)
        for key in [key for key in self._kept if key[0] == span.name and key[1] < first]:
            del self._kept[key]


def _of(found: dict[str, HandlerRates], handler: str) -> HandlerRates:
    return found.setdefault(handler, HandlerRates(handler, Counter(), Counter(), Counter()))
