"""Drops the oldest dead letters beyond the bounds that are set, and logs them.

Without a bound nothing is dropped. A dropped one releases its message ID, as `dead drop` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError
from hookmill.runtime.log_pace import LogPace
from hookmill.stream.dead_letters import DeadLetters, OldDeadLetter

log = structlog.get_logger("worker")

STEPS, SECONDS = 20, 20.0
"""Steps in one run, and after how many seconds it ends: where Redis is slow, the janitor must not
seem to stand still. What is left is for the next run.
"""

AT_ONCE = 100
"""The most dead letters that one step drops."""

LONGEST_PAUSE = 300.0
"""Seconds after which the age of the oldest one is looked at again, however young it was: a clock
may have been set.
"""


class Bounds(NamedTuple):
    """How old (seconds), how many and how large (bytes of Redis' memory) a group's dead letters may
    be; 0: no bound.
    """

    age: float = 0.0
    messages: int = 0
    bytes: int = 0

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        """Return the bounds of the settings."""
        return cls(settings.dead_age, settings.dead_messages, settings.dead_bytes)

    def share(self, some: int, total: int) -> Bounds:
        """Return the share of some of the partitions."""
        messages, size = (-(-bound * some // total) for bound in (self.messages, self.bytes))
        return self._replace(messages=messages, bytes=size)


class DeadLetterBounds:
    """Call `enforce` regularly. `clock` returns Unix seconds."""

    def __init__(
        self, letters: DeadLetters, bounds: Bounds, clock: Callable[[], float] = time.time
    ) -> None:
        self._letters = letters
        self._bounds = bounds
        self._clock = clock
        self._measured: tuple[int, str | None] | None = None
        """The count and the newest ID when the memory was last within its bound."""
        self._log_pace = LogPace()
        self._look_at_age = 0.0
        """When the oldest one may be too old, by `time.monotonic`."""

    async def enforce(self) -> None:
        """Drop the oldest ones beyond a bound, in limited steps."""
        if not any(self._bounds):
            return
        until = time.monotonic() + SECONDS
        for _ in range(STEPS):
            if not await self._is_due() or not await self._drop_some():
                return
            if time.monotonic() >= until:
                return

    async def _is_due(self) -> bool:
        """Return whether a bound may be passed. It costs little where it is not."""
        if not (count := await self._letters.count()):
            return False
        if 0 < self._bounds.messages < count:
            return True
        if self._bounds.age and time.monotonic() >= self._look_at_age:
            return True
        if not self._bounds.bytes or self._measured == (count, await self._letters.newest()):
            return False
        return await self._excess_bytes() > 0

    async def _drop_some(self) -> bool:
        """Drop what is beyond a bound, up to `AT_ONCE`; return whether there was anything."""
        now_ms, oldest = await self._letters.oldest(AT_ONCE)
        # Counted after they were read: where another worker drops the same ones meanwhile, none of
        # the next ones is dropped in their place.
        count, excess_bytes = await self._letters.count(), await self._excess_bytes()
        excess = count - self._bounds.messages if self._bounds.messages else 0
        beyond: list[OldDeadLetter] = []
        for letter in oldest:
            if len(beyond) >= excess and excess_bytes <= 0 and not self._is_too_old(letter, now_ms):
                break
            beyond.append(letter)
            excess_bytes -= letter.bytes
        if beyond:
            await self._letters.drop([letter.id for letter in beyond])
            _log(beyond)
        return bool(beyond)

    async def _excess_bytes(self) -> int:
        """Return by how many bytes the bound is passed; 0 if it is not, or if Redis does not tell:
        the other bounds hold all the same.
        """
        if not self._bounds.bytes:
            return 0
        state = (await self._letters.count(), await self._letters.newest())
        try:
            excess = await self._letters.memory() - self._bounds.bytes
        except StreamUnavailableError as error:
            if self._log_pace.failed():
                log.warning("HOOKMILL_DEAD_BYTES has no effect", error=str(error))
            return 0
        self._log_pace.succeeded()
        if excess <= 0:
            self._measured = state
        return max(0, excess)

    def _is_too_old(self, letter: OldDeadLetter, redis_now_ms: int) -> bool:
        """Return whether it is too old by two clocks, because one of them may have been set: by
        this worker's since it died, and by Redis' since it was written.
        """
        if not self._bounds.age:
            return False
        ages = self._clock() - letter.died_ms / 1000, (redis_now_ms - letter.written_ms) / 1000
        if min(ages) >= self._bounds.age:
            return True
        left = self._bounds.age - min(ages)
        self._look_at_age = time.monotonic() + min(LONGEST_PAUSE, left)
        return False


def _log(dropped: Sequence[OldDeadLetter]) -> None:
    log.warning(
        "dead letters dropped: beyond a bound",
        count=len(dropped),
        oldest=dropped[0].id,
        newest=dropped[-1].id,
        handlers=sorted({letter.handler for letter in dropped}),
    )
