"""Renews the leases of the held messages, from a thread that a blocked event loop cannot stop.

There is a limit: after the loop has been blocked for ten leases, the worker counts as dead and its
leases are no longer renewed, so that other workers take its messages over.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Set

import structlog

from hookmill.errors import HookmillError
from hookmill.runtime.log_pace import LogPace
from hookmill.stream.entries import EntryRef
from hookmill.stream.leases import BlockingLeases

log = structlog.get_logger("worker")

MAX_BLOCKED = 10
"""How many leases the event loop may be blocked for before its leases are no longer renewed."""


def timeout_of(lease: float) -> float:
    """Return the seconds for one command. Short, because after an outage the leases have to be
    renewed soon, and because a worker that stops waits for the renewal under way.
    """
    return min(2.0, max(0.25, lease / 8))


class LeaseKeeper:
    """`start` it, call `beat` regularly from the event loop, `stop` it. `lease` is in seconds.

    `in_use` returns the partitions in which more may be held than `held` has. `settling` returns
    the entries that are being settled: one that is settled, though its reply is not here yet, is
    no longer ours. `stacks` returns what an operator is told who asks what this worker runs. Only
    the event loop writes to `held`. The thread copies its keys, which is one atomic step.
    """

    def __init__(
        self,
        leases: BlockingLeases,
        held: Mapping[EntryRef, object],
        lease: float,
        in_use: Callable[[], Iterable[int]] = tuple,
        settling: Callable[[], Set[EntryRef]] = frozenset,
        stacks: Callable[[], str] = str,
    ) -> None:
        self._leases = leases
        self._held = held
        self._lease = lease
        self._in_use = in_use
        self._settling = settling
        self._stacks = stacks
        self._last_beat = time.monotonic()
        self._log_pace = LogPace()
        self._doubtful: set[EntryRef] = set()
        """Held entries that were not ours at the last renewal."""
        self._reported: set[EntryRef] = set()
        self._stopped = threading.Event()
        # With a copy of our context, so that its log lines name the program, too.
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._keep,), name="leases", daemon=True
        )

    @property
    def period(self) -> float:
        """Seconds between renewals: two in a row may fail before a lease ends."""
        return self._lease / 3

    @property
    def short_period(self) -> float:
        """Seconds after a renewal that failed, or that left a doubt."""
        return min(1.0, self._lease / 8)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether the thread runs."""
        return self._thread.is_alive()

    async def beat(self) -> float:
        """Note that the event loop is not blocked; return the seconds until the next call."""
        self._last_beat = time.monotonic()
        return self.period

    def stop(self) -> None:
        """End the thread; return when it has ended."""
        self._stopped.set()
        self._thread.join()
        self._leases.close()

    def _keep(self) -> None:
        is_stopped = False
        while not is_stopped:
            try:
                pause = self._renew()
                self._log_pace.succeeded()
            except HookmillError as error:
                pause = self.short_period
                if self._log_pace.failed():
                    log.warning("cannot renew leases", error=str(error), **self._log_pace.failures)
            except Exception:  # the thread must not end, because then every lease would end
                pause = self.short_period
                log.exception("renewing leases failed, trying again")
            self._answer()
            is_stopped = self._stopped.wait(pause)

    def _renew(self) -> float:
        """Renew the leases; return the seconds until the next renewal."""
        refs = list(self._held)
        blocked_for = time.monotonic() - self._last_beat
        if blocked_for > MAX_BLOCKED * self._lease:
            log.error("event loop blocked: leases no longer renewed", seconds=round(blocked_for))
            self._leases.look_for_request()
            return self.period
        return self._judge(self._leases.renew(refs, self._in_use()))

    def _answer(self) -> None:
        """Say what this worker runs, if an operator has asked. Nothing of it may end the thread."""
        if not self._leases.request:
            return
        try:
            self._leases.say_stacks(self._stacks())
        except Exception as error:  # noqa: BLE001 - as above
            log.warning("cannot say what this worker runs", error=str(error))

    def _judge(self, lost: list[EntryRef]) -> float:
        """Log which held messages another worker has; return the seconds until the next renewal.

        An entry counts as lost only if it is still held and not being settled, in two renewals.
        """
        before, self._doubtful = self._doubtful, set()
        if lost:
            settling = self._settling()  # first, because what is settled leaves it first
            self._doubtful = set(lost) & set(self._held) - settling
        confirmed = self._doubtful & before
        if new := confirmed - self._reported:
            entries = sorted(ref.id for ref in new)
            log.warning("leases lost: another worker has these messages", entries=entries)
        self._reported = (self._reported | new) & set(self._held) if confirmed else set()
        return self.period if self._doubtful == confirmed else self.short_period
