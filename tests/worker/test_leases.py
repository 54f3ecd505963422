"""The leases of held messages are renewed, even while the event loop is blocked."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest
import redis
import structlog

from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.connections import Connections
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import STREAM, Entry, EntryRef, Settlement
from hookmill.stream.leases import BlockingLeases
from hookmill.stream.producer import Producer
from tests.support import eventually, message, taken_over, wait_until
from worker.leases import MAX_BLOCKED, LeaseKeeper, timeout_of

OpenGroup = Callable[..., Awaitable[Consumer]]

LEASE = 0.12


class Leases(BlockingLeases):
    """Notes what is renewed, and fails when asked to."""

    def __init__(self, client: Client, group: Consumer) -> None:
        super().__init__(client, group.name, group.consumer)
        self.renewed: list[list[EntryRef]] = []
        self.faults: list[Exception] = []
        self.meanwhile: Callable[[], Any] = lambda: None

    def renew(self, refs: Iterable[EntryRef], partitions: Iterable[int] = ()) -> list[EntryRef]:
        self.renewed.append(list(refs))
        if self.faults:
            raise self.faults.pop()
        lost = super().renew(self.renewed[-1], partitions)
        self.meanwhile()
        return lost


@pytest.fixture
async def group(open_group: OpenGroup) -> Consumer:
    return await open_group()


@pytest.fixture
def leases(stream: Producer, group: Consumer) -> Leases:
    return Leases(stream.client, group)


@pytest.fixture
def held() -> dict[EntryRef, Entry]:
    return {}


@pytest.fixture
async def keeper(leases: Leases, held: dict[EntryRef, Entry]) -> AsyncIterator[LeaseKeeper]:
    started = LeaseKeeper(leases, held, LEASE)
    started.start()
    yield started
    started.stop()


async def take(stream: Producer, group: Consumer, count: int) -> list[Entry]:
    await stream.append([message() for _ in range(count)])
    return (await group.take(count)).entries


def pending_rows(client: redis.Redis, group: Consumer) -> dict[str, dict[str, Any]]:
    rows: Any = client.xpending_range(group.partitions[0].stream, group.name, "-", "+", 100)
    return {row["message_id"].decode(): row for row in rows}


def age(client: redis.Redis, group: Consumer, entries: Iterable[Entry]) -> None:
    """Make Redis show these entries as held for a minute."""
    ids: list[Any] = [entry.ref.id for entry in entries]
    client.xclaim(
        group.partitions[0].stream, group.name, group.consumer, 0, ids, idle=60_000, justid=True
    )


async def test_leases_are_renewed_while_the_event_loop_is_blocked(
    stream: Producer,
    group: Consumer,
    keeper: LeaseKeeper,
    held: dict[EntryRef, Entry],
    redis_client: redis.Redis,
) -> None:
    def rows() -> Iterable[dict[str, Any]]:
        return pending_rows(redis_client, group).values()

    entries = await take(stream, group, 2)
    held.update((entry.ref, entry) for entry in entries)
    for _ in range(2):
        age(redis_client, group, entries)
        # This wait blocks the loop, as a careless handler would.
        wait_until(lambda: all(row["time_since_delivered"] < 60_000 for row in rows()))

    assert {row["times_delivered"] for row in rows()} == {
        1
    }  # a renewal does not count as a delivery
    await group.settle([Settlement(entry.ref) for entry in entries])


async def test_only_what_is_held_is_renewed(
    stream: Producer,
    group: Consumer,
    leases: Leases,
    keeper: LeaseKeeper,
    held: dict[EntryRef, Entry],
    redis_client: redis.Redis,
) -> None:
    mine, forgotten = await take(stream, group, 2)
    age(redis_client, group, [mine, forgotten])
    held[mine.ref] = mine
    await eventually(
        lambda: pending_rows(redis_client, group)[mine.ref.id]["time_since_delivered"] < 60_000
    )
    assert pending_rows(redis_client, group)[forgotten.ref.id]["time_since_delivered"] >= 60_000
    held.clear()
    await group.settle([Settlement(mine.ref), Settlement(forgotten.ref)])


async def test_a_lost_lease_is_reported_and_left_with_its_new_holder(
    stream: Producer,
    group: Consumer,
    open_group: OpenGroup,
    leases: Leases,
    held: dict[EntryRef, Entry],
    redis_client: redis.Redis,
) -> None:
    other = await open_group("other")
    (entry,) = await take(stream, group, 1)
    await taken_over(other)
    held[entry.ref] = entry
    keeper = LeaseKeeper(leases, held, LEASE)
    with structlog.testing.capture_logs() as logs:
        keeper.start()
        await eventually(lambda: logs)
        keeper.stop()
    assert logs[0]["event"] == "leases lost: another worker has these messages"
    assert logs[0]["entries"] == [entry.ref.id]
    assert pending_rows(redis_client, group)[entry.ref.id]["consumer"] == b"other"
    held.clear()
    await other.settle([Settlement(entry.ref)])


async def test_what_was_settled_during_a_renewal_does_not_count_as_lost(
    leases: Leases, held: dict[EntryRef, Entry]
) -> None:
    ref = EntryRef(STREAM, "1-1")  # no longer pending
    held[ref] = Entry(ref, {})
    leases.meanwhile = held.clear
    keeper = LeaseKeeper(leases, held, LEASE)
    keeper.start()
    with structlog.testing.capture_logs() as logs:
        await eventually(lambda: leases.renewed and not held)
        keeper.stop()
    assert logs == []


async def test_what_is_being_settled_does_not_count_as_lost(
    leases: Leases, held: dict[EntryRef, Entry]
) -> None:
    # Redis has carried out the settlement, and its reply is lost or under way.
    ref = EntryRef(STREAM, "1-1")
    held[ref] = Entry(ref, {})
    keeper = LeaseKeeper(leases, held, LEASE, settling=lambda: {ref})
    with structlog.testing.capture_logs() as logs:
        keeper.start()
        await eventually(lambda: len(leases.renewed) >= 4)
        keeper.stop()
    assert logs == []


async def test_what_is_lost_in_one_renewal_only_is_not_reported(
    leases: Leases, held: dict[EntryRef, Entry]
) -> None:
    refs = [EntryRef(STREAM, f"1-{n}") for n in range(1, 9)]

    def hold_another() -> None:
        held.clear()
        if refs:
            ref = refs.pop()
            held[ref] = Entry(ref, {})

    hold_another()
    leases.meanwhile = hold_another
    keeper = LeaseKeeper(leases, held, LEASE)
    with structlog.testing.capture_logs() as logs:
        keeper.start()
        await eventually(lambda: not refs)
        keeper.stop()
    assert logs == []


async def test_a_loss_is_reported_once(leases: Leases, held: dict[EntryRef, Entry]) -> None:
    ref = EntryRef(STREAM, "1-1")
    held[ref] = Entry(ref, {})
    keeper = LeaseKeeper(leases, held, LEASE)
    with structlog.testing.capture_logs() as logs:
        keeper.start()
        await eventually(lambda: len(leases.renewed) >= 5)
        keeper.stop()
    assert [line["entries"] for line in logs] == [["1-1"]]


async def test_a_renewal_that_failed_is_tried_again_soon(
    leases: Leases, held: dict[EntryRef, Entry]
) -> None:
    keeper = LeaseKeeper(leases, held, 24.0)
    assert (keeper.period, keeper.short_period, timeout_of(24.0)) == (8.0, 1.0, 2.0)
    assert (LeaseKeeper(leases, held, 4.0).short_period, timeout_of(4.0)) == (0.5, 0.5)
    assert timeout_of(0.5) == 0.25
    leases.faults = [StreamUnavailableError("away")]
    began = time.monotonic()
    keeper.start()
    await eventually(lambda: len(leases.renewed) == 2)
    keeper.stop()
    assert time.monotonic() - began < 7  # before the next renewal would be due


async def test_the_number_rises_where_something_is_asked_for_or_was_given(
    stream: Producer, group: Consumer, held: dict[EntryRef, Entry]
) -> None:
    # A reply may lie unread for long, where the event loop is blocked.
    (entry,) = await take(stream, group, 1)
    assert group.in_use(60) == {0}
    assert group.in_use(0) == set()
    raised: list[list[int]] = []

    class Noting(BlockingLeases):
        def renew(self, refs: Iterable[EntryRef], partitions: Iterable[int] = ()) -> list[EntryRef]:
            raised.append(list(partitions))
            return super().renew(refs, partitions)

    noting = Noting(stream.client, group.name, group.consumer)
    keeper = LeaseKeeper(noting, held, LEASE, lambda: group.in_use(60))
    keeper.start()
    await eventually(lambda: raised)
    keeper.stop()
    assert raised[0] == [0]
    taking = asyncio.create_task(group.take(1))
    await asyncio.sleep(0)
    assert group.in_use(0) == {0}
    await taking
    await group.settle([Settlement(entry.ref)])


async def test_a_loop_that_is_blocked_for_many_leases_renews_no_more(
    leases: Leases, held: dict[EntryRef, Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = EntryRef(STREAM, "1-1")
    held[ref] = Entry(ref, {})
    keeper = LeaseKeeper(leases, held, LEASE)
    keeper._last_beat = time.monotonic() - MAX_BLOCKED * LEASE - 1
    with structlog.testing.capture_logs() as logs:
        keeper.start()
        await eventually(lambda: logs)
    assert logs[0]["event"] == "event loop blocked: leases no longer renewed"
    assert leases.renewed == []
    # When the loop is no longer blocked, the leases are renewed again.
    assert await keeper.beat() == pytest.approx(LEASE / 3)
    await eventually(lambda: leases.renewed)
    keeper.stop()


@pytest.mark.parametrize("fault", [StreamUnavailableError("away"), RuntimeError("a fault of ours")])
async def test_no_error_ends_the_renewing(
    leases: Leases, keeper: LeaseKeeper, held: dict[EntryRef, Entry], fault: Exception
) -> None:
    ref = EntryRef(STREAM, "1-1")
    leases.faults = [fault]
    with structlog.testing.capture_logs() as logs:
        held[ref] = Entry(ref, {})
        await eventually(lambda: len(leases.renewed) >= 2)
    assert "renew" in logs[0]["event"]


async def test_its_log_lines_carry_what_the_program_has_bound(
    leases: Leases, held: dict[EntryRef, Entry]
) -> None:
    structlog.contextvars.bind_contextvars(program="worker-1")
    keeper = LeaseKeeper(leases, held, LEASE)
    bound: list[Any] = []
    leases.meanwhile = lambda: bound.append(structlog.contextvars.get_contextvars())
    ref = EntryRef(STREAM, "1-1")
    held[ref] = Entry(ref, {})
    keeper.start()
    await eventually(lambda: bound)
    keeper.stop()
    assert bound[0] == {"program": "worker-1"}


async def test_the_loop_may_write_while_the_thread_reads(
    stream: Producer, group: Consumer, held: dict[EntryRef, Entry]
) -> None:
    class Offline(BlockingLeases):
        renewals = 0

        def _renew_at(
            self, _: Connections, by_partition: dict[int, list[EntryRef]]
        ) -> list[EntryRef]:
            self.renewals += any(by_partition.values())
            return []

    refs = [EntryRef(STREAM, f"1-{n}") for n in range(20_000)]
    entries = {ref: Entry(ref, {}) for ref in refs}
    offline = Offline(stream.client, group.name, group.consumer)
    keeper = LeaseKeeper(offline, held, lease=0.1)  # long enough for a busy machine
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that the threads switch at many places
    keeper.start()
    try:
        with structlog.testing.capture_logs() as logs:
            while offline.renewals < 10 and not logs:
                held.update(entries)
                held.clear()
                await keeper.beat()
    finally:
        sys.setswitchinterval(interval)
        keeper.stop()
    assert logs == []
