"""Lets a running program log more or less for a while, as an operator asks for it in Redis.

It looks every few seconds. The level goes back by itself, also where Redis is away by then.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable, Iterable

import structlog

from hookmill.runtime import log_level, logs
from hookmill.stream.client import Client
from hookmill.stream.log_levels import EVERY_PROGRAM, LogLevels, SetLevel

log = structlog.get_logger("runtime")

PERIOD = 3.0
"""Seconds between two looks."""


class LogLevelWatch:
    """Call `run_once` regularly. `own` is the level of the settings; `names` are those of this
    program, the one that counts most first.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[Iterable[SetLevel]]],
        own: str,
        names: Iterable[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._own = self._level = own
        self._names = [*names, socket.gethostname(), EVERY_PROGRAM]
        self._clock = clock
        self._ends = 0.0

    @classmethod
    def of(cls, client: Client, own: str, *names: str) -> LogLevelWatch:
        """Return one that looks in Redis. The names are that of this start of the program, and the
        name that all lines of the log have (`--name`).
        """
        return cls(LogLevels(client).read, own, filter(None, [*names, logs.program_name()]))

    async def run_once(self) -> float:
        """Look once; return the seconds until the next look."""
        if self._level != self._own and self._clock() >= self._ends:
            self._change(self._own)
        found = {one.program: one for one in await self._look() if one.level in log_level.LEVELS}
        chosen = next((found[name] for name in self._names if name in found), None)
        if chosen is None:
            self._change(self._own)
        else:
            self._ends = self._clock() + chosen.seconds
            self._change(chosen.level)
        return PERIOD

    def _change(self, level: str) -> None:
        if level == self._level:
            return
        self._level = level
        if log_level.shows("warning"):
            log.warning("log level changed", now=level)
            log_level.set_level(level)
        else:
            log_level.set_level(level)
            log.warning("log level changed", now=level)
