"""The pool: takes no more than its free hands can run, runs it, and has it settled.

Three verbs: start, quiet (take nothing more), stop (finish within a deadline, hand back the
rest). One loop alone takes entries, whether new, again or from a silent worker, so it always
knows how many hands are free.
"""

from __future__ import annotations

import asyncio
import math
import time
import traceback

import structlog

from hookmill.errors import GroupLostError, PartitionsError, StreamUnavailableError
from hookmill.message import Progress
from hookmill.runtime.tasks import cancel_and_wait
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, EntryRef, Taken
from worker.attempt import Attempter
from worker.outcome import DeadLettered, Outcome, Requeued
from worker.report import Reporter
from worker.settlement import settlement_of
from worker.settler import Settler
from worker.takeover import Takeover

log = structlog.get_logger("worker")

LONGEST_WAIT = 20.0
"""Seconds to wait for an entry in one go: a bell that rang for a dead worker is missed so long."""

PAUSE = 0.5
"""Seconds between tries while Redis is away."""

UNSETTLED = 10_000
"""Outcomes that may wait to be written before nothing more is taken."""

MOST = 3 / 4
"""The share of the free hands that are taken for at a time."""

FEW = 1 / 16
"""The share of the hands for whose sake alone nothing is taken before a moment has passed."""

MOMENT = 0.001
"""Seconds for which a pool that had no free hand waits for more than the first."""

TIMES_ALONE = 3
"""How often a message may run alone without its worker's surviving it."""

LAST_STEP = 2.0
"""Seconds that each of the last steps may take when a deadline leaves less: to learn what was on
its way, to end what was cancelled, to settle.
"""


class Pool:
    """Runs up to `concurrency` messages at a time.

    `in_hand` holds every entry from its taking to its settling; only the event loop writes to it.
    """

    def __init__(
        self, group: Consumer, attempter: Attempter, takeover: Takeover, concurrency: int
    ) -> None:
        self._group = group
        self._attempter = attempter
        self._takeover = takeover
        self._concurrency = concurrency
        self._settler = Settler(group, self._settled)
        self._reporter = Reporter()
        self._running: dict[EntryRef, asyncio.Task[None]] = {}
        self._suspects: list[Entry] = []
        self._runs_alone = False
        self._is_rung = False
        self._mouthful = concurrency
        self._few = max(1, int(concurrency * FEW))
        self._is_open = False
        self._changed = asyncio.Event()
        self._quiet = False
        self._taking: asyncio.Task[None] | None = None
        self.in_hand: dict[EntryRef, Entry] = {}

    def start(self) -> asyncio.Task[None]:
        """Begin to take; return the task that does. It only ends once the pool is quiet, or where
        no try will ever succeed.
        """
        self._loop = asyncio.get_running_loop()  # kept: to ask for it costs a system call
        self._taking = asyncio.create_task(self._take_until_quiet(), name="pool")
        return self._taking

    async def quiet(self) -> None:
        """Take nothing more; return when nothing is on its way here any longer."""
        await self._quiet_until(math.inf)

    async def stop(self, deadline: float) -> None:
        """Let what runs finish within `deadline` seconds, hand back what does not, settle all."""
        ends = time.monotonic() + deadline

        def left() -> float:
            return max(0.0, ends - time.monotonic())

        await self._quiet_until(max(ends, time.monotonic() + LAST_STEP))
        if self._taking is not None and not self._taking.done():
            # Redis does not answer. What it may yet give us is taken over when its lease is over.
            await cancel_and_wait([self._taking])
        if self._running:
            await asyncio.wait(self._running.values(), timeout=left())
        if self._running:
            log.warning("handing back what did not finish", messages=len(self._running))
            self._attempter.end()
            for task in self._running.values():
                task.cancel()
            await asyncio.wait(self._running.values(), timeout=LAST_STEP)
        try:
            async with asyncio.timeout(max(left(), LAST_STEP)):
                await self._settler.drain()
        except TimeoutError:
            await self._settler.stop()

    @property
    def free_hands(self) -> int:
        """How many more messages may be run now."""
        if self._suspects or self._runs_alone:
            return 0
        if len(self.in_hand) - len(self._running) >= UNSETTLED:
            return 0
        return self._concurrency - len(self._running)

    @property
    def is_idle(self) -> bool:
        """Whether no message is being run."""
        return not self._running

    async def _quiet_until(self, latest: float) -> None:
        self._quiet = True
        for entry in self._suspects:
            self._settle(entry, Requeued(_progress_of(entry)))
        self._suspects = []
        while self._taking is not None and not self._taking.done() and time.monotonic() < latest:
            self._changed.set()
            await self._group.stop_waiting()
            await asyncio.wait({self._taking}, timeout=0.05)

    async def _take_until_quiet(self) -> None:
        # Once the bell has rung for us it rings for nobody else: what came is ours to take, if
        # only to hand it back.
        while not self._quiet or self._is_rung:
            if self.free_hands == 0 and not self._may_run_suspect:
                await self._have_hands_free()
                continue
            try:
                await (self._run_suspect() if self._suspects else self._turn())
                self._mouthful = min(2 * self._mouthful, self._concurrency)
                continue
            except PartitionsError as error:
                log.error("this worker cannot take here", error=str(error))
                return
            except GroupLostError as error:
                log.warning("the consumer group is gone: opening it anew", error=str(error))
                self._is_open = False
            except StreamUnavailableError as error:
                self._failed()
                log.warning("cannot take, trying again", error=str(error))
            except Exception:  # a worker that takes nothing must not seem alive
                self._failed()
                log.exception("taking failed, trying again")
            await asyncio.sleep(PAUSE)

    async def _have_hands_free(self) -> None:
        """Wait for a free hand, and then a moment for more: to take one by one costs more than many
        a handler does.
        """
        self._changed.clear()
        await self._changed.wait()
        if 0 < self.free_hands < self._few:
            await asyncio.sleep(MOMENT)

    async def _turn(self) -> None:
        """Take once and hand out what came; wait until something comes where nothing did."""
        if not self._is_open:
            await self._group.open()
            self._is_open = True
        taken = await self._take()
        self._is_rung = False
        self._hand_out(taken)
        if taken.is_empty and not self._quiet and (pause := self._takeover.wait()):
            self._is_rung = await self._group.wait(min(LONGEST_WAIT, max(0.01, pause)))

    def _failed(self) -> None:
        self._takeover.lost_contact()
        # Bodies may be so huge that as many as there are hands do not arrive in time.
        self._mouthful = 1
        self._is_rung = False

    async def _take(self) -> Taken:
        free = min(self._bite(), self._mouthful)
        # What has rung for us goes first: a sweep does not find it, and nobody else is told.
        if not self._quiet and not self._is_rung and self._takeover.wait() == 0:
            found = await self._takeover.sweep(free)
            if not found.is_empty:
                return found
        # What waits in the stream does not wait for the sweep to end as well.
        return await self._group.take(free)

    def _bite(self) -> int:
        """Return how many to take now: for most of the free hands, or for all where they are few.

        The others take next, while Redis and these are at work, so that neither waits for the
        other; and what began together does not go on ending together, with nothing to do between.
        """
        free = self.free_hands
        return min(free, max(self._few, math.ceil(free * MOST)))

    def _hand_out(self, taken: Taken) -> None:
        """Start what was taken; hand it back at once where the pool has been quieted meanwhile."""
        for entry in taken.entries:
            if entry.ref in self.in_hand:
                continue  # our own, taken over from ourselves: its outcome will come
            self.in_hand[entry.ref] = entry
            if self._quiet:
                self._settle(entry, Requeued(_progress_of(entry)))
            elif entry.is_suspect:
                self._suspects.append(entry)
            else:
                self._start(entry)
        for _, message_id in taken.duplicates:
            log.info("repeat dropped", id=message_id)

    def _start(self, entry: Entry) -> None:
        self._running[entry.ref] = self._loop.create_task(self._work(entry))

    @property
    def _may_run_suspect(self) -> bool:
        return bool(self._suspects) and not self._running and not self._quiet

    async def _run_suspect(self) -> None:
        """Run one suspect alone, or bury it: it has had its chances without neighbours."""
        entry = self._suspects[0]
        times = await self._group.run_alone(entry.ref)
        if entry not in self._suspects:
            return  # handed back meanwhile: the pool is being quieted
        self._suspects.remove(entry)
        if times <= TIMES_ALONE:
            self._runs_alone = True
            self._start(entry)
            return
        text = f"its worker died or fell silent {TIMES_ALONE} times while it ran alone"
        outcome = DeadLettered(_progress_of(entry), "crashed", text)
        self._reporter.put(outcome, outcome.progress, time.perf_counter())
        self._settle(entry, outcome)

    async def _work(self, entry: Entry) -> None:
        began = time.perf_counter()
        outcome: Outcome
        progress = _progress_of(entry)
        try:
            outcome = await self._attempter.attempt(entry, progress)
        except asyncio.CancelledError:
            outcome = Requeued(progress)
        except Exception:  # noqa: BLE001 - a fault of our own must not lose the message
            outcome = DeadLettered(progress, "internal_error", traceback.format_exc())
        del self._running[entry.ref]
        if entry.is_suspect:
            self._runs_alone = False
        self._changed.set()
        self._settle(entry, outcome)
        self._reporter.put(outcome, progress, began)

    def _settle(self, entry: Entry, outcome: Outcome) -> None:
        self._settler.put(settlement_of(entry, outcome, time.time))

    def _settled(self, refs: list[EntryRef]) -> None:
        for ref in refs:
            self.in_hand.pop(ref, None)
        self._changed.set()


def _progress_of(entry: Entry) -> Progress:
    return Progress.from_fields(entry.fields, entry.ref.id)
