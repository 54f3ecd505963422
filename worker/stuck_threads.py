"""Ends the worker when too many of its threads are stuck in plain functions.

A thread cannot be stopped, so only a fresh process has all of its threads again. The messages of
the stuck ones have failed: otherwise the next worker would get stuck in the same ones.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from worker.threads import HandlerThreads, ThreadCall

log = structlog.get_logger("worker")

PERIOD = 0.5
"""Seconds between two looks."""

MAX_NAMED = 100
"""Messages that the log line names."""


async def watch_stuck_threads(threads: HandlerThreads, limit: int) -> None:
    """Return when `limit` functions run beyond the timeout of their handler; their attempts have
    failed then. With 0, never return.
    """
    while True:
        stuck = threads.stuck()
        if limit and len(stuck) >= limit:
            break
        await asyncio.sleep(PERIOD)
    log.error(
        "too many threads are stuck: ending, so that a fresh worker can start",
        messages=[_line(call) for call in stuck[:MAX_NAMED]],
        threads=threads.count,
    )
    for call in stuck:
        call.give_up()


def _line(call: ThreadCall) -> str:
    seconds = time.monotonic() - call.began
    return f"{call.message_id} in {call.handler.name} for {seconds:.1f} s"
