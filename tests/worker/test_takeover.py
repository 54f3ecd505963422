"""Who looks, what time counts, and when a worker takes over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from hookmill.errors import StreamUnavailableError
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry
from hookmill.stream.looks import Looks, Turn
from hookmill.stream.producer import Producer
from tests.stream.toolkit import OpenGroup
from tests.support import ANY_BYTES, Clock
from tests.worker.takeovers import LEASE, PERIOD, brought, hold, looked, renew, settle
from worker.takeover import Takeover


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def group(open_group: OpenGroup) -> Consumer:
    return await open_group()


@pytest.fixture
async def gone(open_group: OpenGroup) -> Consumer:
    return await open_group("gone")


@pytest.fixture
def takeover(group: Consumer, clock: Clock) -> Takeover:
    return Takeover(group, LEASE, clock)


# --- the rule -------------------------------------------------------------------------------


async def test_what_a_silent_worker_held_is_taken_over_after_one_lease_and_not_before(
    stream: Producer, takeover: Takeover, group: Consumer, gone: Consumer, clock: Clock
) -> None:
    held = await hold(stream, gone, 3)
    await looked(clock, LEASE, takeover)  # the first ask only learns the number of looks
    assert await brought(takeover) == []
    await looked(clock, 2 * PERIOD, takeover)
    assert await brought(takeover) == held
    await settle(group, held)


async def test_a_worker_that_renews_keeps_what_it_holds(
    stream: Producer, takeover: Takeover, gone: Consumer, clock: Clock
) -> None:
    held = await hold(stream, gone, 3)
    for number in range(1, 9):
        await looked(clock, 5 * PERIOD, takeover)
        renew(gone, held, number)
    assert takeover.wait() > 0
    await settle(gone, held)


async def test_a_worker_that_renews_after_the_look_is_not_taken_over_from(
    stream: Producer, takeover: Takeover, gone: Consumer, clock: Clock
) -> None:
    held = await hold(stream, gone, 1)
    await looked(clock, LEASE + 2 * PERIOD, takeover)
    assert takeover.wait() == 0
    renew(gone, held, 1)
    assert await brought(takeover) == []
    await settle(gone, held)


async def test_a_worker_that_holds_something_anew_has_a_whole_lease(
    stream: Producer, takeover: Takeover, gone: Consumer, clock: Clock
) -> None:
    held = await hold(stream, gone, 1)
    await looked(clock, LEASE, takeover)
    await settle(gone, held)
    await looked(clock, PERIOD, takeover)  # this look sees that it holds nothing
    held = await hold(stream, gone, 1)
    await looked(clock, LEASE - PERIOD, takeover)
    assert takeover.wait() > 0
    await settle(gone, held)


async def test_no_worker_takes_over_from_itself(
    stream: Producer, takeover: Takeover, group: Consumer, clock: Clock
) -> None:
    held = await hold(stream, group, 1)
    await looked(clock, 3 * LEASE, takeover)
    assert takeover.wait() > 0
    await settle(group, held)


async def test_a_step_of_redis_clock_takes_over_nothing(
    stream: Producer,
    takeover: Takeover,
    gone: Consumer,
    clock: Clock,
    redis_client: redis.Redis,
) -> None:
    # A step forward makes all entries look idle for that long.
    held = await hold(stream, gone, 3)
    await looked(clock, 3 * PERIOD, takeover)
    ids: list[Any] = [entry.ref.id for entry in held]
    keys = gone.partitions[0]
    redis_client.xclaim(keys.stream, "main", "gone", 0, ids, idle=3_600_000, justid=True)
    redis_client.hset(keys.watched, "", "1 1")  # and the last look as old
    await looked(clock, 3 * PERIOD, takeover)
    assert takeover.wait() > 0
    await settle(gone, held)


# --- which time counts ----------------------------------------------------------------------


class Shaky(Looks):
    """Fails when it is told to."""

    fails = ""

    async def ask(self, seen: str) -> Turn:
        if self.fails == "ask":
            raise StreamUnavailableError("away")
        return await super().ask(seen)

    async def watch(
        self, number: str, watched: float | None, before: str, lease: float
    ) -> list[int]:
        if self.fails == "watch":
            raise StreamUnavailableError("away")
        return await super().watch(number, watched, before, lease)


@pytest.fixture
def shaky(stream: Producer, group: Consumer, takeover: Takeover) -> Shaky:
    looks = Shaky(stream.client, group.name, group.consumer)
    takeover._looks = looks
    return looks


@pytest.mark.parametrize("fails", ["ask", "watch"])
async def test_the_time_before_and_after_a_look_that_failed_does_not_count(
    stream: Producer,
    takeover: Takeover,
    shaky: Shaky,
    group: Consumer,
    gone: Consumer,
    clock: Clock,
    fails: str,
) -> None:
    held = await hold(stream, gone, 1)
    await looked(clock, LEASE, takeover)
    shaky.fails = fails
    with pytest.raises(StreamUnavailableError):
        await takeover.look()
    shaky.fails = ""
    await looked(clock, 2 * PERIOD, takeover)
    assert takeover.wait() > 0
    # All the rest does: a line that fails now and then does not postpone a takeover for ever.
    await looked(clock, 2 * PERIOD, takeover)
    assert await brought(takeover) == held
    await settle(group, held)


async def test_after_an_outage_of_half_a_lease_all_ages_begin_anew(
    stream: Producer,
    takeover: Takeover,
    shaky: Shaky,
    group: Consumer,
    gone: Consumer,
    clock: Clock,
) -> None:
    held = await hold(stream, gone, 1)
    await looked(clock, LEASE, takeover)
    shaky.fails = "ask"
    for _ in range(5):
        with pytest.raises(StreamUnavailableError):
            await takeover.look()
        clock.now += PERIOD
    shaky.fails = ""
    await looked(clock, LEASE, takeover)
    assert takeover.wait() > 0
    await looked(clock, 2 * PERIOD, takeover)
    assert await brought(takeover) == held
    await settle(group, held)


async def test_one_cut_connection_does_not_fail_a_look(
    takeover: Takeover, shaky: Shaky, clock: Clock
) -> None:
    await takeover.look()
    asked: list[str] = []

    async def ask_once_more(seen: str) -> Turn:
        asked.append(seen)
        if len(asked) == 1:
            raise StreamUnavailableError("cut")
        return await Looks.ask(shaky, seen)

    shaky.ask = ask_once_more  # type: ignore[method-assign] # as a proxy would
    await takeover.look()
    assert asked == ["0", "0"]


# --- whose turn it is -----------------------------------------------------------------------


async def test_one_worker_looks_and_all_take_over_what_it_finds(
    stream: Producer,
    takeover: Takeover,
    group: Consumer,
    gone: Consumer,
    open_group: OpenGroup,
    clock: Clock,
) -> None:
    held = await hold(stream, gone, 40)
    other = Takeover(await open_group("other"), LEASE, clock)
    await looked(clock, LEASE + 3 * PERIOD, takeover, other)
    keys = group.partitions[0]
    # The first one looked each time that it asked, but the first two.
    number = await stream.client.execute(0, "HGET", keys.looks, "number")
    assert int(number) == 10

    assert (takeover.wait(), other.wait()) == (0, 0)
    takeover._most = other._most = 10
    mine = (await takeover.take(10, [], ANY_BYTES)).entries
    theirs = (await other.take(10, [], ANY_BYTES)).entries
    assert (mine, theirs) == (held[:10], held[10:20])
    assert await brought(other) == held[20:]
    await settle(group, held)


async def test_another_worker_goes_on_where_the_one_that_looked_is_gone(
    stream: Producer,
    takeover: Takeover,
    gone: Consumer,
    open_group: OpenGroup,
    clock: Clock,
) -> None:
    held = await hold(stream, gone, 1)
    group = await open_group("other")
    other = Takeover(group, LEASE, clock)
    await looked(clock, LEASE / 2, takeover, other)
    await looked(clock, LEASE / 2, other)
    assert other.wait() > 0
    await looked(clock, 4 * PERIOD, other)
    assert await brought(other) == held
    await settle(group, held)


async def test_workers_that_all_live_for_half_a_lease_find_what_is_silent(
    stream: Producer, gone: Consumer, open_group: OpenGroup, clock: Clock
) -> None:
    held = await hold(stream, gone, 1)
    found: list[Entry] = []
    lives = 0
    while not found:
        group = await open_group(f"c{lives}")
        takeover = Takeover(group, LEASE, clock)
        await looked(clock, LEASE / 2, takeover)
        found = await brought(takeover)
        lives += 1
    assert (found, lives) == (held, 3)
    await settle(group, held)


async def test_a_new_worker_asks_soon_and_then_less_often(group: Consumer, clock: Clock) -> None:
    takeover = Takeover(group, 80.0, clock)
    pauses = []
    for _ in range(6):
        pauses.append(await takeover.look())
        clock.now += pauses[-1]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


async def test_workers_that_ask_at_the_same_moments_look_in_turn_and_lose_no_time(
    stream: Producer,
    takeover: Takeover,
    gone: Consumer,
    open_group: OpenGroup,
    clock: Clock,
) -> None:
    held = await hold(stream, gone, 1)
    both = [takeover, Takeover(await open_group("other"), LEASE, clock)]
    for _ in range(12):
        both.reverse()  # each time the other one is a little earlier
        await asyncio.gather(*(one.look() for one in both))
        clock.now += PERIOD
    found = await brought(takeover) or await brought(both[1])
    assert found == held
    await settle(gone, held)


async def test_two_workers_never_count_the_same_time_twice(
    stream: Producer,
    takeover: Takeover,
    gone: Consumer,
    open_group: OpenGroup,
    clock: Clock,
) -> None:
    held = await hold(stream, gone, 1)
    other = Takeover(await open_group("other"), LEASE, clock)
    began = clock.now
    for number in range(100):  # the turn goes to and fro
        await (takeover if number % 4 < 2 else other).look()
        clock.now += PERIOD / 4
        note = await stream.client.execute(0, "HGET", gone.partitions[0].watched, "gone")
        age = int((note or b"0 ").split()[0])
        assert age <= (clock.now - began) * 1000
    assert age > 0
    await settle(gone, held)


# --- taking over ----------------------------------------------------------------------------


async def test_a_worker_that_is_new_takes_over_one_and_then_more(
    stream: Producer, takeover: Takeover, group: Consumer, gone: Consumer, clock: Clock
) -> None:
    held = await hold(stream, gone, 10)
    await looked(clock, LEASE + 3 * PERIOD, takeover)
    counts = []
    while takeover.wait() == 0:
        counts.append(len((await takeover.take(100, [], ANY_BYTES)).entries))
    assert counts == [1, 2, 4, 3]
    await settle(group, held)


async def test_what_was_brought_is_confirmed_before_it_runs(
    stream: Producer, takeover: Takeover, group: Consumer, gone: Consumer, clock: Clock
) -> None:
    held = await hold(stream, gone, 1)
    await looked(clock, LEASE + 3 * PERIOD, takeover)
    assert (await takeover.take(10, [], ANY_BYTES)).entries == held
    keys = group.partitions[0]
    assert await stream.client.execute(0, "EXISTS", keys.deliveries) == 0
    await settle(group, held)
