"""Keeps the history of rates: counts each attempt, and adds the counts to Redis once a period.

The console and `hookmill status` show it: a backlog is often gone by the time one looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from hookmill.errors import StreamUnavailableError
from hookmill.instrumentation.facts import AttemptEnded
from hookmill.instrumentation.rates import RateCounts, written
from hookmill.stream.rates import PERIOD, RateHistory
from worker.outcome import DeadLettered, Discarded, Done, Ignored, Outcome, RetryLater

_NAMES: dict[type, str] = {
    Done: "done",
    Discarded: "discarded",
    RetryLater: "retried",
    DeadLettered: "dead",
    Ignored: "ignored",
}
"""The outcomes that are counted. The others are steps of ours, and no attempts."""

MOST_KINDS = 5000
"""Kinds of attempts that are counted apart before they are summed up."""


_Row = tuple[type, str, str | None, str, int, int]
"""What an attempt is counted by: outcome, handler, source (None: unreadable) and type, and the
buckets of how long it ran and of the time since it was received.
"""


class WorkerRates:
    """The pool tells it what was settled. Call `run_once` regularly, and `flush` at the end.
    `clock` returns Unix seconds, `ticks` those by which attempts begin.
    """

    def __init__(
        self,
        history: RateHistory,
        group: str,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._history = history
        self._group = group
        self._clock = clock
        self._ticks = ticks
        self._kinds: dict[_Row, int] = {}
        self._counts = RateCounts()
        self._set_offset()

    def settled(self, settled: Sequence[AttemptEnded[Outcome]]) -> None:
        """Count attempts whose outcomes have been written. All but one count is left for later."""
        kinds, offset = self._kinds, self._offset
        for one in settled:
            outcome, message, seconds = one.outcome, one.message, one.seconds
            kind = type(outcome)
            handler = outcome.handler if kind is Done else outcome.told().handler  # type: ignore[union-attr] # it is Done
            ran = int(seconds * 1000).bit_length()  # as `bucket_of` says
            if message is None:
                row: _Row = (kind, handler, None, "", ran, 0)
            else:
                took = int((one.began + seconds + offset) * 1000) - message.received_ms
                bucket = took.bit_length() if took > 0 else 0  # two clocks may differ
                row = (kind, handler, message.source, message.type, ran, bucket)
            kinds[row] = kinds.get(row, 0) + 1
        if len(kinds) > MOST_KINDS:
            self._sum_up()

    async def run_once(self) -> float:
        """Add what was counted; return the seconds until the next call."""
        await self._add()
        return PERIOD

    async def flush(self) -> None:
        """Add what is left."""
        with suppress(StreamUnavailableError):
            await self._add()

    async def _add(self) -> None:
        self._sum_up()
        if counts := self._counts.take():
            try:
                await self._history.add(written(counts))
            except StreamUnavailableError:
                self._counts.give_back(counts)
                raise

    def _sum_up(self) -> None:
        """Turn the kinds of attempts into the fields of the history."""
        kinds, self._kinds = self._kinds, {}
        self._set_offset()
        add, group = self._counts.add, self._group
        for (outcome, handler, source, of_type, ran, took), number in kinds.items():
            name = _NAMES.get(outcome)
            if name is None:
                continue
            add(("out", group, handler, name), number)
            add(("ran", group, handler, ran), number)
            if source is not None and outcome is not RetryLater:
                event_type = self._counts.bounded_type(source, of_type)
                add(("type", group, source, event_type), number)
                add(("took", group, handler, took), number)

    def _set_offset(self) -> None:
        """Note how far the two clocks are apart: the time of day can be set meanwhile."""
        self._offset = self._clock() - self._ticks()
