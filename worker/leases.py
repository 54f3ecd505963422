"""Renews the leases of the held messages, from a thread that a blocked event loop cannot stop.

There is a limit: after the loop has been blocked for ten leases, the worker counts as dead and its
leases are no longer renewed, so that other workers take its messages over.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Mapping

import structlog

from hookmill.errors import HookmillError
from hookmill.runtime.log_pace import LogPace
from hookmill.stream.entries import EntryRef
from hookmill.stream.leases import BlockingLeases

log = structlog.get_logger("worker")

MAX_BLOCKED = 10
"""How many leases the event loop may be blocked for before its leases are no longer renewed."""


class LeaseKeeper:
    """`start` it, call `beat` regularly from the event loop, `stop` it. `lease` is in seconds.

    Only the event loop writes to `held`. The thread copies its keys, which is one atomic step.
    """

    def __init__(
        self, leases: BlockingLeases, held: Mapping[EntryRef, object], lease: float
    ) -> None:
        self._leases = leases
        self._held = held
        self._lease = lease
        self._last_beat = time.monotonic()
        self._log_pace = LogPace()
        self._stopped = threading.Event()
        # With a copy of our context, so that its log lines name the program, too.
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._keep,), name="leases", daemon=True
        )

    @property
    def period(self) -> float:
        """Seconds between renewals: two in a row may fail before a lease ends."""
        return self._lease / 3

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
                self._renew()
                self._log_pace.succeeded()
            except HookmillError as error:
                if self._log_pace.failed():
                    log.warning("cannot renew leases", error=str(error), **self._log_pace.failures)
            except Exception:  # the thread must not end, because then every lease would end
                log.exception("renewing leases failed, trying again")
            is_stopped = self._stopped.wait(self.period)

    def _renew(self) -> None:
        refs = list(self._held)
        blocked_for = time.monotonic() - self._last_beat
        if blocked_for > MAX_BLOCKED * self._lease:
            log.error("event loop blocked: leases no longer renewed", seconds=round(blocked_for))
            return
        lost = self._leases.renew(refs)
        # An entry that was settled in the meantime is not pending any more. It is not lost.
        still_held = set(self._held)
        if entries := [ref.id for ref in lost if ref in still_held]:
            log.warning("leases lost: another worker has these messages", entries=entries)
