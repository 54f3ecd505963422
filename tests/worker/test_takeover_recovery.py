"""A worker recovers what came in a reply that was lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
import structlog

from hookmill.errors import StreamUnavailableError
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, EntryRef, Taken
from hookmill.stream.producer import Producer
from tests.stream.toolkit import OpenGroup
from tests.support import ANY_BYTES, Clock, dead_letters, message
from tests.worker.takeovers import LEASE, PERIOD, brought, hold, looked, settle
from worker.takeover import Takeover


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def gone(open_group: OpenGroup) -> Consumer:
    return await open_group("gone")


class Recovering(Consumer):
    """Notes what is asked for; fails when it is told to."""

    fails = False

    def prepare(self) -> None:
        self.asked: list[list[EntryRef]] = []

    async def recover(
        self, partition: int, count: int, lease: float, max_bytes: int, known: Iterable[EntryRef]
    ) -> tuple[Taken, bool]:
        self.asked.append(list(known))
        if self.fails:
            raise StreamUnavailableError("no reply")
        return await super().recover(partition, count, lease, max_bytes, known)


@pytest.fixture
async def recovering(stream: Producer, open_group: OpenGroup) -> Any:
    await open_group()
    opened = Recovering(stream.client, "main", "c1", dedup_window=3600)
    opened.prepare()
    yield opened
    await opened.close()


async def test_what_a_lost_reply_brought_is_recovered_soon_and_what_is_held_is_left_alone(
    stream: Producer, recovering: Recovering, clock: Clock
) -> None:
    takeover = Takeover(recovering, LEASE, clock)
    await stream.append([message() for _ in range(4)])
    known, *lost = (await recovering.take(4)).entries
    takeover.lost_reply()
    assert 0 < takeover.wait() <= LEASE / 8
    clock.now += LEASE / 8
    found: list[Entry] = []
    while takeover.wait() == 0:
        found += (
            await takeover.take(10, [entry.ref for entry in (known, *found)], ANY_BYTES)
        ).entries
    assert found == lost
    await settle(recovering, [known, *lost])


async def test_it_asks_once_more_after_a_lease_because_a_command_may_be_carried_out_late(
    stream: Producer, recovering: Recovering, clock: Clock
) -> None:
    takeover = Takeover(recovering, LEASE, clock)
    takeover.lost_reply()
    clock.now += LEASE / 8
    assert await brought(takeover) == []
    await stream.append([message()])
    late = (await recovering.take(1)).entries  # the command that had no reply
    clock.now += LEASE - PERIOD - 0.1
    assert takeover.wait() > 0
    clock.now += 0.2
    assert await brought(takeover) == late
    clock.now += 10 * LEASE
    assert takeover.wait() > 0
    assert len(recovering.asked) == 2
    await settle(recovering, late)


async def test_while_it_fails_it_asks_once_a_lease(recovering: Recovering, clock: Clock) -> None:
    takeover = Takeover(recovering, LEASE, clock)
    recovering.fails = True
    takeover.lost_reply()
    asked: list[float] = []
    for _ in range(100):
        if takeover.wait() == 0:
            asked.append(clock.now)
            with pytest.raises(StreamUnavailableError):
                await takeover.take(10, [], ANY_BYTES)
            takeover.lost_reply()
        elif len(asked) < 3:
            takeover.lost_reply()  # takes fail meanwhile
        clock.now += LEASE / 16
    assert len(asked) >= 5
    assert all(later - one >= LEASE for one, later in itertools.pairwise(asked))


async def test_where_the_reply_of_a_takeover_is_lost_it_is_asked_for_after_a_lease(
    stream: Producer,
    recovering: Recovering,
    gone: Consumer,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    takeover = Takeover(recovering, LEASE, clock)
    held = await hold(stream, gone, 1)
    await looked(clock, LEASE + 3 * PERIOD, takeover)
    take_over = Consumer.take_over

    async def lose(*args: Any) -> Any:
        await take_over(*args)
        raise StreamUnavailableError("no reply")

    monkeypatch.setattr(Consumer, "take_over", lose)
    with pytest.raises(StreamUnavailableError):
        await takeover.take(10, [], ANY_BYTES)
    takeover.lost_reply()
    clock.now += LEASE - 0.1
    assert takeover.wait() > 0
    clock.now += 0.2
    assert [entry.ref for entry in await brought(takeover)] == [held[0].ref]
    await settle(recovering, held)


async def test_what_no_worker_received_ten_times_is_a_dead_letter_after_ten_leases(
    stream: Producer, recovering: Recovering, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    takeover = Takeover(recovering, LEASE, clock)
    await stream.append([message(id="large"), message(id="small")])
    large, small = (await recovering.take(2)).entries
    recover = Consumer.recover
    lost: list[float] = []

    async def lose(*args: Any) -> Any:
        taken, has_more = await recover(*args)
        if any(entry.ref == large.ref for entry in taken.entries):
            lost.append(clock.now)
            raise StreamUnavailableError("too large")
        return taken, has_more

    monkeypatch.setattr(Consumer, "recover", lose)
    takeover.lost_reply()
    found: list[Entry] = []
    with structlog.testing.capture_logs() as logs:
        while not any(line.get("reason") for line in logs):
            clock.now += LEASE / 16
            if takeover.wait() > 0:
                continue
            try:
                found += (await takeover.take(10, [one.ref for one in found], ANY_BYTES)).entries
            except StreamUnavailableError:
                takeover.lost_reply()
    assert [entry.ref for entry in found] == [small.ref]  # it did not wait for the other
    assert len(lost) == 10
    assert all(later - one >= LEASE for one, later in itertools.pairwise(lost))
    (line,) = [line for line in logs if line.get("reason")]
    assert (line["event"], line["id"], line["reason"]) == ("dead letter", "large", "undeliverable")
    (letter,) = await dead_letters(stream)
    assert letter.fields[b"id"] == b"large"
    await settle(recovering, [small])
    await stream.client.execute(0, "DEL", recovering.partitions[0].dead)
