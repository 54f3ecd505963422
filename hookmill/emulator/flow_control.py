"""Flow control: at most so many messages of a key at a time, and so many in a period.

Each message brings its own limits and is judged by them, unless the key's are pinned.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from hookmill.emulator.models import FlowControl, Gate, Message
from hookmill.emulator.state import State

MOST_IDLE = 10_000
"""How many keys without messages are remembered: some make a key for each of their users."""


class Gates:
    """The flow-control keys there are. `now_ms` is the clock."""

    def __init__(self, state: State, now_ms: Callable[[], int]) -> None:
        self._state = state
        self._now_ms = now_ms
        self._active: dict[str, int] = {}
        self._waiting: dict[str, int] = {}

    def all(self) -> list[Gate]:
        """Return every key that is known."""
        return self._state.gates.all()

    def get(self, key: str) -> Gate:
        """Return the state of a key; one that is not known has no limits."""
        return self._state.gates.find(key) or Gate(key)

    def active(self, key: str) -> int:
        """Return how many attempts with this key are under way."""
        return self._active.get(key, 0)

    def waiting(self, key: str) -> int:
        """Return how many messages with this key are there and are not under way."""
        return max(0, self._waiting.get(key, 0) - self.active(key))  # a cancelled one may run on

    def pause(self, key: str) -> None:
        """Let no message with this key begin."""
        self._change(key, is_paused=True)

    def resume(self, key: str) -> None:
        """Let them begin again."""
        self._change(key, is_paused=False)

    def pin(
        self,
        key: str,
        *,
        parallelism: int | None = None,
        rate: int | None = None,
        period: float | None = None,
    ) -> None:
        """Have these limits count, whatever messages say."""
        if parallelism is not None:
            self._change(key, parallelism=parallelism, is_parallelism_pinned=True)
        if rate is not None:
            self._change(key, rate=rate, is_rate_pinned=True)
            self._change(key, period=period or self.get(key).period)

    def unpin(self, key: str, *, parallelism: bool = False, rate: bool = False) -> None:
        """Have messages say it again."""
        gate = self.get(key)
        self._change(
            key,
            is_parallelism_pinned=gate.is_parallelism_pinned and not parallelism,
            is_rate_pinned=gate.is_rate_pinned and not rate,
        )

    def reset(self, key: str) -> None:
        """Begin a new period now."""
        self._change(key, began=0, period_start_ms=self._now_ms())

    def line_up(self, message: Message) -> None:
        """Take note of a message, and of the limits that it brings."""
        control = message.template.flow_control
        if control is None:
            return
        self._waiting[control.key] = self._waiting.get(control.key, 0) + 1
        gate = self.get(control.key)
        if not gate.is_parallelism_pinned:
            gate = msgspec.structs.replace(gate, parallelism=control.parallelism)
        if not gate.is_rate_pinned:
            gate = msgspec.structs.replace(gate, rate=control.rate, period=control.period)
        self._state.gates.put(control.key, gate)

    def leave(self, message: Message) -> None:
        """Take note that a message is done with."""
        control = message.template.flow_control
        if control is None:
            return
        self._waiting[control.key] -= 1
        if len(self._state.gates) > 2 * MOST_IDLE:
            self._forget()

    def _forget(self) -> None:
        """Drop what no message is there for and nobody set, but for the latest."""
        now = self._now_ms()
        idle = [
            gate.key
            for gate in self.all()
            if not self._waiting.get(gate.key) and not self.active(gate.key)
            and not (gate.is_paused or gate.is_parallelism_pinned or gate.is_rate_pinned)
            and gate.period_start_ms + gate.period * 1000 <= now
        ]  # fmt: skip
        for key in idle[:-MOST_IDLE]:
            self._state.gates.drop(key)
            self._waiting.pop(key, None)
            self._active.pop(key, None)

    def opens_ms(self, message: Message) -> int | None:
        """Return when a message may begin as far as its key goes: now, at the period's end, or not
        before another one ends (None).
        """
        control = message.template.flow_control
        now = self._now_ms()
        if control is None:
            return now
        gate = self.get(control.key)
        limits = self._limits(control, gate)
        if gate.is_paused or 0 < limits.parallelism <= self.active(control.key):
            return None
        ends = gate.period_start_ms + round(limits.period * 1000)
        if limits.rate and gate.began >= limits.rate and gate.period_start_ms <= now < ends:
            return ends
        return now

    def enter(self, message: Message) -> None:
        """Count an attempt that begins."""
        control = message.template.flow_control
        if control is None:
            return
        self._active[control.key] = self.active(control.key) + 1
        gate, now = self.get(control.key), self._now_ms()
        period_ms = round(self._limits(control, gate).period * 1000)
        if not gate.period_start_ms <= now < gate.period_start_ms + period_ms:
            gate = msgspec.structs.replace(gate, began=0, period_start_ms=now)
        self._state.gates.put(control.key, msgspec.structs.replace(gate, began=gate.began + 1))

    def exit(self, message: Message) -> None:
        """Count one that ended."""
        control = message.template.flow_control
        if control is not None:
            self._active[control.key] -= 1

    def _limits(self, control: FlowControl, gate: Gate) -> FlowControl:
        pinned_rate = gate.is_rate_pinned
        return FlowControl(
            control.key,
            gate.parallelism if gate.is_parallelism_pinned else control.parallelism,
            gate.rate if pinned_rate else control.rate,
            gate.period if pinned_rate else control.period,
        )

    def _change(self, key: str, **changes: object) -> None:
        self._state.gates.put(key, msgspec.structs.replace(self.get(key), **changes))
