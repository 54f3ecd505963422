"""Nothing is taken over before its worker could renew its lease, and nothing is forgotten."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from hookmill.errors import StreamUnavailableError
from hookmill.message import Progress
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import AGAIN, STREAM, Entry, FollowUp, Settlement, Taken
from hookmill.stream.producer import Producer
from tests.support import Clock, Server, Stream, hurry, message, taken_over
from worker.takeover import Takeover

OpenGroup = Callable[..., Awaitable[Consumer]]
LEASE = 10.0


class Settled(Consumer):
    """A consumer whose Redis has been up for long; `up` is in seconds."""

    up = 1e6

    async def redis_uptime(self) -> float:
        await super().redis_uptime()
        return self.up


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def group(stream: Producer) -> Any:
    opened = Settled(stream.client, "main", "c1", dedup_window=3600)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def takeover(group: Settled, clock: Clock) -> Takeover:
    return Takeover(group, LEASE, clock)


async def hold(stream: Producer, gone: Consumer, count: int) -> list[Entry]:
    """Let another consumer hold messages."""
    await stream.append([message() for _ in range(count)])
    return (await gone.take(count)).entries


def silence(client: redis.Redis, gone: Consumer, entries: list[Entry]) -> None:
    """Make Redis show these entries as idle for a minute."""
    for key_number, key in ((STREAM, gone.partitions[0].stream), (AGAIN, gone.partitions[0].again)):
        ids: list[Any] = [e.ref.id for e in entries if e.ref.key_number == key_number]
        if ids:
            client.xclaim(key, gone.name, gone.consumer, 0, ids, idle=60_000, justid=True)


async def brought(takeover: Takeover, free: int) -> Taken:
    """Return what the sweep takes over next, or nothing at its end."""
    while (taken := await takeover.sweep(free)).is_empty and takeover.wait() == 0:
        pass
    return taken


async def settle(group: Consumer, entries: list[Entry]) -> None:
    await group.settle([Settlement(entry.ref) for entry in entries])


async def test_a_sweep_is_due_after_one_lease_of_contact(takeover: Takeover, clock: Clock) -> None:
    assert takeover.wait() == LEASE
    clock.now += LEASE - 1
    assert takeover.wait() == 1
    takeover.lost_contact()
    assert takeover.wait() == LEASE
    clock.now += LEASE + 5
    assert takeover.wait() == 0


async def test_nothing_is_taken_over_while_redis_is_younger_than_a_lease(
    takeover: Takeover,
    clock: Clock,
    group: Settled,
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
) -> None:
    gone = await open_group("gone")
    held = await hold(stream, gone, 1)
    silence(redis_client, gone, held)
    clock.now += LEASE
    group.up = 4.0
    assert await takeover.sweep(10) == Taken([], [])
    assert takeover.wait() == 6.0
    clock.now += 6
    group.up = 10.0
    assert (await brought(takeover, 10)).entries == held
    await settle(group, held)


async def test_a_sweep_takes_what_runs_again_first_and_no_more_than_asked(
    takeover: Takeover,
    group: Settled,
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
) -> None:
    gone = await open_group("gone")
    first, *rest = await hold(stream, gone, 4)
    fields = {**first.fields, **Progress(owner=first.ref.id, handler="h").to_fields()}
    await gone.settle([Settlement(first.ref, (FollowUp("again", "t", fields),))])
    requeued = (await gone.take(1)).entries
    silence(redis_client, gone, requeued + rest)

    assert (await takeover.sweep(2)).entries == requeued
    assert takeover.wait() == 0  # in the middle of a sweep: it is due at once
    assert (await takeover.sweep(2)).entries == rest[:2]
    assert takeover.wait() == 0
    assert (await takeover.sweep(2)).entries == rest[2:]
    await settle(group, requeued + rest)


async def test_a_finished_sweep_is_followed_by_a_pause(
    takeover: Takeover, group: Settled, redis_client: redis.Redis
) -> None:
    pauses = set()
    for _ in range(20):
        assert (await brought(takeover, 10)).is_empty
        pauses.add(takeover.wait())
        redis_client.delete(group.partitions[0].sweep)
    assert len(pauses) > 1  # jittered, so that workers spread
    assert all(LEASE / 4 <= pause <= LEASE / 2 for pause in pauses)


async def test_sweeps_come_to_the_end_of_a_long_list(
    takeover: Takeover,
    group: Settled,
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
) -> None:
    # For one free slot, Redis looks at ten entries; sixty of living workers come first.
    gone = await open_group("gone")
    held = await hold(stream, gone, 61)
    silence(redis_client, gone, held[-1:])
    sweeps = 0
    entries: list[Entry] = []
    while not entries:
        entries = (await takeover.sweep(1)).entries
        sweeps += 1
    assert entries == held[-1:]
    assert sweeps == 8  # one of them through the again stream, which is empty
    await settle(group, held)


async def test_the_workers_of_a_group_share_one_sweep(
    takeover: Takeover,
    clock: Clock,
    group: Settled,
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
) -> None:
    gone = await open_group("gone")
    held = await hold(stream, gone, 40)
    silence(redis_client, gone, held)
    second = Settled(stream.client, "main", "second", dedup_window=3600)
    other = Takeover(second, LEASE, clock)

    mine, theirs = await brought(takeover, 10), await brought(other, 10)
    assert (mine.entries, theirs.entries) == (held[:10], held[10:20])
    # Each worker goes on where the other stopped; at its end, the sweep has ended for all.
    assert (await other.sweep(10)).entries == held[20:30]
    assert (await takeover.sweep(20)).entries == held[30:]
    await brought(takeover, 10)
    assert (await other.sweep(10)).is_empty
    assert LEASE / 4 <= takeover.wait() <= LEASE / 2
    assert abs(other.wait() - takeover.wait()) < LEASE / 8
    await settle(group, held)
    await second.close()


async def test_a_sweep_goes_on_although_the_worker_that_began_it_is_gone(
    takeover: Takeover,
    clock: Clock,
    group: Settled,
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
) -> None:
    gone = await open_group("gone")
    held = await hold(stream, gone, 61)
    silence(redis_client, gone, held[-1:])
    for _ in range(4):
        assert (await takeover.sweep(1)).is_empty
    second = Settled(stream.client, "main", "second", dedup_window=3600)
    other, sweeps, found = Takeover(second, LEASE, clock), 0, list[Entry]()
    while not found:
        found = (await other.sweep(1)).entries
        sweeps += 1
    assert (found, sweeps) == (held[-1:], 4)
    await settle(group, held)
    await second.close()


async def test_a_clock_of_redis_that_was_set_back_does_not_stop_the_sweeps(
    takeover: Takeover, group: Settled, redis_client: redis.Redis
) -> None:
    far: Any = 10**15
    redis_client.hset(group.partitions[0].sweep, "next", far)
    assert (await brought(takeover, 10)).is_empty
    assert takeover.wait() <= LEASE / 2


async def test_duplicates_found_in_a_sweep_are_passed_on(
    takeover: Takeover, group: Settled, stream: Producer, redis_client: redis.Redis
) -> None:
    await stream.append([message(id="m"), message(id="m")])
    redis_client.xreadgroup("main", "gone", {group.partitions[0].stream: ">"})
    held: list[Any] = [row["message_id"] for row in pending(redis_client, group)]
    redis_client.xclaim(group.partitions[0].stream, "main", "gone", 0, held, idle=60_000)
    taken = await brought(takeover, 10)
    assert len(taken.entries) == 1
    assert [one.message_id for one in taken.duplicates] == ["m"]
    await settle(group, taken.entries)


def pending(client: redis.Redis, group: Consumer) -> Any:
    return client.xpending_range(group.partitions[0].stream, group.name, "-", "+", 100)


# --- contact with Redis ---------------------------------------------------------------------


async def test_regular_contact_leaves_the_next_sweep_where_it_was(
    takeover: Takeover, clock: Clock
) -> None:
    for _ in range(8):
        assert await takeover.keep_in_touch() == LEASE / 8
        clock.now += LEASE / 8
    assert takeover.wait() == 0


async def test_a_late_answer_is_a_lost_contact(
    takeover: Takeover, clock: Clock, own_server: Callable[..., Server]
) -> None:
    # Redis was frozen for longer than half a lease, and then answers without an error.
    await takeover.keep_in_touch()
    clock.now += LEASE / 2 + 0.1
    await takeover.keep_in_touch()
    assert takeover.wait() == LEASE


async def test_a_sweep_that_is_carried_out_after_an_outage_takes_nothing(
    own_server: Callable[..., Server],
) -> None:
    # The sweep is sent before the outage. Then Redis freezes, and no worker can renew.
    server = own_server()
    stream = Stream(server.url, "t")
    group, gone = (
        Settled(stream.client, "main", name, dedup_window=3600) for name in ("c1", "gone")
    )
    await group.open()
    takeover = Takeover(group, 2.0)
    await takeover.sweep(1)
    await takeover.keep_in_touch()
    held = await hold(stream, gone, 1)
    server.signal(signal.SIGSTOP)
    sweeping = [asyncio.create_task(takeover.sweep(10)) for _ in range(2)]
    await asyncio.sleep(2.2)
    server.signal(signal.SIGCONT)
    assert await asyncio.gather(*sweeping) == [Taken([], [])] * 2
    assert takeover.wait() > 0
    await settle(gone, held)
    await group.close()
    await gone.close()
    await stream.close()


async def test_a_sweep_that_waited_through_an_outage_takes_nothing(
    stream: Producer, open_group: OpenGroup
) -> None:
    class Frozen(Settled):
        takeover: Takeover | None = None

        async def redis_uptime(self) -> float:
            waiting, self.takeover = self.takeover, None
            if waiting is not None:  # the answer comes late, after another contact
                await asyncio.sleep(0.3)
                await waiting.keep_in_touch()
            return await super().redis_uptime()

    gone, group = await open_group("gone"), Frozen(stream.client, "main", "c1", dedup_window=3600)
    takeover = Takeover(group, 0.5)
    await takeover.keep_in_touch()
    await takeover.sweep(1)  # through the again stream; next is the stream
    takeover.lost_contact()
    held = await hold(stream, gone, 1)
    group.takeover = takeover
    await asyncio.sleep(0.3)
    assert (await takeover.sweep(10)).is_empty
    await settle(gone, held)
    await group.close()


async def test_no_answer_is_a_lost_contact(clock: Clock, own_server: Callable[..., Server]) -> None:
    server = own_server()
    stream = Stream(server.url, "t")
    group = Consumer(stream.client, "main", "c1", dedup_window=3600)
    takeover = Takeover(group, LEASE, clock)
    await takeover.keep_in_touch()
    clock.now += LEASE
    hurry(stream, 0.1)
    server.signal(signal.SIGSTOP)
    with pytest.raises(StreamUnavailableError):
        await takeover.keep_in_touch()
    assert takeover.wait() == LEASE
    server.signal(signal.SIGCONT)
    await group.close()
    await stream.close()


async def test_an_unnoticed_restart_is_noticed_by_redis_uptime(
    takeover: Takeover, clock: Clock, group: Settled
) -> None:
    await takeover.sweep(1)
    group.up = 1.0
    await takeover.keep_in_touch()
    clock.now += LEASE
    assert await takeover.sweep(1) == Taken([], [])
    assert takeover.wait() == LEASE - 1


async def test_what_is_taken_over_for_the_second_time_is_suspect(
    group: Settled, stream: Producer, open_group: OpenGroup
) -> None:
    held = await hold(stream, await open_group("first"), 1)
    second = await open_group("second")
    once = (await taken_over(second)).entries
    twice = (await taken_over(group)).entries
    assert [entry.is_suspect for entry in (*held, *once, *twice)] == [False, False, True]
    await settle(group, held)
