"""Runs a background duty turn by turn for as long as its worker lives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

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
        await asyncio.sleep(pause)
