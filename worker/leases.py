"""Renews the leases of what is in hand, from a thread that a blocked event loop cannot stop.

There is a cap: when the loop has not moved for ten leases, the worker is taken for dead and its
messages are let go.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Mapping

import structlog

from hookmill.errors import HookmillError
from hookmill.stream.entries import EntryRef
from hookmill.stream.leases import BlockingLeases

log = structlog.get_logger("worker")

CAP = 10
"""Leases that a loop may stand still before its messages are let go."""


class LeaseKeeper:
    """Start it, `beat` it from the event loop, stop it. `lease` is in seconds.

    The loop alone writes to `in_hand`; the thread only copies its keys, which is one step.
    """

    def __init__(
        self, leases: BlockingLeases, in_hand: Mapping[EntryRef, object], lease: float
    ) -> None:
        self._leases = leases
        self._in_hand = in_hand
        self._lease = lease
        self._last_beat = time.monotonic()
        self._stopped = threading.Event()
        # In a copy of our context, so that its log lines too say which program wrote them.
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._keep,), name="leases", daemon=True
        )

    @property
    def period(self) -> float:
        """Seconds between renewals: two may fail before a lease is over."""
        return self._lease / 3

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    async def beat(self) -> float:
        """Show that the event loop moves; return the seconds until it should again."""
        self._last_beat = time.monotonic()
        return self.period

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()
        self._leases.close()

    def _keep(self) -> None:
        while not self._stopped.wait(self.period):
            try:
                self._renew()
            except HookmillError as error:
                log.warning("cannot renew leases", error=str(error))
            except Exception:  # without this thread every lease would run out
                log.exception("renewing leases failed, trying again")

    def _renew(self) -> None:
        held = list(self._in_hand)
        if not held:
            return
        still_for = time.monotonic() - self._last_beat
        if still_for > CAP * self._lease:
            log.error("the event loop stands still: letting go", seconds=round(still_for))
            return
        lost = self._leases.renew(held)
        # What was settled meanwhile is no longer pending, and no loss.
        kept = set(self._in_hand)
        if entries := [ref.id for ref in lost if ref in kept]:
            log.warning("leases lost: another worker has these messages", entries=entries)
