"""The pool: takes as many messages as it has free slots for, runs them, and has them settled.

It has three verbs, `start`, `quiet` (take nothing more) and `stop` (finish within a deadline,
requeue the rest). Its methods follow a message's way: take, start, run, settle. One loop alone
takes entries (new ones, retries, and those of a silent worker), so it knows the free slots.
"""

# Long because: one object owns the slots, and every step of a message's way changes them.

from __future__ import annotations

import asyncio
import contextvars
import math
import random
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from hookmill.errors import (
    GroupLostError,
    GroupRefusedError,
    PartitionsError,
    StreamUnavailableError,
    WireVersionError,
)
from hookmill.instrumentation.facts import AttemptEnded
from hookmill.message import TRACE_FIELD, Message, Progress
from hookmill.runtime.log_pace import LogPace
from hookmill.runtime.tasks import cancel_and_wait
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, EntryRef, Settlement, Taken
from worker.attempt import Attempter
from worker.dead_watchers import DeadWatchers
from worker.outcome import Attempted, DeadLettered, Outcome, Requeued
from worker.report import Reporter
from worker.settlement import settlement_of
from worker.settler import Settler
from worker.slots import Running, Slots
from worker.stacks import Run
from worker.takeover import Takeover
from worker.traces import AttemptTraces

log = structlog.get_logger("worker")

MAX_WAIT = 20.0
"""Seconds to wait for a wake-up in one go. A wake-up is lost when the worker that received it dies;
then its entry waits this long at most.
"""

PAUSE = 0.5
"""Seconds between tries while Redis is unavailable."""

PAUSED_WAIT = 1.0
"""Seconds between two takes while all is paused; they end when the pauses change."""

MAX_UNSETTLED = 10_000
"""Finished messages that may wait to be settled. With this many, the pool takes nothing more."""

TAKE_SHARE = 3 / 4
"""The share of the free slots that one take asks for."""

ENOUGH_SHARE = 1 / 16
"""The share of all slots that is enough for a take. With fewer free slots, wait briefly for more
before taking.
"""

SLOT_WAIT = 0.001
"""Seconds that a pool without a free slot waits for more slots after the first one is free."""

MAX_RUNS_ALONE = 3
"""How often a suspect may run alone and crash its worker before it becomes a dead letter."""

UNSTARTED_PERIOD = 1.0
"""Seconds between two looks for messages whose task ended before it began."""

REST_STEP = 0.02
"""Seconds between two looks whether a pool that is to rest has ended its take."""

STOP_RESERVE = 5.0
"""Seconds of a stop's deadline that are for its last steps, not for handlers; of a short deadline
it is a quarter.
"""

STOP_STEP_TIMEOUT = 2.0
"""Seconds that each of the last steps of a stop may take where the deadline leaves less: to receive
a reply that is on its way, to end the cancelled messages, to settle, to end calls of `on_dead`.
"""


AttemptListener = Callable[[AttemptEnded[Outcome]], None]
"""Is told of an attempt that has ended, in the attempt's task."""

AttemptCounter = Callable[[Sequence[AttemptEnded[Outcome]]], None]
"""Is told of attempts whose outcomes have been written."""


class Pool:
    """Runs as many messages at a time as there are slots for it.

    `held` has every entry from its take to its settlement. Each of the `listeners` is told of every
    attempt that has ended; it must not raise.
    """

    take_error = ""
    """Why the last try to take that failed did."""
    takes = 0
    """How many replies of Redis have brought entries, or none."""
    duplicates = suspects = 0
    """How many duplicates were dropped, and how many messages came that have to run alone."""

    refusal: GroupRefusedError | None = None
    """Why the consumer group cannot be used. The pool has ended then."""

    counters: tuple[AttemptCounter, ...] = ()
    """Each is told of the attempts whose outcomes have been written, a settlement at a time, which
    costs less than one by one. It must not raise.
    """

    def __init__(
        self,
        consumer: Consumer,
        attempter: Attempter,
        takeover: Takeover,
        slots: Slots,
        watchers: DeadWatchers | None = None,
        *,
        listeners: tuple[AttemptListener, ...] = (),
        traces: AttemptTraces | None = None,
    ) -> None:
        self._consumer = consumer
        self._attempter = attempter
        self._takeover = takeover
        self._slots = slots
        self._share = slots.new_share()
        self._watchers = watchers
        self._traces = traces
        self._settler = Settler(consumer, self._settled, traces)
        self._listeners = (Reporter().put, *listeners)
        self._log_pace = LogPace()
        self._running, self._suspects = self._share.running, self._share.suspects
        self._late: list[Entry] = []
        """What came so late that others have its slots."""
        self._run_token = ""
        """Names the next run of a suspect, until Redis has counted it."""
        self._has_wakeup, self._max_take = False, slots.count
        self._enough_slots = max(1, int(slots.count * ENOUGH_SHARE))
        self._is_open = False
        self.opened = asyncio.Event()
        """Set when the consumer group was opened for the first time."""
        self._changed = slots.changed
        self._resumed = asyncio.Event()
        """Set when the pauses have changed, or when there is no more to wait for."""
        self._is_quiet = self._is_resting = self._waits_for_slots = False
        self._taking: asyncio.Task[None] | None = None
        consumer.pauses.when_changed.append(self._pauses_changed)
        self._holdings = self._share.holdings
        self.held = self._holdings.entries

    def start(self) -> asyncio.Task[None]:
        """Begin to take messages; return the task that does it. The task ends when the pool is
        quiet, or after an error that no retry can repair.
        """
        self._loop = asyncio.get_running_loop()  # kept, because asking for it is a system call
        context = contextvars.copy_context()
        if self._traces is not None:
            context.run(self._traces.prepare)
        taking = self._take_until_quiet()
        self._taking = asyncio.create_task(taking, name="pool", context=context)
        return self._taking

    def settling(self) -> set[EntryRef]:
        """Return the entries whose settlement is under way. Any thread may call it."""
        return self._settler.waiting()

    async def watch_settler(self) -> None:
        """Return when the settler has ended by itself."""
        await self._settler.watch()

    async def requeue_unstarted(self) -> float:
        """Requeue messages whose task was cancelled before its first step, which only a handler can
        do. Return the seconds until the next call.
        """
        for running, task in list(self._running.items()):
            if task.done():
                self._ended(running)
                self._settle(running.entry, Requeued(_progress_of(running.entry)))
        return UNSTARTED_PERIOD

    async def quiet(self) -> None:
        """Take nothing more; return when no reply of Redis can bring a message any longer."""
        await self._quiet_until(math.inf)

    async def rest(self, seconds: float) -> None:
        """End a take or a wait that is under way, and take nothing for so many seconds from then
        on, so that another worker gets what this one requeues.
        """
        self._is_resting = True
        self._slots.leave_line(self._share)
        latest = time.monotonic() + seconds
        try:
            while not (self._waits_for_slots or self._is_quiet) and time.monotonic() < latest:
                await self._consumer.stop_waiting()
                await asyncio.sleep(REST_STEP)
        finally:
            self._loop.call_later(seconds, self._end_rest)

    def _end_rest(self) -> None:
        self._is_resting = False
        self._changed.set()

    async def stop(self, deadline: float) -> None:
        """Let messages finish, requeue those that do not, settle all: within `deadline` seconds, of
        which the last ones are not for messages.
        """
        ends = time.monotonic() + deadline
        handlers_end = ends - min(STOP_RESERVE, deadline / 4)

        def left() -> float:
            return max(0.0, ends - time.monotonic())

        await self._quiet_until(max(handlers_end, time.monotonic() + STOP_STEP_TIMEOUT))
        if self._taking is not None and not self._taking.done():
            # Redis does not answer. Another worker takes over what the reply would have given us.
            await cancel_and_wait([self._taking])
        self._attempter.requeue_waiting()
        if self._running:
            timeout = max(0.0, handlers_end - time.monotonic())
            await asyncio.wait(self._running.values(), timeout=timeout)
        if self._running:
            log.warning("requeueing what did not finish", messages=len(self._running))
            self._attempter.expect_cancellation()
            for task in self._running.values():
                task.cancel()  # once only, because a second one would interrupt a handler's cleanup
            await asyncio.wait(self._running.values(), timeout=STOP_STEP_TIMEOUT)
        await self.requeue_unstarted()
        try:
            async with asyncio.timeout(max(left(), STOP_STEP_TIMEOUT)):
                await self._settler.drain()
        except TimeoutError:
            await self._settler.stop()

    @property
    def free_slots(self) -> int:
        """How many more messages may begin now."""
        return self._free_slots(in_turn=True)

    def _free_slots(self, *, in_turn: bool) -> int:
        if self._is_resting or self._holdings.is_full:
            return 0
        if len(self.held) - len(self._running) >= MAX_UNSETTLED:
            return 0
        return self._slots.free_for(self._share, self._attempter.most_at_once, in_turn=in_turn)

    def _slots_for(self, entries: Sequence[Entry], *, in_turn: bool = True) -> int:
        """Return how many of these entries, which are held already, may begin now."""
        most = self._attempter.most_at_once
        return min(len(entries), self._slots.free_for(self._share, most, in_turn=in_turn))

    @property
    def cannot_take(self) -> bool:
        """Whether the last try to take failed, so that it is tried again."""
        return self._log_pace.has_failed

    @property
    def cannot_settle(self) -> bool:
        """Whether the last try to write outcomes failed, so that it is tried again."""
        return self._settler.cannot_write

    @property
    def first_unsettled(self) -> EntryRef | None:
        """The entry whose outcome has waited longest to be written; None if none waits."""
        return self._settler.first_waiting

    @property
    def is_quiet(self) -> bool:
        """Whether it is to take nothing more."""
        return self._is_quiet

    @property
    def oldest_held(self) -> float | None:
        """For how many seconds the oldest message has been held; None if none is."""
        oldest = next(iter(self.held.values()), None)  # they stand in the order of their takes
        return None if oldest is None else time.monotonic() - oldest.since

    @property
    def late_outcomes(self) -> int:
        """How many outcomes were dropped because another worker had their messages by then."""
        return self._settler.late_outcomes

    @property
    def is_idle(self) -> bool:
        """Whether no message is running."""
        return not self._running

    def runs(self) -> list[Run]:
        """Return the messages that run. Any thread may call it."""
        running, names_of = self._running.copy(), self._attempter.names_of
        return [Run(*names_of(one.entry), task, one.began) for one, task in running.items()]

    async def _quiet_until(self, latest: float) -> None:
        """Make the pool quiet; wait for its loop to end, but not beyond `latest` (monotonic)."""
        self._is_quiet = True
        for entry in (*self._suspects, *self._late):
            self._settle(entry, Requeued(_progress_of(entry)))
        self._suspects.clear()
        self._late.clear()
        while self._taking is not None and not self._taking.done() and time.monotonic() < latest:
            self._changed.set()
            self._resumed.set()
            with suppress(TimeoutError):  # the commands before it have no replies either
                async with asyncio.timeout(STOP_STEP_TIMEOUT):
                    await self._consumer.stop_waiting()
            await asyncio.wait({self._taking}, timeout=0.05)

    # --- take --------------------------------------------------------------------------------

    async def _take_until_quiet(self) -> None:
        while not self._is_quiet:
            step = await self._next_step()
            if step is None:
                continue
            try:
                await step()
                self._max_take = min(2 * self._max_take, self._slots.count)
                self._log_pace.succeeded()
                continue
            except PartitionsError as error:
                log.error("taking stopped: wrong number of partitions", error=str(error))
                return
            except GroupRefusedError as error:
                log.error("taking stopped: the consumer group cannot be used", error=str(error))
                self.refusal = error
                return
            except GroupLostError as error:
                log.warning("the consumer group is gone: opening it again", error=str(error))
                self._is_open = False
            except StreamUnavailableError as error:
                self.take_error = str(error)
                if self._log_pace.failed():
                    log.warning(
                        "cannot take, trying again", error=str(error), **self._log_pace.failures
                    )
            except Exception:  # this loop must not end: a worker without it only looks alive
                log.exception("taking failed, trying again")
            await asyncio.sleep(PAUSE)
        if self._has_wakeup:  # it reached us, and so it reaches no other worker
            with suppress(StreamUnavailableError):
                await self._consumer.wake_another()

    async def _next_step(self) -> Callable[[], Awaitable[None]] | None:
        """Return what to do next; None where there was nothing to do but to wait."""
        step = self._take_and_start
        free = self._slots_for(self._late) if self._late else self.free_slots
        if free == 0 and not self.may_run_suspect:
            if await self._wait_for_free_slots():
                return None
            step = self._requeue_recovered
        elif self._suspects:
            step = self._run_suspect
        elif self._late:
            step = self._start_late
        self._slots.leave_line(self._share)  # up to here it had its turn for what comes now
        return step

    async def _wait_for_free_slots(self) -> bool:
        """Wait for a free slot, and then briefly for more, because a take for one message alone
        costs more than a short handler. Return False where messages have to be recovered before.
        """
        self._changed.clear()
        self._waits_for_slots = True
        self._take_turns()
        latest = self._takeover.recovers_in
        try:
            async with asyncio.timeout(None if latest == math.inf else latest):
                await self._changed.wait()
        except TimeoutError:
            return self.free_slots > 0 or self._takeover.recovers_in > 0
        finally:
            self._waits_for_slots = False
        if 0 < self.free_slots < self._enough_slots:
            await asyncio.sleep(SLOT_WAIT)
        return True

    def _take_turns(self) -> None:
        """Have a turn where only others keep this pool from taking."""
        if not self._slots.are_shared:
            return
        is_stuck = self._is_resting or self._holdings.is_full
        is_stuck = is_stuck or len(self.held) - len(self._running) >= MAX_UNSETTLED
        if self._is_quiet or self._suspects or (is_stuck and not self._late):
            self._slots.leave_line(self._share)
        else:
            self._slots.stand_in_line(self._share)

    def _pauses_changed(self) -> None:
        self._changed.set()
        self._resumed.set()
        self._attempter.requeue_paused()

    async def _take_and_start(self) -> None:
        """Take once and start what came. Where nothing is left, wait until something may come."""
        if self._consumer.pauses.is_all:  # what is added meanwhile must not wake it
            self._resumed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSED_WAIT):
                    await self._resumed.wait()
        if not self._is_open:
            await self._consumer.open()
            self._is_open = True
            self.opened.set()
        if self._slots.are_shared and not self._free_slots(in_turn=False):
            return  # others have taken the slots meanwhile
        try:
            taken = await self._received(self._take())
        finally:
            self._has_wakeup = False
            self._slots.keep_no_longer(self._share)
        self._start_taken(taken)
        waits = not (taken.has_more or self._is_quiet or self._consumer.pauses.is_all)
        if waits and (pause := self._takeover.wait()):
            # Redis wakes the one that waits longest. Let chance decide who that is: otherwise a
            # message that another worker has to run could come to this one every time.
            pause *= random.uniform(0.8, 1.0)  # noqa: S311 - it is no secret
            self._has_wakeup = await self._consumer.wait(min(MAX_WAIT, max(0.01, pause)))

    async def _requeue_recovered(self) -> None:
        """Recover what a lost reply has brought, and requeue it: no slot is free here, and others
        do not take it over while this worker lives.
        """
        left = self._holdings.bytes_left
        taken = await self._received(self._takeover.take(self._slots.count, self.held, left))
        self._start_taken(taken, requeues=True)

    async def _received(self, taking: Awaitable[Taken]) -> Taken:
        """Return what a take brings. Note where its reply is lost."""
        try:
            return await taking
        except GroupLostError:
            self._takeover.recover_soon()  # the again stream was read before the stream
            raise
        except Exception:
            self._reply_lost()
            raise

    def _reply_lost(self) -> None:
        self._takeover.lost_reply()
        # The bodies may be so large that a full batch cannot arrive within the time limit.
        self._max_take = 1

    async def _take(self) -> Taken:
        count = min(self._take_size(), self._max_take)
        self._slots.keep(self._share, 0 if self.cannot_take else count)
        # After a wake-up, take the entry that it announced first. A takeover does not find it, and
        # no other worker gets a wake-up for it.
        if not self._is_quiet and not self._has_wakeup and self._takeover.wait() == 0:
            found = await self._takeover.take(count, self.held, self._holdings.bytes_left)
            if not found.is_empty:
                return found
        return await self._consumer.take(count, self._holdings.bytes_left)

    def _take_size(self) -> int:
        """Return how many to take now: most of the free slots, or all where these are few. While
        no thread is free it is few, because what comes may need one.

        The remaining slots are for the next take. It begins while these messages still run, so
        that taking overlaps with running, and messages do not all begin and end together.
        """
        free = self._free_slots(in_turn=False)  # this is its turn
        share = math.ceil(free * TAKE_SHARE) if self._attempter.has_free_thread else 0
        return min(free, max(self._enough_slots, share))

    # --- start and run -----------------------------------------------------------------------

    def _start_taken(self, taken: Taken, *, requeues: bool = False) -> None:
        """Start what was taken, or requeue it: also where the pool became quiet in the meantime."""
        new = self._holdings.add(taken, time.monotonic())
        self.takes += 1
        if len(new) < len(taken.entries):
            # What is held already still runs here: the group was lost and made again. But if it was
            # settled before this take, though the reply came later, then nobody settles it again.
            self._takeover.recover_soon()
        if self._slots.are_shared and not (requeues or self._is_quiet):
            room = self._slots_for(new, in_turn=False)
            late = new[room:]
            # Suspects wait to run alone anyway, however late they came.
            new = new[:room] + [entry for entry in late if entry.is_suspect]
            self._late += [entry for entry in late if not entry.is_suspect]
        for entry in new:
            if requeues or self._is_quiet:
                self._settle(entry, Requeued(_progress_of(entry)))
            elif entry.is_suspect:
                self._suspects.append(entry)
                self.suspects += 1
            else:
                self._start(entry)
        for _, message_id in taken.duplicates:
            self.duplicates += 1
            log.info("duplicate dropped", id=message_id)

    async def _start_late(self) -> None:
        """Start what came late, as far as there are slots for it now."""
        for entry in self._late[: self._slots_for(self._late, in_turn=False)]:
            self._late.remove(entry)
            self._start(entry)

    def _start(self, entry: Entry) -> None:
        running = Running(entry, time.perf_counter())
        self._running[running] = self._loop.create_task(self._run(running))

    @property
    def may_run_suspect(self) -> bool:
        """Whether a suspect waits to run alone, and nothing else runs."""
        if not self._suspects or self._is_quiet:
            return False
        return self._share.is_held_up or self._slots.may_run_alone(self._share)

    async def _run_suspect(self) -> None:
        """Run one suspect alone; after `MAX_RUNS_ALONE` runs make it a dead letter instead."""
        entry = self._suspects[0]
        self._run_token = self._run_token or secrets.token_hex(8)
        self._slots.hold_all(self._share)
        try:
            times = await self._consumer.run_alone(entry.ref, self._run_token)
        except Exception:
            self._slots.hold_up(self._share)
            raise
        if not self._slots.has_all(self._share):
            return  # others went on meanwhile: wait until they have ended, and ask once more
        if entry not in self._suspects:
            self._share.runs_alone = False
            return  # the pool became quiet in the meantime and requeued it
        self._suspects.remove(entry)
        self._run_token = ""
        if times <= MAX_RUNS_ALONE:
            self._start(entry)
            return
        self._share.runs_alone = False
        self._changed.set()
        text = f"its worker died or fell silent {MAX_RUNS_ALONE} times while it ran alone"
        before, now = _progress_of(entry), time.perf_counter()
        outcome: Outcome = DeadLettered(before, "crashed", text)
        ended = AttemptEnded(entry, _message_of(entry), before, outcome, now, seconds=0.0)
        self._settle(entry, outcome, ended)
        for listen in self._listeners:
            listen(ended)

    async def _run(self, running: Running) -> None:
        """Run one message to its outcome, and have that settled and logged."""
        running.began = time.perf_counter()  # before that, it waited for the event loop
        entry = running.entry
        progress = _progress_of(entry)
        if self._traces is not None and (self._traces.is_each or TRACE_FIELD in entry.fields):
            running.span = self._traces.begin(entry)
        try:
            attempted = await self._attempter.attempt(entry, progress)
        except asyncio.CancelledError:
            attempted = Attempted(None, Requeued(progress))
        except Exception:  # noqa: BLE001 - a bug of ours must not lose the message
            dead = DeadLettered(progress, "internal_error", traceback.format_exc())
            attempted = Attempted(_message_of(entry), dead)
        if self._loop.is_closed():
            return  # nothing can be settled: the process ends, and another worker takes it over
        seconds = time.perf_counter() - running.began
        self._ended(running)
        message, outcome = attempted.message, attempted.outcome
        ended = AttemptEnded(entry, message, progress, outcome, running.began, seconds)
        self._settle(entry, outcome, ended)
        for listen in self._listeners:
            listen(ended)
        if self._traces is not None and running.span is not None:
            self._traces.ended(running.span, ended)

    def _ended(self, running: Running) -> None:
        """Free the slot of a message."""
        del self._running[running]
        if running.entry.is_suspect:
            self._share.runs_alone = False
        self._changed.set()

    # --- settle ------------------------------------------------------------------------------

    def _settle(
        self, entry: Entry, outcome: Outcome, ended: AttemptEnded[Outcome] | None = None
    ) -> None:
        """Have an outcome written; `ended` is the attempt that led to it, if one did."""
        settlement, when_stored = settlement_of(entry, outcome, time.time, ended), None
        if type(outcome) is DeadLettered and self._watchers is not None:
            when_stored = self._watchers.call_for(entry, outcome)
        self._settler.put(settlement, when_stored)

    def _settled(self, settlements: list[Settlement]) -> None:
        """Let go of entries whose settlement is written, and have their attempts counted."""
        self._holdings.let_go([one.ref for one in settlements])
        if self.counters:
            ended = [one.ended for one in settlements if one.ended is not None]
            for count in self.counters:
                count(ended)  # type: ignore[arg-type]  # `_settle` has put them there
        self._changed.set()


def _message_of(entry: Entry) -> Message | None:
    try:
        return Message.from_fields(entry.fields)
    except WireVersionError:
        return None


def _progress_of(entry: Entry) -> Progress:
    return Progress.from_fields(entry.fields, entry.ref.id)
