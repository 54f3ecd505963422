"""Watches the programs of a chaos run: their memory, and whether they are still there.

As a container platform does, it kills a worker that takes more memory than it may have, and starts
another program in place of one that has ended.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tests.chaos.site import Site
from tests.support import Program

MEMORY_LIMIT = 256
"""Megabytes of memory at which a worker is killed."""

STUCK = "too many threads are stuck"
"""What a worker logs that ends because its threads are stuck."""

_PAUSE = 0.1

ALLOWED_GROWTH = (1.25, 30.0)
"""How much memory may grow from the second to the last quarter: a factor, and MB on top."""


class Watch:
    """Run `keep` beside the run."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.killed_for_memory = 0
        self.ended_for_threads = 0
        self.ended: list[str] = []
        self.sampled: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        """For each program: the moments of the samples, and its memory then in MB."""

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE)
            now = time.monotonic()
            for name, program in self._programs():
                used = memory_of(program.pid)
                self.sampled[name].append((now, used))
                if "worker" in name and used > MEMORY_LIMIT:
                    self.killed_for_memory += 1
                    await asyncio.to_thread(self._site.end, program, "memory")
            for program, status in await asyncio.to_thread(self._site.replace_ended):
                if STUCK in program.log:
                    self.ended_for_threads += 1
                else:
                    self.ended.append(f"{program.log_path.name} ended with {status}")

    def grown(self) -> list[str]:
        """Return the programs whose memory has grown beyond what is allowed."""
        factor, more = ALLOWED_GROWTH
        quarters = {name: growth(samples) for name, samples in self.sampled.items()}
        return [
            name for name, (before, after) in quarters.items() if after > before * factor + more
        ]

    def _programs(self) -> Iterator[tuple[str, Program]]:
        for number, worker in enumerate(self._site.workers):
            yield f"worker {number}", worker
        for number, receiver in enumerate(self._site.receivers):
            yield f"receiver {number}", receiver


def memory_of(pid: int) -> float:
    """Return the memory of a process in MB; 0 if it has ended, or where there is no /proc."""
    with suppress(OSError, ValueError, IndexError):
        if sys.platform == "linux":
            pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
            return int(pages) * 4096 / 1e6
    return 0.0


def growth(samples: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the median memory in the second and in the last quarter of the samples' time."""
    first, last = samples[0][0], samples[-1][0]
    quarter = (last - first) / 4

    def median(begin: float, end: float) -> float:
        return statistics.median(used for at, used in samples if begin <= at <= end)

    return median(first + quarter, first + 2 * quarter), median(last - quarter, last)
