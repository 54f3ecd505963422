"""A stream in four partitions: every step again, from the append to the dead letters."""

# Long because: each test needs the same stream and group, and there is one for each step.

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
import redis

from hookmill.config.settings import Settings
from hookmill.errors import BacklogFullError, GroupLostError, PartitionsError
from hookmill.message import Message
from hookmill.signatures import Token
from hookmill.stream.arrival import Arrival, Row, row_of
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import DeadLetter, Entry, FollowUp, Settlement, Taken
from hookmill.stream.facts import Backlog
from hookmill.stream.inspector import Inspector
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from hookmill.stream.view import open_view
from tests.support import Server, Stream, eventually, message, taken_over

PARTITIONS = 4


@pytest.fixture
async def stream(server: Server, prefix: str) -> AsyncIterator[Producer]:
    opened = Stream(server.url, prefix, partitions=PARTITIONS)
    yield opened
    await opened.close()


@pytest.fixture
async def group(stream: Producer) -> AsyncIterator[Consumer]:
    opened = Consumer(stream.client, "main", "c1", dedup_window=3600)
    await opened.open()
    yield opened
    await opened.close()


def keyed(number: int, key: str) -> Message:
    return message(id=f"m{number}", key=key)


def in_partition(partition: int, number: int = 0) -> Message:
    """A message that belongs into a partition."""
    for attempt in range(1000):
        found = message(b'{"n":"%d-%d"}' % (number, attempt), id=f"m{number}")
        if row_of(found).partition(PARTITIONS) == partition:
            return found
    raise AssertionError("no such body")


def again(entry: Entry, delay_ms: int = 0) -> FollowUp:
    fields = {**entry.fields, b"owner": entry.owner}
    return FollowUp("again", f"{entry.ref}", fields, delay_ms)


def dead(entry: Entry) -> FollowUp:
    return FollowUp("dead", "", {**entry.fields, b"owner": entry.owner})


def ids(taken: Taken) -> list[str]:
    return [entry.fields[b"id"].decode() for entry in taken.entries]


async def settle(group: Consumer, *takings: Taken) -> None:
    await group.settle(
        [
            Settlement(entry.ref, (), entry.key, entry.owner)
            for taken in takings
            for entry in taken.entries
        ]
    )


# --- which partition -------------------------------------------------------------------------


def test_the_partition_follows_the_key_then_the_signed_id_then_the_body() -> None:
    def spread(**fields: object) -> int:
        given = {"id": "m1", "source": "s", "type": "", "body": b"{}", "received_ms": 0, **fields}
        sent = Arrival(**given)  # type: ignore[arg-type] # a table of fields
        (found,) = {row_of(sent, version).partition(1 << 32) for version in (2, 3)}
        return found

    plain = spread()
    assert spread(id="m2") == plain  # an unsigned ID does not decide the partition
    assert spread(header_block=b"X-Key: 1") == plain
    assert spread(body=b"[]") != plain
    signed = spread(id_is_signed=True)
    assert signed != plain
    assert spread(id_is_signed=True, body=b"[]") == signed
    assert spread(id_is_signed=True, source="other") != signed
    ordered = spread(key="k")
    assert spread(key="k", id="m2", body=b"[]", id_is_signed=True) == ordered
    assert spread(key="l") != ordered
    assert spread(key="k", source="other") != ordered


async def test_a_token_is_found_whatever_header_comes_with_it(stream: Producer) -> None:
    copies = [
        Arrival(
            id=f"m{number}", source="qstash", type="", body=b"{}", received_ms=1_700_000_000_000,
            token=Token(b"t" * 16, 1_700_000_300),
        )
        for number in range(20)
    ]  # fmt: skip
    stored = await stream.append_rows([row_of(copy) for copy in copies])
    assert [bool(entry_id) for entry_id in stored] == [True] + [False] * 19


def test_a_row_of_before_the_partitions_has_one_all_the_same() -> None:
    assert Row({b"body": b"{}"}).partition(PARTITIONS) == row_of(message()).partition(PARTITIONS)
    assert Row({}).partition(1) == 0


async def test_messages_spread_over_all_partitions_and_all_are_taken_in_fair_shares(
    stream: Producer, group: Consumer, redis_client: redis.Redis
) -> None:
    await stream.append([keyed(n, f"key-{n}") for n in range(400)])
    lengths = [redis_client.xlen(keys.stream) for keys in stream.partitions]
    assert sum(lengths) == 400
    assert all(length > 50 for length in lengths)

    taken = await group.take(100)
    assert Counter(entry.ref.partition for entry in taken.entries) == dict.fromkeys(range(4), 25)
    rest = await group.take(500)
    later = await group.take(500)  # what one partition did not have, another may have
    assert sorted(ids(taken) + ids(rest) + ids(later)) == sorted(f"m{n}" for n in range(400))
    await settle(group, taken, rest, later)
    assert (await group.take(500)).is_empty


async def test_where_all_have_plenty_some_are_asked_for_more_and_each_has_its_turn(
    stream: Producer, group: Consumer
) -> None:
    await stream.append([in_partition(n % PARTITIONS, n) for n in range(400)])
    took = [await group.take(100) for _ in range(3)]
    came = [Counter(entry.ref.partition for entry in taken.entries) for taken in took]
    assert sorted(came[0].values()) == [25] * 4
    assert sorted(came[1].values()) == sorted(came[2].values()) == [50] * 2
    assert came[1] + came[2] == dict.fromkeys(range(4), 50)
    # Where one of them has less, all are asked again.
    took += [await group.take(100), await group.take(100), await group.take(100)]
    assert sum(len(taken.entries) for taken in took) == 400
    assert took[-1].is_empty
    await settle(group, *took)


async def test_the_order_within_a_partition_is_that_of_the_append(
    stream: Producer, group: Consumer
) -> None:
    sent = [keyed(n, f"key-{n % 7}") for n in range(70)]
    entry_ids = await stream.append(sent)
    assert len(entry_ids) == 70
    taken = await group.take(70)
    by_key: dict[bytes, list[int]] = {}
    while not taken.is_empty:
        for entry in taken.entries:
            by_key.setdefault(entry.key, []).append(int(entry.fields[b"id"][1:]))
        await group.settle([Settlement(e.ref, (), e.key, e.owner) for e in taken.entries])
        taken = await group.take(70)
    assert all(numbers == sorted(numbers) for numbers in by_key.values())
    assert sum(map(len, by_key.values())) == 70


@pytest.mark.parametrize("places", [1, 2, 3, 5, 6])
async def test_no_more_is_taken_than_asked_and_no_partition_starves(
    stream: Producer, group: Consumer, places: int
) -> None:
    await stream.append([in_partition(n % PARTITIONS, n) for n in range(48)])
    came: Counter[int] = Counter()
    for _ in range(8):
        taken = await group.take(places)
        assert len(taken.entries) == places
        came.update(entry.ref.partition for entry in taken.entries)
        await settle(group, taken)
    assert set(came) == {0, 1, 2, 3}
    assert max(came.values()) - min(came.values()) <= 8
    while not (taken := await group.take(10)).is_empty:
        await settle(group, taken)


async def test_with_one_place_what_lies_in_any_partition_is_found(
    stream: Producer, group: Consumer
) -> None:
    for partition in range(PARTITIONS):
        await stream.append([in_partition(partition, partition)])
        taken = await group.take(1)
        assert ids(taken) == [f"m{partition}"]
        await settle(group, taken)


async def test_a_duplicate_is_found_in_its_partition(stream: Producer, group: Consumer) -> None:
    for n in range(8):
        await stream.append([keyed(n, f"key-{n}")])
    taken = await group.take(100)
    await settle(group, taken)
    await stream.append([keyed(n, f"key-{n}") for n in range(8)])
    dropped = await group.take(100)
    assert not dropped.entries
    assert len(dropped.duplicates) == 8


async def test_a_waiting_worker_is_woken_by_any_partition(
    stream: Producer, group: Consumer
) -> None:
    for partition in range(PARTITIONS):
        assert (await group.take(10)).is_empty
        waiting = asyncio.create_task(group.wait(30))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await stream.append([in_partition(partition, partition)])
        assert await waiting
        taken = await group.take(10)
        assert ids(taken) == [f"m{partition}"]
        await settle(group, taken)


async def test_a_worker_that_is_woken_leaves_messages_of_other_partitions_to_other_workers(
    stream: Producer, group: Consumer
) -> None:
    others = [Consumer(stream.client, "main", f"c{n}", dedup_window=3600) for n in (2, 3, 4)]
    assert (await group.take(10)).is_empty
    await stream.append([in_partition(n, n) for n in range(PARTITIONS)])
    for one in (group, *others):  # each has one free slot
        assert await one.wait(30)
    taken = [await one.take(1) for one in (group, *others)]
    assert sorted(ids(Taken([each.entries[0] for each in taken], []))) == ["m0", "m1", "m2", "m3"]
    for one, each in zip((group, *others), taken, strict=True):
        await settle(one, each)
    for one in others:
        await one.close()


# --- every other step, in every partition ----------------------------------------------------


async def test_retries_delays_and_leases_stay_in_their_partition(
    stream: Producer, group: Consumer, redis_client: redis.Redis
) -> None:
    await stream.append([in_partition(n % PARTITIONS, n) for n in range(8)])
    taken = await group.take(8)
    now, later = taken.entries[::2], taken.entries[1::2]
    await group.settle(
        [
            *(Settlement(entry.ref, (again(entry),)) for entry in now),
            *(Settlement(entry.ref, (again(entry, 1),)) for entry in later),
        ]
    )

    async def all_due() -> bool:
        await group.release(10)
        return not any(redis_client.zcard(keys.delayed) for keys in group.partitions)

    await eventually(all_due)
    once_more = await group.take(8)
    assert sorted(ids(once_more)) == sorted(ids(taken))
    before = {entry.fields[b"id"]: entry.ref.partition for entry in taken.entries}
    assert {e.fields[b"id"]: e.ref.partition for e in once_more.entries} == before

    leases = group.leases()
    lost = once_more.entries[3]
    await group.settle([Settlement(lost.ref)])
    refs = [entry.ref for entry in once_more.entries]
    assert await asyncio.to_thread(leases.renew, refs) == [lost.ref]
    leases.close()
    await settle(group, once_more)


async def test_a_takeover_goes_through_all_partitions(stream: Producer, group: Consumer) -> None:
    gone = Consumer(stream.client, "main", "gone", dedup_window=3600)
    await stream.append([in_partition(n % PARTITIONS, n) for n in range(20)])
    held = await gone.take(20)
    found: list[str] = []
    while not (taken := await taken_over(group, 3)).is_empty:
        assert len(taken.entries) <= 3
        found += ids(taken)
        await settle(group, taken)
    assert sorted(found) == sorted(ids(held))
    await gone.close()


async def test_a_consumer_leaves_all_partitions(
    stream: Producer, group: Consumer, redis_client: redis.Redis
) -> None:
    await stream.append([in_partition(n, n) for n in range(PARTITIONS)])
    await settle(group, await group.take(10))
    assert await Upkeep(stream.client, "main").retire(0, "c1") >= PARTITIONS
    for keys in group.partitions:
        assert redis_client.xinfo_consumers(keys.stream, "main") == []


async def test_upkeep_counts_and_trims_every_partition(
    stream: Producer, group: Consumer, redis_client: redis.Redis
) -> None:
    await stream.append([in_partition(n % PARTITIONS, n) for n in range(8)])
    assert (await Upkeep(stream.client, "main").measure_backlog()).messages == 8
    await settle(group, await group.take(8))
    assert await Upkeep(stream.client, "main").trim(0) == 8
    assert await Upkeep(stream.client, "main").measure_backlog() == Backlog(0, 0)


async def test_a_full_partition_refuses_its_own_and_no_others(server: Server, prefix: str) -> None:
    stream = Stream(server.url, prefix, partitions=PARTITIONS, limit=Backlog(8, 0))
    for n in range(2):
        await stream.append([in_partition(0, n)])
    results = await stream.append_rows(
        [row_of(in_partition(0, 3)), row_of(in_partition(1, 4)), row_of(in_partition(0, 5))]
    )
    assert [isinstance(result, BacklogFullError) for result in results] == [True, False, True]
    assert str(results[0]) == "partition 0: too many messages are unfinished"
    assert await stream.full(range(PARTITIONS)) == {0}
    (result,) = await stream.append_rows([row_of(in_partition(0, 3))])
    assert isinstance(result, BacklogFullError)
    await stream.close()


async def test_what_one_partition_gave_is_not_given_up_because_another_lost_its_group(
    stream: Producer, group: Consumer, redis_client: redis.Redis
) -> None:
    await stream.append([in_partition(n, n) for n in range(PARTITIONS)])
    redis_client.xgroup_destroy(group.partitions[2].stream, "main")
    taken = await group.take(PARTITIONS)
    assert sorted(ids(taken)) == ["m0", "m1", "m3"]
    await settle(group, taken)
    with pytest.raises(GroupLostError):
        await group.take(PARTITIONS)
    assert await group.open() == 1
    taken = await group.take(PARTITIONS)
    assert ids(taken) == ["m2"]
    await settle(group, taken)


# --- dead letters ----------------------------------------------------------------------------


@pytest.fixture
async def given_up(
    stream: Producer, group: Consumer, redis_client: redis.Redis
) -> AsyncIterator[list[DeadLetter]]:
    """Twelve dead letters in all partitions, oldest first."""
    for n in range(12):
        await stream.append([in_partition((n * 3) % PARTITIONS, n)])
        for entry in (await group.take(1)).entries:
            await group.settle([Settlement(entry.ref, (dead(entry),))])
        await asyncio.sleep(0.002)  # within one millisecond there is no order
    letters = DeadLetters(stream.client, "main")
    yield await letters.survey("0-0", "9" * 15, 100)
    for keys in group.partitions:
        redis_client.delete(keys.dead)


async def test_dead_letters_are_listed_oldest_first_whatever_their_partition(
    stream: Producer, given_up: list[DeadLetter]
) -> None:
    assert [letter.fields[b"id"].decode() for letter in given_up] == [f"m{n}" for n in range(12)]
    assert len({letter.id for letter in given_up}) == 12
    assert any(letter.id.endswith("@3") for letter in given_up)
    letters = DeadLetters(stream.client, "main")
    assert await letters.count() == 12
    assert await letters.newest() == given_up[-1].id


@pytest.mark.parametrize("page", [1, 2, 5])
async def test_pages_of_dead_letters_miss_none_and_show_none_twice(
    stream: Producer, given_up: list[DeadLetter], page: int
) -> None:
    letters = DeadLetters(stream.client, "main")
    seen: list[str] = []
    first = "0-0"
    while found := await letters.survey(first, given_up[-1].id, page):
        seen += [letter.id for letter in found]
        first = f"({seen[-1]}"
    assert seen == [letter.id for letter in given_up]
    last = "+"
    while found := await letters.survey("0-0", last, page, newest_first=True):
        last = f"({found[-1].id}"
        assert [letter.id for letter in found] == seen[: -len(found) - 1 : -1]
        del seen[-len(found) :]
    assert seen == []


async def test_dead_letters_of_the_same_moment_differ_by_their_partition(
    stream: Producer, group: Consumer, redis_client: redis.Redis
) -> None:
    letters = DeadLetters(stream.client, "main")
    for keys in group.partitions:
        redis_client.xadd(keys.dead, {"id": "m"}, id="5-1")
    pages = ["0-0", "(5-1", "(5-1@1", "(5-1@2", "(5-1@3"]
    found = [[one.id for one in await letters.survey(first, "9", 10)] for first in pages]
    everything = ["5-1", "5-1@1", "5-1@2", "5-1@3"]
    assert found == [everything, everything[1:], everything[2:], everything[3:], []]
    up_to = [[one.id for one in await letters.survey("0-0", last, 10)] for last in everything]
    assert up_to == [everything[:n] for n in range(1, 5)]
    for n, last in enumerate(["(5-1", "(5-1@1", "(5-1@2", "(5-1@3", "+"]):
        newest = await letters.survey("0-0", last, 10, newest_first=True)
        assert [one.id for one in newest] == everything[:n][::-1]
    assert await letters.drop(everything) == 4
    assert await letters.drop(["5-1@77"]) == 0


async def test_dead_letters_are_shown_replayed_and_dropped_by_their_ids(
    stream: Producer, group: Consumer, given_up: list[DeadLetter]
) -> None:
    letters = DeadLetters(stream.client, "main")
    for letter in given_up:
        shown = await letters.get(letter.id)
        assert shown is not None
        assert shown.fields[b"id"] == letter.fields[b"id"]
    assert await letters.drop([letter.id for letter in given_up[:4]]) == 4
    assert await letters.replay([letter.id for letter in given_up[4:]]) == 8
    assert await letters.count() == 0
    taken = await group.take(100)
    assert sorted(ids(taken)) == sorted(f"m{n}" for n in range(4, 12))
    await settle(group, taken)


# --- everybody splits it alike ---------------------------------------------------------------


async def test_a_client_with_another_number_of_partitions_is_refused(
    server: Server, prefix: str, stream: Producer
) -> None:
    await stream.append([message()])
    other = Stream(server.url, prefix, partitions=2)
    expected = "HOOKMILL_PARTITIONS is 2, but this stream was made with 4"
    worker = Consumer(other.client, "main", "c1", dedup_window=60)
    for asked in (other.append([message()]), other.probe(), worker.open()):
        with pytest.raises(PartitionsError, match=expected):
            await asked
    await worker.close()
    await other.close()


async def test_to_look_settles_no_number(server: Server, prefix: str) -> None:
    looking, using = Stream(server.url, prefix), Stream(server.url, prefix, partitions=2)
    await looking.probe()
    await using.append([message()])
    found = await open_view(server.url, prefix)
    assert len(found.partitions) == 2
    for each in (looking, using, found):
        await each.close()


@pytest.mark.since_7_0
async def test_the_status_adds_the_partitions_up(
    stream: Producer, group: Consumer, settings: Callable[..., Settings]
) -> None:
    await stream.append([keyed(n, "same") for n in range(3)])
    await stream.append([in_partition(n % PARTITIONS, n + 100) for n in range(8)])
    held = await group.take(9)
    overview = await Inspector(stream.client).overview()
    (facts,) = overview.groups
    assert (overview.partitions, overview.length) == (PARTITIONS, 11)
    assert facts.held == len(held.entries)
    assert facts.parked + facts.held + (facts.waiting or 0) == 11
    assert [(one.name, one.pending) for one in facts.consumers] == [("c1", facts.held)]
    while not held.is_empty:
        await group.settle([Settlement(e.ref, (), e.key, e.owner) for e in held.entries])
        held = await group.take(9)


async def test_a_worker_gives_redis_the_number_back_that_it_lost(
    stream: Producer, group: Consumer, redis_client: redis.Redis, prefix: str
) -> None:
    await stream.append([message()])
    redis_client.delete(f"{prefix}:partitions", *(keys.stream for keys in stream.partitions))
    await group.open()
    assert redis_client.get(f"{prefix}:partitions") == b"4"
