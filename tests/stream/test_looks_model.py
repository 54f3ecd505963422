"""Whatever the order of asks, renewals and outages: who renews is never silent, who stopped is."""

from __future__ import annotations

import secrets
from contextlib import closing, suppress
from typing import Any

import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from hookmill.errors import StreamUnavailableError
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry
from hookmill.stream.looks import Looks, Turn
from hookmill.stream.producer import Producer
from tests.support import ANY_BYTES, Clock, Server, Stream, message
from worker.takeover import Takeover

LEASE = 24.0
STEP = 1.0
"""Seconds in which each worker does something, or is held up."""


class Away(Looks):
    """Redis, which the model takes away. Some commands are carried out, and only their replies are
    lost.
    """

    model: Model

    async def ask(self, seen: str) -> Turn:
        if self.model.is_away and not self.model.loses_replies_only:
            raise StreamUnavailableError("away")
        look = await super().ask(seen)
        if self.model.is_away:
            raise StreamUnavailableError("no reply")
        return look

    async def watch(
        self, number: str, watched: float | None, before: str, lease: float
    ) -> list[int]:
        if self.model.is_away and not self.model.loses_replies_only:
            raise StreamUnavailableError("away")
        found = await super().watch(number, watched, before, lease)
        if self.model.is_away:
            raise StreamUnavailableError("no reply")
        return found


class Model:
    """Two workers that look, one that holds and renews, and one that holds and has stopped."""

    def __init__(self, stream: Producer) -> None:
        self.stream = stream
        self.clock = Clock()
        self.is_away = self.loses_replies_only = False
        self.living, self.stopped, *self.others = (
            Consumer(stream.client, "main", name, dedup_window=3600)
            for name in ("living", "stopped", "c1", "c2")
        )
        self.takeovers = [self._new(one) for one in self.others]
        self.next_look = [0.0, 0.0]
        self.next_renewal = 0.0
        self.renewals = 0
        self.held: list[Entry] = []
        self.found: list[Entry] = []
        self.good = 0.0
        """Seconds for which there has been no fault."""

    def _new(self, consumer: Consumer) -> Takeover:
        takeover = Takeover(consumer, LEASE, self.clock)
        looks = Away(self.stream.client, "main", consumer.consumer)
        looks.model = self
        takeover._looks = looks
        return takeover

    async def begin(self) -> None:
        await self.living.open()
        await self.stream.append([message(), message()])
        self.held = (await self.living.take(1)).entries
        self.lost = (await self.stopped.take(1)).entries
        self._renew(self.stopped, self.lost)
        self._renew(self.living, self.held)

    def _renew(self, consumer: Consumer, entries: list[Entry]) -> None:
        self.renewals += 1
        with closing(consumer.leases()) as leases:
            leases._number = self.renewals
            assert leases.renew([entry.ref for entry in entries]) == []

    async def go_on(self, what: str) -> None:
        """Let a step of time pass."""
        self.is_away, self.loses_replies_only = what in {"away", "deaf"}, what == "deaf"
        if what in {"new 0", "new 1"}:  # this worker died, and a new one has started
            which = int(what[-1])
            self.takeovers[which] = self._new(self.others[which])
            self.next_look[which] = self.clock.now
        if self.clock.now >= self.next_renewal:
            if what == "away":
                self.next_renewal = self.clock.now + 1.0
            else:
                self._renew(self.living, self.held)
                self.next_renewal = self.clock.now + LEASE / 3
        for which in (0, 1):
            if self.clock.now >= self.next_look[which] and what != f"held up {which}":
                await self._look(which)
        self.clock.now += STEP
        self.good = 0.0 if self.is_away else self.good + STEP

    async def _look(self, which: int) -> None:
        takeover, pause = self.takeovers[which], 1.0
        with suppress(StreamUnavailableError):
            pause = await takeover.look()
        self.next_look[which] = self.clock.now + pause
        while takeover.wait() == 0:
            self.found += (await takeover.take(10, [], ANY_BYTES)).entries
            assert not {e.ref for e in self.found} & {e.ref for e in self.held}

    async def end(self) -> None:
        for _ in range(int(3 * LEASE / STEP)):
            await self.go_on("good")
        assert [entry.ref for entry in self.found] == [entry.ref for entry in self.lost]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["good", "away", "deaf", "held up 0", "held up 1", "new 0", "new 1"]),
        st.integers(1, 16),
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(steps=STEPS)
async def test_who_renews_is_never_silent_and_who_stopped_is_found(
    server: Server, steps: list[tuple[str, Any]]
) -> None:
    stream = Stream(server.url, f"looks{secrets.token_hex(4)}")
    model = Model(stream)
    try:
        await model.begin()
        for what, times in steps:
            for _ in range(times):
                await model.go_on(what)
        await model.end()
    finally:
        prefix = stream.partitions[0].base.split(":")[0]
        with redis.Redis.from_url(server.url) as client:
            client.delete(*client.scan_iter(f"{prefix}:*"))
        for one in (model.living, model.stopped, *model.others):
            await one.close()
        await stream.close()
