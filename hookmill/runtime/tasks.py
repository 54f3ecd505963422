"""Runs a background duty turn by turn for as long as its worker lives, and ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog

from hookmill.errors import GroupLostError, StreamUnavailableError

log = structlog.get_logger("worker")

PAUSE_AFTER_ERROR = 1.0


async def repeat(name: str, turn: Callable[[], Awaitable[float]]) -> None:
    """Take turns until cancelled. A turn returns the seconds until the next."""
    while True:
        try:
            pause = await turn()
        except (GroupLostError, StreamUnavailableError) as error:
            log.warning("a duty waits for Redis", duty=name, error=str(error))
            pause = PAUSE_AFTER_ERROR
        except Exception:  # a fault of one turn must not end the duty
            log.exception("a duty failed, trying again", duty=name)
            pause = PAUSE_AFTER_ERROR
        await asyncio.sleep(pause)


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, until each has ended.

    To ask once is not enough: in Python 3.11 `asyncio.wait_for`, which the Redis client uses,
    swallows a cancellation that comes in the moment in which what it waits for is done.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.1)
