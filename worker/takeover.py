"""Takes over the messages of silent workers, and our own whose reply was lost.

`hookmill/stream/scripts/silence.lua` says who is silent. All workers look, but only one at a time,
and all of them take over what it finds. Only the time between two asks that succeeded counts: not
the time in which Redis was away, or in which this worker stood still.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

import structlog

from hookmill.errors import StreamUnavailableError
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import EntryRef, Taken
from hookmill.stream.looks import Turn

log = structlog.get_logger("worker")


class Takeover:
    """Looks for silent workers, and decides when this worker takes over.

    `lease` is in seconds; `clock` returns monotonic seconds.
    """

    def __init__(
        self, consumer: Consumer, lease: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._consumer = consumer
        self._looks = consumer.looks()
        self._lease = lease
        self._clock = clock
        self._pause = min(1.0, lease / 8)
        """Seconds until the next look."""
        self._seen = ""
        """The number of the last look, as the last good ask has told it."""
        self._watches: tuple[float, str] | None = None
        """From when on we watch, and which look was over then; None: our last ask failed."""
        self._last_good_ask: float | None = None
        self._found_by = ""
        """The look that found it."""
        self._found: list[int] = []
        """The partitions in which entries may be taken over."""
        self._most = 1
        """How many to take over at once. A process that is new begins with one: the messages may be
        what ended the last one.
        """
        self._is_asking = False
        self._recovers_at = math.inf
        self._recovers_until = 0.0
        self._rests_until = 0.0
        self._unrecovered: list[int] = []
        """The partitions that are still to be asked for messages of our own."""
        self._next_partition = 0
        self.taken_over = self.recovered = 0
        """How many messages were taken over, and how many were recovered."""

    # --- look --------------------------------------------------------------------------------

    async def look(self) -> float:
        """Ask whether it is our turn to look, and look if it is; return the seconds until the next
        call. A new worker asks soon, and then less often, so that even a short life adds something.
        """
        asked = self._clock()
        watches, self._watches = self._watches, None
        look = await self._asked_twice()
        before, self._last_good_ask = self._last_good_ask, self._clock()
        self._seen = look.number
        found_by, found = look.found_by, look.found
        if look.is_ours:
            since, last_look = watches or (asked, "")
            watched: float | None = asked - since
            if before is None or asked - before > self._lease / 2:
                watched = None
            self._seen = ""  # where this look fails, the next turn is for others
            found = tuple(await self._looks.watch(look.number, watched, last_look, self._lease))
            self._seen = look.number
            found_by = look.number
        self._watches = self._clock(), found_by
        if found_by != self._found_by:
            self._found_by, self._found = found_by, list(found)
            if self._found:
                await self._consumer.stop_waiting()
        pause, self._pause = self._pause, min(2 * self._pause, self._lease / 8)
        return pause

    async def _asked_twice(self) -> Turn:
        """Ask whether it is our turn, and again at once if that fails: a proxy may have cut the
        connection while it was idle.
        """
        try:
            return await self._looks.ask(self._seen)
        except StreamUnavailableError:
            return await self._looks.ask(self._seen)

    # --- take over ---------------------------------------------------------------------------

    def wait(self) -> float:
        """Return the seconds after which something may be due, 0 if it is: to take over, or to
        recover.
        """
        if self._found:
            return 0.0
        return min(self._lease / 3, self.recovers_in)

    @property
    def recovers_in(self) -> float:
        """The seconds after which messages of our own may have to be recovered; 0: now."""
        return max(0.0, self._recovers_at - self._clock())

    async def take(self, count: int, held: Iterable[EntryRef], max_bytes: int) -> Taken:
        """Recover messages of our own, or take over those of others, up to `count` and `max_bytes`.

        `held` are all that this worker holds: no take may be under way.
        """
        count = min(count, self._most)
        self._is_asking = True
        if self._clock() >= self._recovers_at:
            taken = await self._recover(count, held, max_bytes)
        else:
            taken = await self._take_over(count, max_bytes)
        if taken.entries:
            await self._confirm(taken)
        self._is_asking = False
        for _, message_id, error in taken.undeliverable:
            log.error("dead letter", id=message_id, reason="undeliverable", error=error)
        if not taken.is_empty:
            self._most = 2 * count
        return taken

    def lost_reply(self) -> None:
        """Note that a take failed: Redis may have given entries to this worker, who does not know.

        Others do not take them over while this worker lives. So it asks for them, soon, and once
        more after a lease, because the command may be carried out late. If the reply of a takeover
        was lost, it asks after a lease: its message may be too large to arrive.
        """
        now = self._clock()
        self._most = 1
        if self._is_asking:
            self._rests_until = now + self._lease
        self._is_asking = False
        self.recover_soon()
        self._recovers_until = now + self._lease

    def recover_soon(self) -> None:
        """Ask for messages of our own that we do not know of, after an eighth of a lease."""
        self._unrecovered = []
        soon = min(self._recovers_at, self._clock() + self._lease / 8)
        self._recovers_at = max(self._rests_until, soon)

    async def _confirm(self, taken: Taken) -> None:
        """Note that these entries have arrived, before they run. Where that fails, they count as
        not received, and are recovered later.
        """
        refs = [entry.ref for entry in taken.entries]
        try:
            await self._consumer.confirm(refs)
        except StreamUnavailableError:  # a proxy may have cut the connection
            await self._consumer.confirm(refs)

    async def _take_over(self, count: int, max_bytes: int) -> Taken:
        if not self._found:
            return Taken([], [])
        partition = self._found.pop(0)
        taken, has_more = await self._consumer.take_over(partition, count, self._lease, max_bytes)
        if has_more and partition not in self._found:
            self._found.append(partition)  # last, so that the partitions take turns
        if taken.entries:
            self.taken_over += len(taken.entries)
            log.warning("took over from a silent worker", messages=len(taken.entries))
        return taken

    async def _recover(self, count: int, held: Iterable[EntryRef], max_bytes: int) -> Taken:
        """Ask the partitions one after another until one has something, or all were asked."""
        if not self._unrecovered:  # the one that was asked last comes last: its reply was lost
            several = len(self._consumer.partitions)
            self._unrecovered = [(self._next_partition + n) % several for n in range(several)]
        taken = Taken([], [])
        while taken.is_empty and self._unrecovered:
            partition = self._unrecovered.pop(0)
            self._next_partition = partition + 1
            taken, has_more = await self._consumer.recover(
                partition, count, self._lease, max_bytes, held
            )
            if has_more:
                self._unrecovered.append(partition)
        if not self._unrecovered:
            is_over = self._clock() >= self._recovers_until
            self._recovers_at = math.inf if is_over else self._recovers_until
        if taken.entries:
            self.recovered += len(taken.entries)
            log.warning("recovered messages whose reply was lost", messages=len(taken.entries))
        return taken
