"""Runs many workers in one process: `python -m benchmarks.many_workers COUNT`.

Each is a whole worker, with its own connections, leases and periodic tasks, as if it had a process
of its own. It says so in `BENCH_RESULT` when all of them have opened the group.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import structlog

from benchmarks.handlers import noop
from hookmill.config.settings import Settings
from hookmill.runtime import process
from worker.app import Worker

STOP = 5.0
"""Seconds that they may take to stop."""


async def work(count: int, opened: Path) -> None:
    """Run so many workers until SIGTERM. Make a file when all have opened the group."""
    stopped = asyncio.Event()
    settings = Settings()
    workers = [Worker(settings, noop, None) for _ in range(count)]
    for worker in workers:
        worker.start()
        await worker.opened.wait()
    # Not before: while they start, the signal ends the process at once.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await asyncio.to_thread(opened.touch)
    await stopped.wait()
    for worker in workers:
        await worker.quiet()
    await asyncio.gather(*(worker.stop(STOP) for worker in workers))


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    process.run(work(int(sys.argv[1]), Path(os.environ["BENCH_RESULT"])))


if __name__ == "__main__":
    main()
