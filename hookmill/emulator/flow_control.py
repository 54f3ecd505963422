"""Flow control: limits how many messages of a key run at a time, and how many start in a period.

A message is judged by its own limits, unless the limits of its key are pinned.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from hookmill.emulator.models import FlowControlKey, FlowLimits, QStashMessage
from hookmill.emulator.state import State

MAX_IDLE_KEYS = 10_000
"""Keys without messages that are kept. Some applications use a key for each of their users."""


class FlowControls:
    """All flow-control keys. `now_ms` is the clock."""

    def __init__(self, state: State, now_ms: Callable[[], int]) -> None:
        self._state = state
        self._now_ms = now_ms
        self._active: dict[str, int] = {}
        """Key to the number of its attempts that are under way."""
        self._messages: dict[str, int] = {}
        """Key to the number of its messages."""

    def all(self) -> list[FlowControlKey]:
        """Return every known key."""
        return self._state.flow_controls.all()

    def get(self, key: str) -> FlowControlKey:
        """Return the state of a key. An unknown key has no limits."""
        return self._state.flow_controls.find(key) or FlowControlKey(key)

    def active(self, key: str) -> int:
        """Return how many attempts with this key are under way."""
        return self._active.get(key, 0)

    def waiting(self, key: str) -> int:
        """Return how many messages with this key are not under way."""
        # An attempt of a cancelled message may still run, so the difference can be negative.
        return max(0, self._messages.get(key, 0) - self.active(key))

    def pause(self, key: str) -> None:
        """Start no attempt with this key."""
        self._change(key, is_paused=True)

    def resume(self, key: str) -> None:
        """Start attempts with this key again."""
        self._change(key, is_paused=False)

    def pin(
        self,
        key: str,
        *,
        parallelism: int | None = None,
        rate: int | None = None,
        period: float | None = None,
    ) -> None:
        """Use these limits instead of those of the messages."""
        if parallelism is not None:
            self._change(key, parallelism=parallelism, is_parallelism_pinned=True)
        if rate is not None:
            self._change(key, rate=rate, is_rate_pinned=True)
            self._change(key, period=period or self.get(key).period)

    def unpin(self, key: str, *, parallelism: bool = False, rate: bool = False) -> None:
        """Use the limits of the messages again."""
        known = self.get(key)
        self._change(
            key,
            is_parallelism_pinned=known.is_parallelism_pinned and not parallelism,
            is_rate_pinned=known.is_rate_pinned and not rate,
        )

    def reset(self, key: str) -> None:
        """Start a new period now."""
        self._change(key, started=0, period_start_ms=self._now_ms())

    def add(self, message: QStashMessage) -> None:
        """Count a new message, and note its limits."""
        limits = message.template.flow_control
        if limits is None:
            return
        self._messages[limits.key] = self._messages.get(limits.key, 0) + 1
        known = self.get(limits.key)
        if not known.is_parallelism_pinned:
            known = msgspec.structs.replace(known, parallelism=limits.parallelism)
        if not known.is_rate_pinned:
            known = msgspec.structs.replace(known, rate=limits.rate, period=limits.period)
        self._state.flow_controls.put(limits.key, known)

    def remove(self, message: QStashMessage) -> None:
        """Count a message that has ended."""
        limits = message.template.flow_control
        if limits is None:
            return
        self._messages[limits.key] -= 1
        if len(self._state.flow_controls) > 2 * MAX_IDLE_KEYS:
            self._delete_idle_keys()

    def _delete_idle_keys(self) -> None:
        """Delete keys without messages and without settings, except for the latest."""
        now = self._now_ms()
        idle = [
            known.key
            for known in self.all()
            if not self._messages.get(known.key) and not self.active(known.key)
            and not (known.is_paused or known.is_parallelism_pinned or known.is_rate_pinned)
            and known.period_start_ms + known.period * 1000 <= now
        ]  # fmt: skip
        for key in idle[:-MAX_IDLE_KEYS]:
            self._state.flow_controls.drop(key)
            self._messages.pop(key, None)
            self._active.pop(key, None)

    def next_start_ms(self, message: QStashMessage) -> int | None:
        """Return when flow control lets an attempt start: now, or at the end of the period.

        None: not before another attempt ends, or the key is resumed.
        """
        limits = message.template.flow_control
        now = self._now_ms()
        if limits is None:
            return now
        known = self.get(limits.key)
        limits = _effective_limits(limits, known)
        if known.is_paused or 0 < limits.parallelism <= self.active(limits.key):
            return None
        ends = known.period_start_ms + round(limits.period * 1000)
        if limits.rate and known.started >= limits.rate and known.period_start_ms <= now < ends:
            return ends
        return now

    def start_attempt(self, message: QStashMessage) -> None:
        """Count an attempt that starts."""
        limits = message.template.flow_control
        if limits is None:
            return
        self._active[limits.key] = self.active(limits.key) + 1
        known, now = self.get(limits.key), self._now_ms()
        period_ms = round(_effective_limits(limits, known).period * 1000)
        if not known.period_start_ms <= now < known.period_start_ms + period_ms:
            known = msgspec.structs.replace(known, started=0, period_start_ms=now)
        self._change(limits.key, started=known.started + 1, period_start_ms=known.period_start_ms)

    def end_attempt(self, message: QStashMessage) -> None:
        """Count an attempt that ended."""
        limits = message.template.flow_control
        if limits is not None:
            self._active[limits.key] -= 1

    def _change(self, key: str, **changes: object) -> None:
        changed = msgspec.structs.replace(self.get(key), **changes)
        self._state.flow_controls.put(key, changed)


def _effective_limits(limits: FlowLimits, known: FlowControlKey) -> FlowLimits:
    return FlowLimits(
        limits.key,
        known.parallelism if known.is_parallelism_pinned else limits.parallelism,
        known.rate if known.is_rate_pinned else limits.rate,
        known.period if known.is_rate_pinned else limits.period,
    )
