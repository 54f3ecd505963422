"""The pool: takes no more than its free hands can run, runs it, and has it settled.

Three verbs: start, quiet (take nothing more), stop (finish within a deadline, hand back the
rest). One loop alone takes entries, whether new, again or from a silent worker, so it always
knows how many hands are free.
"""

from __future__ import annotations

import asyncio
import time
import traceback

import structlog

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.message import Progress
from hookmill.stream import Entry, EntryRef, Group, Taken
from worker.attempt import Attempter, Dead, HandedBack, Outcome
from worker.report import report
from worker.settlement import settlement_of
from worker.settler import Settler
from worker.takeover import Takeover

log = structlog.get_logger("worker")

LONGEST_WAIT = 5.0
"""Seconds to wait for an entry in one go."""

PAUSE = 0.5
"""Seconds between tries while Redis is away."""

UNSETTLED = 10_000
"""Outcomes that may wait to be written before nothing more is taken."""


class Pool:
    """Runs up to `concurrency` messages at a time.

    `in_hand` holds every entry from its taking to its settling; only the event loop writes to it.
    """

    def __init__(
        self, group: Group, attempter: Attempter, takeover: Takeover, concurrency: int
    ) -> None:
        self._group = group
        self._attempter = attempter
        self._takeover = takeover
        self._concurrency = concurrency
        self._settler = Settler(group, self._settled)
        self._running: dict[EntryRef, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._quiet = False
        self._taking: asyncio.Task[None] | None = None
        self.in_hand: dict[EntryRef, Entry] = {}

    def start(self) -> None:
        """Begin to take."""
        self._taking = asyncio.create_task(self._take_until_quiet())

    async def quiet(self) -> None:
        """Take nothing more; return when nothing is on its way here any longer."""
        self._quiet = True
        while self._taking is not None and not self._taking.done():
            self._changed.set()
            await self._group.stop_waiting()
            await asyncio.wait({self._taking}, timeout=0.05)

    async def stop(self, deadline: float) -> None:
        """Let what runs finish within `deadline` seconds, hand back what does not, settle all."""
        await self.quiet()
        if self._running:
            await asyncio.wait(self._running.values(), timeout=deadline)
        for task in self._running.values():
            task.cancel()
        if self._running:
            log.warning("handing back what did not finish", messages=len(self._running))
            await asyncio.wait(self._running.values())
        try:
            async with asyncio.timeout(max(deadline, 1.0)):
                await self._settler.drain()
        except TimeoutError:
            await self._settler.stop()

    @property
    def free_hands(self) -> int:
        """How many more messages may be run now."""
        if len(self.in_hand) - len(self._running) >= UNSETTLED:
            return 0
        return self._concurrency - len(self._running)

    async def _take_until_quiet(self) -> None:
        waited_for: list[Entry] = []
        is_open = False
        while not self._quiet or waited_for:
            if self.free_hands == 0:
                self._changed.clear()
                await self._changed.wait()
                continue
            try:
                if not is_open:
                    await self._group.open()
                    is_open = True
                taken = await self._take(waited_for)
                waited_for = []
                self._hand_out(taken)
                if not taken.entries and not taken.repeats and not self._quiet:
                    waited_for = await self._wait()
            except GroupLostError as error:
                log.warning("the consumer group is gone: opening it anew", error=str(error))
                is_open = False
                await asyncio.sleep(PAUSE)
            except StreamUnavailableError as error:
                self._takeover.lost_contact()
                log.warning("cannot take, trying again", error=str(error))
                await asyncio.sleep(PAUSE)

    async def _take(self, waited_for: list[Entry]) -> Taken:
        if not waited_for and self._takeover.wait() == 0:
            return await self._takeover.sweep(self.free_hands)
        room = 0 if self._quiet else max(0, self.free_hands - len(waited_for))
        return await self._group.take(room, waited_for)

    async def _wait(self) -> list[Entry]:
        seconds = min(LONGEST_WAIT, max(0.01, self._takeover.wait()))
        came = await self._group.wait(seconds)
        self.in_hand.update((entry.ref, entry) for entry in came)
        return came

    def _hand_out(self, taken: Taken) -> None:
        """Start what was taken, as far as there are hands; hand the rest back at once."""
        for ref, message_id in taken.repeats:
            self.in_hand.pop(ref, None)
            log.info("repeat dropped", id=message_id)
        for entry in taken.entries:
            if entry.ref in self._running:
                continue  # our own, taken over from ourselves: it is still being worked on
            self.in_hand[entry.ref] = entry
            if self._quiet or self.free_hands <= 0:
                self._settle(entry, HandedBack(Progress.from_fields(entry.fields, entry.ref.id)))
            else:
                self._running[entry.ref] = asyncio.create_task(self._work(entry))

    async def _work(self, entry: Entry) -> None:
        began = time.perf_counter()
        outcome: Outcome
        progress = Progress.from_fields(entry.fields, entry.ref.id)
        try:
            outcome = await self._attempter.attempt(entry)
        except asyncio.CancelledError:
            outcome = HandedBack(progress)
        except Exception:  # noqa: BLE001 - a fault of our own must not lose the message
            outcome = Dead(progress, "internal_error", traceback.format_exc())
        report(outcome, progress, time.perf_counter() - began)
        del self._running[entry.ref]
        self._settle(entry, outcome)
        self._changed.set()

    def _settle(self, entry: Entry, outcome: Outcome) -> None:
        self._settler.put(settlement_of(entry, outcome, int(time.time() * 1000)))

    def _settled(self, refs: list[EntryRef]) -> None:
        for ref in refs:
            self.in_hand.pop(ref, None)
        self._changed.set()
