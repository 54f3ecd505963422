"""Shared by all measured workers: the event, and the count and time of handler calls.

It uses the standard library only, because it also runs in the peers' environments.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

URL = os.environ.get("REDIS_URL", "")
MESSAGES = int(os.environ.get("BENCH_MESSAGES", "1"))
CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "100"))
BODY = 214
"""Bytes of an event as JSON."""


def order(number: int, size: int = BODY) -> dict[str, Any]:
    """Return an event. Its compact JSON has `size` bytes."""
    event = {"type": "order.paid", "order_id": f"ord_{number:012d}", "amount": 4200, "note": ""}
    without_note = len(json.dumps(event, separators=(",", ":")))
    return {**event, "note": "x" * (size - without_note)}


class Counter:
    """Counts handler calls, from any number of threads, and writes the time that they took.

    The time starts with the first call, so that neither the start of the process nor the filling of
    the queue is measured.
    """

    def __init__(self, messages: int = MESSAGES) -> None:
        self._messages = messages
        self._numbers = itertools.count(1)  # its next() is atomic
        self._began = self._cpu = 0.0

    def count(self, calls: int = 1) -> None:
        """Count a call, or a batch of calls."""
        for _ in range(calls):
            number = next(self._numbers)
            if number == 1:
                self._began, self._cpu = time.perf_counter(), time.process_time()
            if number == self._messages:
                self._write()

    def _write(self) -> None:
        result = {
            "messages": self._messages,
            "seconds": time.perf_counter() - self._began,
            "cpu_seconds": time.process_time() - self._cpu,
        }
        write_whole(Path(os.environ["BENCH_RESULT"]), json.dumps(result))


def write_whole(path: Path, text: str) -> None:
    """Write a file that nobody ever sees in part."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.rename(path)


def asked_to_fill() -> bool:
    """Return whether this run fills the queue. Otherwise it empties it."""
    return sys.argv[1] == "fill"
