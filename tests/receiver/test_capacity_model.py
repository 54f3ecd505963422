"""Whatever arrives in whatever order, a receiver holds and gives up bodies by its rules."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from receiver.capacity import PROTECTED, Capacity, HeldBytes

MAX = 100
LARGEST = 30
"""The limits, in bytes: of all bodies, and of one."""


class CapacityModel(RuleBasedStateMachine):
    """Bodies of three sources arrive in parts, and bodies arrive whole, while time passes."""

    bodies = Bundle("bodies")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.capacity = Capacity(MAX, lambda: self.now)
        self.began: dict[HeldBytes, float] = {}
        self.given_up: list[HeldBytes] = []
        self.ended: dict[HeldBytes, None] = {}
        self.whole: list[int] = []

    def held_by(self, source: str) -> int:
        return sum(body.count for body in [*self.began, *self.ended] if body.source == source)

    def can_be_given_up(self) -> list[HeldBytes]:
        return [
            body
            for body, since in self.began.items()
            if since <= self.now - PROTECTED and body.count
        ]

    @rule(target=bodies, source=st.sampled_from("abc"))
    def begin(self, source: str) -> HeldBytes:
        held = HeldBytes(self.capacity, source)
        held.begin(lambda: self.given_up.append(held))
        self.began[held] = self.now
        return held

    @rule(held=bodies, count=st.integers(1, LARGEST))
    def grow(self, held: HeldBytes, count: int) -> None:
        if held not in self.began or held.count + count > LARGEST:
            return
        could = [body for body in self.can_be_given_up() if body is not held]
        counts = {body: body.count for body in self.began}
        grown = held.grow(count)
        own = self.held_by(held.source)
        free = MAX - (self.capacity.bytes - own)
        is_only = own == held.count
        if grown:
            assert is_only or 2 * own <= free
        else:
            # All that could be given up for it was given up, and still it does not fit.
            is_beyond_share = not is_only and 2 * (own + count) > free
            assert is_beyond_share or self.capacity.bytes + count > MAX
            for body in could:
                assert body.is_given_up or (is_beyond_share and body.source != held.source)
        self.note_given_up(could, counts)

    @rule(count=st.integers(1, LARGEST))
    def arrive_whole(self, count: int) -> None:
        could, counts = self.can_be_given_up(), {body: body.count for body in self.began}
        fixed = self.capacity.bytes - sum(counts[body] for body in could)
        assert self.capacity.make_room(count) == (fixed + count <= MAX)
        if fixed + count <= MAX:
            self.capacity.bytes += count
            self.whole.append(count)
        self.note_given_up(could, counts)

    def note_given_up(self, could: list[HeldBytes], counts: dict[HeldBytes, int]) -> None:
        """Check that only old bodies were given up, the oldest first, and hold nothing."""
        for body in self.given_up:
            assert body in could
            assert counts[body]
            assert body.is_given_up
            assert body.count == 0
            del self.began[body]
        kept = [body for body in could if body not in self.given_up]
        for body in self.given_up:
            later = could[could.index(body) :]
            assert all(other in later for other in kept if other.source == body.source)
        self.given_up.clear()

    @rule(source=st.sampled_from("abcd"), count=st.integers(1, LARGEST))
    def announce(self, source: str, count: int) -> None:
        held = self.capacity.bytes
        could = self.capacity.could_hold(source, count)
        assert (self.capacity.bytes, self.given_up) == (held, [])
        spare = sum(body.count for body in self.can_be_given_up())
        if not self.held_by(source):
            assert could == (held - spare + count <= MAX)

    @rule(held=bodies)
    def end(self, held: HeldBytes) -> None:
        if self.began.pop(held, None) is not None:
            held.end()
            self.ended[held] = None

    @rule(held=consumes(bodies))
    def release(self, held: HeldBytes) -> None:
        held.release()
        self.began.pop(held, None)
        self.ended.pop(held, None)

    @rule(data=st.data())
    def release_whole(self, data: Any) -> None:
        if self.whole:
            self.capacity.bytes -= self.whole.pop(data.draw(st.integers(0, len(self.whole) - 1)))

    @rule(seconds=st.sampled_from([0.3, PROTECTED, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def counts_are_right(self) -> None:
        held = sum(self.held_by(source) for source in "abc") + sum(self.whole)
        assert self.capacity.bytes == held <= MAX
        assert self.capacity._by_source == {
            source: self.held_by(source) for source in "abc" if self.held_by(source)
        }


CapacityModel.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestCapacity = CapacityModel.TestCase
