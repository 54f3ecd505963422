"""The slots of a worker: how many messages run at the same time, in all of its pools together.

A pool has a share of them, which is as large as it needs it to be. Where several pools want slots,
they take turns. A pool whose Redis does not answer keeps no slot from the others.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from hookmill.stream.entries import Entry
from hookmill.stream.takes import TAKE_BYTES
from worker.held import Budget, Holdings

if TYPE_CHECKING:
    from opentelemetry.trace import Span

LATE = 0.1
"""Seconds for which slots are kept for a reply of Redis. What comes later waits for its turn."""


class Running(msgspec.Struct, eq=False):
    """A message that runs, since `began` by `time.perf_counter`, and its span if it has one."""

    entry: Entry
    began: float
    span: Span | None = None


class Share:
    """What one pool has of the slots, and of the budget of bytes."""

    def __init__(self, budget: Budget) -> None:
        self.running: dict[Running, asyncio.Task[None]] = {}
        self.holdings = Holdings(budget)
        self.suspects: list[Entry] = []
        """What has to run alone."""
        self.runs_alone = False
        """Whether one of them runs, or is about to."""
        self.is_held_up = False
        """Whether Redis does not answer about a suspect: meanwhile others need not wait for it."""
        self.kept = 0
        """How many slots are kept for a take that is under way."""
        self.timer: asyncio.TimerHandle | None = None


class Slots:
    """So many slots; what is held has `max_bytes` together at most, but for the last entry.

    Only the event loop may use it, but any thread may read.
    """

    def __init__(self, count: int, max_bytes: int = TAKE_BYTES) -> None:
        self.count = count
        self.changed = asyncio.Event()
        """Set when something may begin that could not before."""
        self._budget = Budget(max_bytes)
        self._shares: list[Share] = []
        self._line: dict[Share, None] = {}
        """The shares that wait for slots, the one whose turn is next first."""

    def new_share(self) -> Share:
        """Return the share of one more pool."""
        self._shares.append(Share(self._budget))
        return self._shares[-1]

    @property
    def are_shared(self) -> bool:
        """Whether several pools use them."""
        return len(self._shares) > 1

    def free_for(self, share: Share, most: int, *, in_turn: bool = True) -> int:
        """Return how many slots a pool may use now, where `most` messages may run together: none
        while a suspect runs alone or is to, and if `in_turn`, while it is the turn of others.
        """
        free = min(self.count, most)
        for each in self._shares:
            if each.runs_alone or (each.suspects and not each.is_held_up):
                return 0
            free -= len(each.running)
            if each is not share:
                free -= each.kept
        if self._line and in_turn and next(iter(self._line)) is not share:
            return 0
        return max(0, free)

    def may_run_alone(self, share: Share) -> bool:
        """Return whether nothing runs, and no suspect of another share is about to."""
        return not any(
            each.running or (each.runs_alone and each is not share) for each in self._shares
        )

    # --- turns -------------------------------------------------------------------------------

    def stand_in_line(self, share: Share) -> None:
        """Have a turn after those that wait already."""
        self._line[share] = None

    def leave_line(self, share: Share) -> None:
        """Have had a turn, or want none: the next one has it."""
        if self._line and share in self._line:
            del self._line[share]
            self.changed.set()

    # --- what waits for Redis ----------------------------------------------------------------

    def keep(self, share: Share, count: int) -> None:
        """Keep slots, and all bytes that are left, for what a take brings, but not for long."""
        if len(self._shares) > 1:
            share.kept = count
            share.holdings.kept = max(0, share.holdings.bytes_left)
            self._give_up_later(share, self._keep_no_longer)

    def keep_no_longer(self, share: Share) -> None:
        """End it, because the take is over."""
        if len(self._shares) > 1:
            self._keep_no_longer(share)
            share.holdings.kept = 0

    def _keep_no_longer(self, share: Share) -> None:
        self._stop_timer(share)
        share.kept = 0
        self.changed.set()

    def hold_all(self, share: Share) -> None:
        """Let nothing begin while Redis is asked about a suspect. After a while others go on."""
        share.runs_alone = not share.is_held_up
        if len(self._shares) > 1 and share.runs_alone:
            self._give_up_later(share, self.hold_up)

    def has_all(self, share: Share) -> bool:
        """Return whether nothing else has begun until Redis' answer. If something has, ask again:
        Redis answers now.
        """
        self._stop_timer(share)
        was_held_up, share.is_held_up = share.is_held_up, False
        return not was_held_up

    def hold_up(self, share: Share) -> None:
        """Let others go on, because Redis does not answer about a suspect."""
        self._stop_timer(share)
        share.runs_alone = False
        share.is_held_up = len(self._shares) > 1
        self.changed.set()

    def _give_up_later(self, share: Share, give_up: Any) -> None:
        self._stop_timer(share)
        share.timer = asyncio.get_running_loop().call_later(LATE, give_up, share)

    @staticmethod
    def _stop_timer(share: Share) -> None:
        if share.timer is not None:
            share.timer.cancel()
            share.timer = None
