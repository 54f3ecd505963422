"""The scripts against real servers: who owns an ID, what a settlement may do, what is kept."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any

import hiredis
import msgspec
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import Connection, ConnectionPool

from hookmill.errors import GroupLostError, SettingsError, StreamUnavailableError
from hookmill.message import Message, Progress
from hookmill.stream import script_runner
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import AGAIN, STREAM, Entry, EntryRef, FollowUp, Settlement
from hookmill.stream.keys import Keys
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.support import (
    Server,
    Stream,
    dead_letters,
    eventually,
    hurry,
    message,
    server_binaries,
    taken_over,
)

OpenGroup = Callable[..., Awaitable[Consumer]]
OwnServer = Callable[..., Server]

AOF = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")


def again(entry: Entry, handler: str = "h", delay_ms: int = 0, attempts: int = 1) -> FollowUp:
    """What a retry leaves in its entry's place."""
    owner = entry.fields.get(b"owner", entry.ref.id.encode()).decode()
    progress = Progress(owner=owner, handler=handler, attempts=attempts)
    fields = {**entry.fields, **progress.to_fields()}
    return FollowUp("again", f"{owner}/{handler}", fields, delay_ms)


def dead(entry: Entry) -> FollowUp:
    fields = {**again(entry).fields, b"reason": b"failed"}
    return msgspec.structs.replace(again(entry), kind="dead", fields=fields)


def ids(entries: list[Entry]) -> list[str]:
    """The message IDs of entries."""
    return [entry.fields[b"id"].decode() for entry in entries]


async def settle_all(group: Consumer, *entries: Entry) -> None:
    assert await group.settle([Settlement(entry.ref) for entry in entries]) == []


def pending(client: redis.Redis, group: Consumer) -> int:
    """How many entries the group holds, in both of its streams."""
    return sum(
        client.xpending(key, group.name)["pending"]
        for key in (group.partitions[0].stream, group.partitions[0].again)
    )


@asynccontextmanager
async def opened(server: Server) -> AsyncIterator[tuple[Producer, Consumer]]:
    """A stream and a group on a server of the test's own."""
    stream = Stream(server.url, "t")
    group = Consumer(stream.client, "main", f"c-{secrets.token_hex(2)}", dedup_window=3600)
    try:
        yield stream, group
    finally:
        await group.close()
        await stream.close()


# --- append, take ---------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b'\x00\xff{"a": 1}', b"", b"\r\n" * 40_000])
async def test_a_message_comes_back_from_the_stream_as_it_went_in(
    stream: Producer, open_group: OpenGroup, body: bytes
) -> None:
    group = await open_group()
    sent = message(body, id="msg_1", header_block=b"X-A: \xe4\r\nX-B: 2")
    await stream.append([sent])
    (entry,) = (await group.take(10)).entries
    assert Message.from_fields(entry.fields) == sent
    await settle_all(group, entry)


async def test_messages_are_appended_in_the_order_given(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    appended = await stream.append([message(id=f"m{n}") for n in range(500)])
    taken = (await group.take(1000)).entries
    assert ids(taken) == [f"m{n}" for n in range(500)]
    assert [entry.ref for entry in taken] == [EntryRef(STREAM, entry_id) for entry_id in appended]
    await settle_all(group, *taken)


async def test_a_probe_leaves_nothing_behind(
    stream: Producer, redis_client: redis.Redis, prefix: str
) -> None:
    await stream.probe()
    assert list(redis_client.scan_iter(f"{prefix}:*")) == []


async def test_a_group_is_fed_from_the_beginning_of_the_stream(
    stream: Producer, open_group: OpenGroup
) -> None:
    await stream.append([message(id="early")])
    group = await open_group()
    taken = (await group.take(10)).entries
    assert ids(taken) == ["early"]
    await settle_all(group, *taken)


async def test_opening_a_group_again_makes_nothing(open_group: OpenGroup) -> None:
    group = await open_group()
    assert await group.open() == 0


async def test_a_take_shares_its_places_between_what_runs_again_and_what_is_new(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await stream.append([message(id=f"m{n}") for n in range(12)])
    first = (await group.take(6)).entries
    await group.settle([Settlement(entry.ref, (again(entry),)) for entry in first])

    second = (await group.take(4)).entries
    assert ids(second) == ["m0", "m1", "m6", "m7"]
    assert [entry.ref.key_number for entry in second] == [AGAIN, AGAIN, STREAM, STREAM]
    third = (await group.take(7)).entries
    assert len(third) == 7
    fourth = (await group.take(7)).entries  # what the one does not need goes to the other
    assert set(ids([*third, *fourth])) == {f"m{n}" for n in (2, 3, 4, 5, 8, 9, 10, 11)}
    await settle_all(group, *second, *third, *fourth)


async def test_with_a_single_place_neither_the_new_nor_what_runs_again_starves(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await stream.append([message() for _ in range(100)])
    first = (await group.take(50)).entries
    await group.settle([Settlement(entry.ref, (again(entry),)) for entry in first])
    taken = [(await group.take(1)).entries[0] for _ in range(40)]
    assert {entry.ref.key_number for entry in taken} == {AGAIN, STREAM}
    await settle_all(group, *taken, *(await group.take(100)).entries)


async def test_a_take_of_nothing_takes_nothing(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message()])
    assert (await group.take(0)).is_empty
    assert pending(redis_client, group) == 0


async def test_two_consumers_never_get_the_same_entry(
    stream: Producer, open_group: OpenGroup
) -> None:
    one, two = await open_group("c1"), await open_group("c2")
    await stream.append([message(id=f"m{n}") for n in range(10)])
    first, second = (await one.take(6)).entries, (await two.take(6)).entries
    assert ids(first) + ids(second) == [f"m{n}" for n in range(10)]
    await settle_all(one, *first)
    await settle_all(two, *second)


@pytest.mark.parametrize("name", ["a.b-c_d", "ünï", "{x}", "main:again", "a b", "%s"])
async def test_a_group_may_have_an_odd_name(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis, name: str
) -> None:
    group = await open_group(name=name)
    await stream.append([message(id="m")])
    (entry,) = (await group.take(1)).entries
    await group.settle([Settlement(entry.ref, (again(entry),))])
    (entry,) = (await group.take(1)).entries
    await settle_all(group, entry)
    await Upkeep(stream.client, "main").trim(retention=0)
    assert redis_client.exists(group.partitions[0].low_water)


def test_all_keys_of_a_partition_share_its_hash_tag() -> None:
    keys = Keys("hookmill", partition=3)
    names = [keys.stream, keys.probe, *keys.of_group("main")]
    assert all(name.startswith("hookmill:{3}:") for name in names)
    assert len(set(names)) == len(names) - 1  # the stream is named twice


# --- who owns an ID -------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [(2,), (1, 1)], ids=["one take", "two takes"])
async def test_the_first_entry_owns_an_id_and_a_repeat_is_acknowledged_and_reported(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis, batches: tuple[int, ...]
) -> None:
    group = await open_group()
    first, second = await stream.append([message(b"1", id="m"), message(b"2", id="m")])
    entries, duplicates = [], []
    for count in batches:
        taken = await group.take(count)
        entries += taken.entries
        duplicates += taken.duplicates
    assert [entry.ref.id for entry in entries] == [first]
    assert duplicates == [(EntryRef(STREAM, second), "m")]
    assert pending(redis_client, group) == 1
    await settle_all(group, *entries)


async def test_a_worker_whose_clock_is_wrong_knows_what_came_before(
    stream: Producer, open_group: OpenGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = await open_group("right"), await open_group("wrong")
    await stream.append([message(id="m")])
    await settle_all(right, *(await right.take(1)).entries)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 10 * 3600)  # ten windows ahead
    await stream.append([message(id="m")])
    taken = await wrong.take(1)
    assert not taken.entries
    assert [repeat.message_id for repeat in taken.duplicates] == ["m"]


async def test_an_id_stays_owned_once_it_is_done(stream: Producer, open_group: OpenGroup) -> None:
    group = await open_group()
    await stream.append([message(id="m")])
    await settle_all(group, *(await group.take(1)).entries)
    await stream.append([message(id="m")])
    taken = await group.take(1)
    assert not taken.entries
    assert [repeat.message_id for repeat in taken.duplicates] == ["m"]


async def test_ids_count_per_source(stream: Producer, open_group: OpenGroup) -> None:
    group = await open_group()
    await stream.append([message(id="m", source="qstash"), message(id="m", source="marble")])
    taken = await group.take(10)
    assert ids(taken.entries) == ["m", "m"]
    await settle_all(group, *taken.entries)


async def test_each_group_counts_for_itself(stream: Producer, open_group: OpenGroup) -> None:
    mail, search = await open_group(name="mail"), await open_group(name="search")
    await stream.append([message(id="m")])
    for group in (mail, search):
        taken = (await group.take(10)).entries
        assert ids(taken) == ["m"]
        await settle_all(group, *taken)


async def test_an_entry_with_its_owners_token_runs_again(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    (owner,) = await stream.append([message(b"body", id="m")])
    (entry,) = (await group.take(1)).entries
    await group.settle([Settlement(entry.ref, (again(entry, handler="mailer"),))])
    (entry,) = (await group.take(1)).entries
    assert entry.ref.key_number == AGAIN
    assert Progress.from_fields(entry.fields, "") == Progress(
        owner=owner, handler="mailer", attempts=1
    )
    assert entry.fields[b"body"] == b"body"
    await settle_all(group, entry)


async def test_several_handlers_of_one_message_are_no_repeats_of_each_other(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await stream.append([message(id="m"), message(id="m")])
    (entry,) = (await group.take(1)).entries
    await group.settle([Settlement(entry.ref, (again(entry, "one"), again(entry, "two")))])
    taken = await group.take(10)
    assert [entry.fields[b"handler"] for entry in taken.entries] == [b"one", b"two"]
    assert [repeat.message_id for repeat in taken.duplicates] == ["m"]
    await settle_all(group, *taken.entries)


async def test_what_runs_again_after_another_came_to_own_its_id_is_a_repeat(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(b"first", id="m")])
    (first,) = (await group.take(1)).entries
    # The record runs out while the retry is delayed, and the sender delivers once more.
    await group.settle([Settlement(first.ref, (again(first, delay_ms=1),))])
    for key in redis_client.scan_iter(f"{group.partitions[0].owners}*"):
        redis_client.delete(key)
    await stream.append([message(b"second", id="m")])
    (second,) = (await group.take(10)).entries
    await eventually(lambda: release(group))
    taken = await group.take(10)
    assert not taken.entries
    assert [repeat.message_id for repeat in taken.duplicates] == ["m"]
    assert redis_client.xlen(group.partitions[0].again) == 0
    assert second.fields[b"body"] == b"second"
    await settle_all(group, second)


async def release(group: Consumer) -> bool:
    """Whether something was let go."""
    return (await group.release(10))[0] > 0


async def test_an_entry_of_another_wire_version_is_left_to_the_worker(
    open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    for _ in range(2):
        redis_client.xadd(group.partitions[0].stream, {"version": "9", "x": "y"})
    taken = await group.take(10)
    assert [entry.fields for entry in taken.entries] == [{b"version": b"9", b"x": b"y"}] * 2
    assert not taken.duplicates
    await settle_all(group, *taken.entries)


async def test_an_id_is_remembered_for_one_window_at_least_and_two_at_most(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group(dedup_window=1)

    def second() -> int:
        return int(redis_client.time()[0])

    async def is_shown(done: str, retried: str) -> bool:
        """Whether all happened in its window. Where the machine stood still, nothing is shown."""
        began = second()
        await stream.append([message(id=done), message(id=retried)])
        first = (await group.take(2)).entries
        await group.settle([Settlement(first[0].ref), Settlement(first[1].ref, (again(first[1]),))])
        is_in_time = second() == began

        await eventually(lambda: second() > began)  # the next generation
        await stream.append([message(id=done)])
        next_one = await group.take(2)
        await settle_all(group, *next_one.entries)
        is_in_time &= second() == began + 1

        await eventually(lambda: second() > began + 1)  # the one after that
        await stream.append([message(id=done), message(id=retried)])
        last = await group.take(2)
        await settle_all(group, *last.entries)
        if not is_in_time or second() != began + 2:
            return False
        assert ids(next_one.entries) == [retried]  # its own token: recorded anew
        assert [duplicate.message_id for duplicate in next_one.duplicates] == [done]
        assert ids(last.entries) == [done]  # forgotten, so it runs
        assert [duplicate.message_id for duplicate in last.duplicates] == [retried]
        return True

    await eventually(lambda: is_shown(secrets.token_hex(4), secrets.token_hex(4)))


async def test_entries_with_other_fields_side_by_side_keep_each_its_own(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    own = message()
    strange: list[Any] = [
        {b"version": b"9"}, {b"version": b"9", b"a": b"1"}, {b"version": b"9", b"b": b"2"},
        {b"a": b"1", b"version": b"9"}, {b"version": b"9"},
    ]  # fmt: skip
    for fields in strange:
        redis_client.xadd(group.partitions[0].stream, fields)
        await stream.append([own])
    taken = await group.take(2 * len(strange))
    assert [entry.fields for entry in taken.entries] == [
        strange[0], own.to_fields(), *strange[1:],
    ]  # fmt: skip
    assert len(taken.duplicates) == len(strange) - 1
    await settle_all(group, *taken.entries)


async def test_entries_that_differ_only_in_a_fields_name_or_in_their_stream_keep_both(
    open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    (keys,) = group.partitions
    for key, name in (keys.again, b"a"), (keys.again, b"b"), (keys.stream, b"b"):
        redis_client.xadd(key, {b"version": b"9", name: b"1"})
    taken = await group.take(4)
    assert [(entry.ref.key_number, *entry.fields) for entry in taken.entries] == [
        (AGAIN, b"version", b"a"), (AGAIN, b"version", b"b"), (STREAM, b"version", b"b"),
    ]  # fmt: skip
    await settle_all(group, *taken.entries)


async def test_a_suspect_is_told_from_what_is_taken_over_with_it(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    first, other = await open_group("first"), await open_group("other")
    await stream.append([message(id=name) for name in ("calm", "suspect", "calm too")])
    entries = (await first.take(3)).entries
    redis_client.xclaim(
        stream.partitions[0].stream, "main", "first", 0, [entries[1].ref.id], retrycount=3
    )
    found = (await taken_over(other)).entries
    assert ids(found) == ["calm", "suspect", "calm too"]
    assert [entry.is_suspect for entry in found] == [False, True, False]
    await settle_all(other, *found)


async def test_every_record_expires_and_keeps_the_compact_encoding(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group(dedup_window=3600)
    now = int(redis_client.time()[0])
    generation = now // 3600
    redis_client.config_set("hash-max-*-entries".replace("*", compact(redis_client)), 128)
    await stream.append([message() for _ in range(3000)])
    await settle_all(group, *(await group.take(3000)).entries)

    buckets = list(redis_client.scan_iter(f"{group.partitions[0].owners}:*", count=1000))
    assert len(buckets) == 75  # 40 IDs each, on average
    assert sum(int(redis_client.hlen(bucket)) for bucket in buckets) == 3000
    encodings = {redis_client.object("encoding", bucket).decode() for bucket in buckets}
    assert encodings == {compact(redis_client)}
    left = (generation + 2) * 3600 - int(redis_client.time()[0])
    assert all(left - 1 <= redis_client.ttl(bucket) <= left + 1 for bucket in buckets)


def compact(client: redis.Redis) -> str:
    """The compact encoding's name: Redis 7.0 renamed it."""
    return "listpack" if client.config_get("hash-max-listpack-entries") else "ziplist"


async def test_no_id_is_forgotten_while_the_buckets_grow(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    for start in range(0, 2000, 250):
        await stream.append([message(id=f"m{n}") for n in range(start, start + 250)])
        await settle_all(group, *(await group.take(250)).entries)
        await stream.append([message(id=f"m{n}") for n in range(start + 250)])
        taken = await group.take(4000)
        assert not taken.entries
        assert len(taken.duplicates) == start + 250


async def test_no_id_is_forgotten_when_a_take_fails_after_the_buckets_grew(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(id=f"m{n}") for n in range(100)])
    entries = (await group.take(100)).entries
    await group.settle([Settlement(entry.ref, (again(entry),)) for entry in entries])
    for key in redis_client.scan_iter(f"{group.partitions[0].owners}*", count=1000):
        redis_client.delete(key)
    await Upkeep(stream.client, "main").trim(0)  # notes that all of the stream is finished
    # What runs again is read, its IDs recorded anew, and then the stream's own group is missing.
    redis_client.xgroup_destroy(group.partitions[0].stream, group.name)
    with pytest.raises(GroupLostError):
        await group.take(200)
    redis_client.delete(group.partitions[0].again)

    await group.open()
    await stream.append([message(id=f"m{n}") for n in range(100)])
    taken = await group.take(300)
    repeated = {repeat.message_id for repeat in taken.duplicates}
    assert repeated == {f"m{n}" for n in range(100)}
    await settle_all(group, *taken.entries)


async def test_a_generations_buckets_follow_the_size_of_the_last_one(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group(dedup_window=3600)
    generation = int(redis_client.time()[0]) // 3600
    redis_client.hset(
        group.partitions[0].owners,
        mapping={
            f"{generation - 2}:buckets": 1024, f"{generation - 2}:size": 7,
            f"{generation - 1}:buckets": 1024, f"{generation - 1}:size": 1_000_000,
        },
    )  # fmt: skip
    await stream.append([message()])
    await settle_all(group, *(await group.take(1)).entries)
    assert redis_client.hgetall(group.partitions[0].owners) == {
        b"%d:buckets" % (generation - 1): b"1024",
        b"%d:size" % (generation - 1): b"1000000",
        b"%d:buckets" % generation: b"6250",
        b"%d:size" % generation: b"1",
    }
    assert 3600 < redis_client.ttl(group.partitions[0].owners) <= 3 * 3600


# --- waiting --------------------------------------------------------------------------------


async def test_an_entry_wakes_one_waiting_worker_and_is_not_taken_by_that(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    groups = [await open_group("c1"), await open_group("c2")]
    for group in groups:
        assert (await group.take(1)).is_empty
    waiting = [asyncio.create_task(group.wait(30)) for group in groups]
    await eventually(lambda: blocked(redis_client) == 2)
    await stream.append([message(id="m")])
    await eventually(lambda: any(task.done() for task in waiting))
    assert [task.done() for task in waiting].count(True) == 1
    assert pending(redis_client, groups[0]) == 0

    await stream.append([message(id="n")])
    assert await asyncio.gather(*waiting) == [True, True]
    taken = await groups[0].take(5)
    assert ids(taken.entries) == ["m", "n"]
    await settle_all(groups[0], *taken.entries)


async def test_the_bell_rings_for_what_came_between_the_take_and_the_wait(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    assert (await group.take(1)).is_empty
    await stream.append([message(id="m")])
    assert await group.wait(30)
    await settle_all(group, *(await group.take(1)).entries)


async def test_the_bell_is_silent_about_what_was_taken_without_it(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await stream.append([message() for _ in range(3)])
    await settle_all(group, *(await group.take(3)).entries)
    assert (await group.take(1)).is_empty
    assert not await group.wait(0.01)


async def test_the_bell_rings_for_what_is_to_run_again(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await stream.append([message(id="m")])
    (entry,) = (await group.take(1)).entries
    assert (await group.take(1)).is_empty
    waiting = asyncio.create_task(group.wait(30))
    await group.settle([Settlement(entry.ref, (again(entry),))])
    assert await waiting
    await settle_all(group, *(await group.take(1)).entries)


async def test_a_bell_pins_nothing_in_the_stream(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message() for _ in range(3)])
    await settle_all(group, *(await group.take(3)).entries)
    await Upkeep(stream.client, "main").trim(0)
    assert redis_client.xlen(group.partitions[0].stream) == 0


async def test_a_wait_in_vain_says_so(open_group: OpenGroup) -> None:
    group = await open_group()
    assert not await group.wait(0.01)
    assert not await group.wait(0.0001)  # less than Redis counts in


async def test_a_wait_ends_at_once_when_asked(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await group.stop_waiting()  # nobody waits: no harm
    waiting = asyncio.create_task(group.wait(60))

    async def asked() -> bool:
        await group.stop_waiting()
        return waiting.done()

    await eventually(asked)
    assert not await waiting


# --- settling -------------------------------------------------------------------------------


async def test_done_acknowledges_and_only_an_again_entry_is_deleted(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(id="a"), message(id="b")])
    a, b = (await group.take(2)).entries
    await group.settle([Settlement(a.ref), Settlement(b.ref, (again(b),))])
    assert redis_client.xlen(group.partitions[0].again) == 1
    await settle_all(group, *(await group.take(1)).entries)
    assert pending(redis_client, group) == 0
    assert redis_client.xlen(group.partitions[0].stream) == 2
    assert redis_client.xlen(group.partitions[0].again) == 0


FOLLOW_UPS: dict[str, Callable[[Entry], tuple[FollowUp, ...]]] = {
    "retry at once": lambda entry: (again(entry),),
    "retry later": lambda entry: (again(entry, delay_ms=60_000),),
    "dead": lambda entry: (dead(entry),),
    "fan-out": lambda entry: (again(entry, "one"), again(entry, "two")),
}


@pytest.fixture(params=list(FOLLOW_UPS))
def follow_ups(request: pytest.FixtureRequest) -> Callable[[Entry], tuple[FollowUp, ...]]:
    return FOLLOW_UPS[request.param]


def written(client: redis.Redis, group: Consumer) -> tuple[int, int, int, int]:
    """How many entries wait to run again, are delayed (by both their keys), and dead."""
    keys = group.partitions[0]
    return (
        client.xlen(keys.again), client.zcard(keys.delayed), client.hlen(keys.delayed_entries),
        client.xlen(keys.dead),
    )  # fmt: skip


def forget_follow_ups(client: redis.Redis, group: Consumer) -> None:
    client.delete(
        group.partitions[0].delayed, group.partitions[0].delayed_entries, group.partitions[0].dead
    )
    client.xtrim(group.partitions[0].again, maxlen=0, approximate=False)


async def test_what_a_group_takes_again_no_other_group_sees(
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    follow_ups: Callable[[Entry], tuple[FollowUp, ...]],
) -> None:
    group, other = await open_group(), await open_group(name="other")
    await stream.append([message(id="m")])
    (entry,) = (await group.take(1)).entries
    await settle_all(other, *(await other.take(1)).entries)
    await group.settle([Settlement(entry.ref, follow_ups(entry))])
    delayed: Any = redis_client.zrange(group.partitions[0].delayed, 0, -1)
    for token in delayed:
        redis_client.zadd(group.partitions[0].delayed, {token: 0})
    await group.release(10)
    letters = await dead_letters(stream)
    await DeadLetters(stream.client, "main").replay([letter.id for letter in letters])

    assert (await other.take(10)).is_empty
    assert redis_client.xlen(stream.partitions[0].stream) == 1
    taken = await group.take(10)
    assert len(taken.entries) == len(follow_ups(entry))
    assert (set(ids(taken.entries)), taken.duplicates) == ({"m"}, [])
    await settle_all(group, *taken.entries)


async def test_a_late_done_acknowledges(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    late, other = await open_group("late"), await open_group("other")
    await stream.append([message()])
    (entry,) = (await late.take(1)).entries
    (theirs,) = (await taken_over(other)).entries
    assert await late.settle([Settlement(entry.ref)]) == []
    assert pending(redis_client, late) == 0
    # Success has won: what the other makes of it comes too late in its turn.
    assert await other.settle([Settlement(theirs.ref, (again(theirs),))]) == [entry.ref.id]
    assert written(redis_client, late) == (0, 0, 0, 0)


async def test_a_late_outcome_without_success_is_dropped_and_reported(
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    follow_ups: Callable[[Entry], tuple[FollowUp, ...]],
) -> None:
    late, other = await open_group("late"), await open_group("other")
    await stream.append([message()])
    (entry,) = (await late.take(1)).entries
    (theirs,) = (await taken_over(other)).entries

    assert await late.settle([Settlement(entry.ref, follow_ups(entry))]) == [entry.ref.id]
    assert written(redis_client, late) == (0, 0, 0, 0)
    assert pending(redis_client, late) == 1
    assert redis_client.hget(late.partitions[0].counts, "late") == b"1"
    await settle_all(other, theirs)


async def test_a_settlement_whose_reply_was_lost_may_be_repeated(
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    follow_ups: Callable[[Entry], tuple[FollowUp, ...]],
) -> None:
    group = await open_group()
    await stream.append([message(id="a"), message(id="b")])
    a, b = (await group.take(2)).entries
    batch = [Settlement(a.ref), Settlement(b.ref, follow_ups(b))]
    assert await group.settle(batch) == []
    once = written(redis_client, group)
    assert await group.settle(batch) == [b.ref.id]
    assert written(redis_client, group) == once
    assert once in {(1, 0, 0, 0), (0, 1, 1, 0), (0, 0, 0, 1), (2, 0, 0, 0)}
    assert pending(redis_client, group) == 0
    forget_follow_ups(redis_client, group)


async def test_each_settlement_of_a_batch_stands_for_itself(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group, other = await open_group("c1"), await open_group("other")
    await stream.append([message(id=name) for name in "abcd"])
    a, b, c, d = (await group.take(4)).entries
    redis_client.xclaim(group.partitions[0].stream, "main", "other", 0, [b.ref.id])
    late = await group.settle(
        [
            Settlement(a.ref, (again(a),)), Settlement(b.ref, (dead(b),)),
            Settlement(c.ref), Settlement(d.ref, (dead(d),)),
        ]
    )  # fmt: skip
    assert late == [b.ref.id]
    assert written(redis_client, group) == (1, 0, 0, 1)
    assert pending(redis_client, group) == 1
    await settle_all(other, b)
    await settle_all(group, *(await group.take(1)).entries)
    redis_client.delete(group.partitions[0].dead)


async def test_a_batch_of_thousands_is_settled_in_one_step(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message() for _ in range(3000)])
    entries = (await group.take(3000)).entries
    batch = [Settlement(e.ref, (again(e),) if n % 2 else ()) for n, e in enumerate(entries)]
    assert await group.settle(batch) == []
    entries = (await group.take(3000)).entries
    assert len(entries) == 1500
    await settle_all(group, *entries)
    assert pending(redis_client, group) == 0


async def test_an_entry_stays_pending_when_what_should_follow_it_cannot_be_written(
    server: Server, stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    # An operator's ACL that forgot a command is one way to get there.
    group = await open_group()
    user = f"u{secrets.token_hex(4)}"
    redis_client.acl_setuser(
        user, enabled=True, nopass=True, keys=["*"], commands=["+@all", "-zadd"]
    )
    try:
        limited = Stream(
            server.url.replace("//", f"//{user}:x@"), stream.partitions[0].base.split(":")[0]
        )
        with_limits = Consumer(limited.client, "main", "c1", dedup_window=3600)
        await stream.append([message()])
        (entry,) = (await with_limits.take(1)).entries
        for _ in range(2):
            with pytest.raises(StreamUnavailableError, match=r"permissions|can't run"):
                await with_limits.settle([Settlement(entry.ref, (again(entry, delay_ms=9),))])
        assert pending(redis_client, group) == 1
        await with_limits.close()
        await limited.close()
    finally:
        redis_client.acl_deluser(user)
    await settle_all(group, entry)


# --- delayed messages -----------------------------------------------------------------------


async def test_delayed_messages_are_let_go_in_the_order_in_which_they_are_due(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(id=name) for name in "abcd"])
    a, b, c, d = (await group.take(4)).entries
    delays = ((a, 3), (b, 1), (c, 2), (d, 120_000))
    await group.settle([Settlement(e.ref, (again(e, delay_ms=ms),)) for e, ms in delays])
    await eventually(
        lambda: redis_client.zcount(group.partitions[0].delayed, 0, now_ms(redis_client)) == 3
    )

    assert await group.release(0) == (0, 0.0)  # some are due
    assert (await group.release(2))[0] == 2
    moved, wait = await group.release(100)
    assert moved == 1
    assert wait is not None
    assert 115 < wait <= 120
    entries = (await group.take(10)).entries
    assert ids(entries) == ["b", "c", "a"]
    assert written(redis_client, group) == (3, 1, 1, 0)
    await settle_all(group, *entries)
    forget_follow_ups(redis_client, group)
    assert await group.release(100) == (0, None)


def now_ms(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return seconds * 1000 + micros // 1000


async def test_a_delay_is_counted_in_redis_own_milliseconds(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(id="m")])
    (entry,) = (await group.take(1)).entries
    before = now_ms(redis_client)
    await group.settle([Settlement(entry.ref, (again(entry, "h", delay_ms=7001),))])
    after = now_ms(redis_client)
    rows: Any = redis_client.zrange(group.partitions[0].delayed, 0, -1, withscores=True)
    ((token, due),) = rows
    assert token == f"{entry.ref.id}/h".encode()
    assert before + 7001 <= due <= after + 7001

    redis_client.zadd(group.partitions[0].delayed, {token: now_ms(redis_client) + 1000})
    assert (await group.release(10))[0] == 0
    redis_client.zadd(
        group.partitions[0].delayed, {token: now_ms(redis_client)}
    )  # due to the millisecond
    assert (await group.release(10))[0] == 1
    assert written(redis_client, group) == (1, 0, 0, 0)
    await settle_all(group, *(await group.take(1)).entries)


async def test_one_release_moves_no_more_than_some_megabytes(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(bytes(7_000_000), id=f"m{n}") for n in range(4)])
    entries = (await group.take(4)).entries
    for entry in entries:
        await group.settle([Settlement(entry.ref, (again(entry, delay_ms=1),))])
    await eventually(
        lambda: redis_client.zcount(group.partitions[0].delayed, 0, now_ms(redis_client)) == 4
    )
    assert await group.release(100) == (3, 0.0)
    assert await group.release(100) == (1, None)
    entries = (await group.take(4)).entries
    assert ids(entries) == ["m0", "m1", "m2", "m3"]
    await settle_all(group, *entries)


async def test_what_waits_in_redis_survives_its_restart(own_server: OwnServer) -> None:
    server = own_server(*AOF)
    async with opened(server) as (stream, group):
        await group.open()
        await stream.append([message(id=name) for name in ("delayed", "again", "held", "new")])
        delayed, repeated, held = (await group.take(3)).entries
        await group.settle(
            [
                Settlement(delayed.ref, (again(delayed, "later", delay_ms=1),)),
                Settlement(repeated.ref, (again(repeated),)),
            ]
        )
        server.kill()
        with pytest.raises(StreamUnavailableError):
            await group.release(10)
        server.start()

        assert await group.release(10) == (1, None)
        taken = (await group.take(10)).entries
        assert ids(taken) == ["again", "delayed", "new"]
        assert taken[1].fields[b"handler"] == b"later"
        assert ids((await taken_over(group)).entries) == ["again", "delayed"]
        assert ids((await taken_over(group)).entries) == ["held", "new"]
        await settle_all(group, *taken, held)


# --- taking over ----------------------------------------------------------------------------


async def test_only_what_was_silent_for_a_lease_is_taken_over(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    gone, group = await open_group("gone"), await open_group("c2")
    await stream.append([message(id="idle"), message(id="fresh")])
    idle, fresh = (await gone.take(2)).entries
    redis_client.xclaim(group.partitions[0].stream, "main", "gone", 0, [idle.ref.id], idle=60_000)

    taken = await taken_over(group, lease=60)
    assert ids(taken.entries) == ["idle"]
    assert (await taken_over(group, lease=60)).is_empty
    assert taken.entries[0].fields == idle.fields
    await settle_all(group, idle)
    await settle_all(gone, fresh)


async def test_what_runs_again_is_taken_over_as_well(
    stream: Producer, open_group: OpenGroup
) -> None:
    gone, group = await open_group("gone"), await open_group("c2")
    await stream.append([message(id="m")])
    (entry,) = (await gone.take(1)).entries
    await gone.settle([Settlement(entry.ref, (again(entry, "mailer", attempts=3),))])
    await gone.take(1)
    taken = await taken_over(group)
    (entry,) = taken.entries
    assert Progress.from_fields(entry.fields, "").attempts == 3
    assert taken.duplicates == []
    await settle_all(group, entry)


async def test_a_sweep_goes_on_where_it_stopped(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    # Redis looks at ten times the count in one go; a sweep that began anew each time would
    # never come to the entries beyond.
    gone, group = await open_group("gone"), await open_group("c2")
    await stream.append([message(id=f"m{n}") for n in range(95)])
    held = (await gone.take(95)).entries
    silent: list[Any] = [entry.ref.id for entry in held[-3:]]
    redis_client.xclaim(group.partitions[0].stream, "main", "gone", 0, silent, idle=60_000)

    found, calls, wait = [], 0, 0.0
    while not wait:
        taken, wait = await group.take_over(2, lease=30, pause=60)
        found += ids(taken.entries)
        calls += 1
    assert found == ["m92", "m93", "m94"]
    assert calls > 4
    await settle_all(group, *held)


async def test_a_deleted_entry_is_not_taken_over_and_no_longer_pending(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    gone, group = await open_group("gone"), await open_group("c2")
    deleted, _ = await stream.append([message(id="deleted"), message(id="kept")])
    await gone.take(2)
    redis_client.xdel(group.partitions[0].stream, deleted)
    taken = await taken_over(group)
    assert ids(taken.entries) == ["kept"]
    assert pending(redis_client, group) == 1
    await settle_all(group, *taken.entries)


async def test_repeats_among_what_is_taken_over_are_acknowledged(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(id="m"), message(id="m")])
    # A worker that died between reading and recording.
    redis_client.xreadgroup("main", "gone", {group.partitions[0].stream: ">"})
    taken = await taken_over(group)
    assert ids(taken.entries) == ["m"]
    assert [repeat.message_id for repeat in taken.duplicates] == ["m"]
    assert pending(redis_client, group) == 1
    await settle_all(group, *taken.entries)


# --- the group's upkeep ---------------------------------------------------------------------


def make_consumers(client: redis.Redis, group: Consumer, *names: str) -> None:
    """A read in vain makes a consumer on some servers only."""
    for key in (group.partitions[0].stream, group.partitions[0].again):
        for name in names:
            client.xgroup_createconsumer(key, group.name, name)


def consumers(client: redis.Redis, group: Consumer) -> dict[str, list[bytes]]:
    found = {}
    for which, key in (
        ("stream", group.partitions[0].stream),
        ("again", group.partitions[0].again),
    ):
        rows: Any = client.xinfo_consumers(key, group.name)
        found[which] = sorted(row["name"] for row in rows)
    return found


async def test_only_an_idle_and_empty_consumer_is_removed(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    holds, empty = await open_group("holds"), await open_group("empty")
    await stream.append([message()])
    (entry,) = (await holds.take(1)).entries
    make_consumers(redis_client, empty, "holds", "empty")

    assert await Upkeep(stream.client, "main").retire(idle=3600) == 0
    # The one that holds an entry of the stream holds none of the again stream.
    assert await Upkeep(stream.client, "main").retire(idle=0) == 3
    assert consumers(redis_client, holds) == {"stream": [b"holds"], "again": []}
    assert pending(redis_client, holds) == 1
    await settle_all(holds, entry)


async def test_a_consumer_can_be_removed_by_name(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    one = await open_group("one")
    make_consumers(redis_client, one, "one", "two")
    assert await Upkeep(stream.client, "main").retire(0, "one") == 2
    assert consumers(redis_client, one) == {"stream": [b"two"], "again": [b"two"]}


async def test_removing_consumers_of_a_lost_group_is_no_error(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    redis_client.delete(group.partitions[0].stream, group.partitions[0].again)
    assert await Upkeep(stream.client, "main").retire(0) == 0


async def test_trimming_never_drops_what_some_group_has_not_finished(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    quick, slow = await open_group(name="quick"), await open_group(name="slow")
    *_, last = await stream.append([message(id=f"m{n}") for n in range(10)])
    # What came in this very millisecond is never trimmed.
    await eventually(lambda: now_ms(redis_client) > int(last.partition("-")[0]))
    await settle_all(quick, *(await quick.take(10)).entries)
    assert (
        await Upkeep(stream.client, "main").trim(retention=0) == 0
    )  # the slow one has read nothing yet

    held = (await slow.take(6)).entries
    await settle_all(slow, *held[:3], held[5])
    assert await Upkeep(stream.client, "main").trim(retention=0) == 3  # up to the oldest it holds
    await settle_all(slow, *held[3:5])
    assert (
        await Upkeep(stream.client, "main").trim(retention=0) == 3
    )  # up to the first it has yet to read
    rest = (await slow.take(10)).entries
    assert ids(rest) == ["m6", "m7", "m8", "m9"]
    await settle_all(slow, *rest)
    assert await Upkeep(stream.client, "main").trim(retention=0) == 4
    assert redis_client.xlen(stream.partitions[0].stream) == 0


async def test_trimming_keeps_what_retention_covers(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    now = now_ms(redis_client)
    for age in (90_000, 61_000, 59_000, 1_000):
        redis_client.xadd(group.partitions[0].stream, {"version": "9"}, id=f"{now - age}-0")
    await settle_all(group, *(await group.take(10)).entries)
    assert await Upkeep(stream.client, "main").trim(retention=3600) == 0
    assert await Upkeep(stream.client, "main").trim(retention=60) == 2
    assert await Upkeep(stream.client, "main").trim(retention=0) == 2


async def test_nothing_is_trimmed_before_there_is_a_group(
    stream: Producer, redis_client: redis.Redis
) -> None:
    assert await Upkeep(stream.client, "main").trim(retention=0) == 0
    await stream.append([message()])
    assert await Upkeep(stream.client, "main").trim(retention=0) == 0
    assert redis_client.xlen(stream.partitions[0].stream) == 1


async def test_a_lost_group_restarts_behind_what_it_had_finished(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group, other = await open_group(), await open_group(name="other")  # the other pins the stream
    await stream.append([message(id=f"m{n}") for n in range(6)])
    entries = (await group.take(5)).entries
    await settle_all(group, *entries[:3], entries[4])
    await Upkeep(stream.client, "main").trim(retention=3600)
    redis_client.xgroup_destroy(group.partitions[0].stream, "main")

    with pytest.raises(GroupLostError):
        await group.take(1)
    assert await group.open() == 1
    taken = (await group.take(10)).entries
    assert ids(taken) == ["m3", "m4", "m5"]  # m3 was held, m4 finished since: above the mark
    await settle_all(group, *taken)
    await settle_all(other, *(await other.take(10)).entries)


@pytest.mark.parametrize(
    ("entry_ids", "mark"),
    [
        (["5-3"], b"5-2"),
        (["5-0"], b"4-18446744073709551615"),
        (["4-18446744073709551615"], b"4-9007199254740991"),  # where Lua can still count
        (["0-1"], b"0-0"),
        ([], b"0-0"),
    ],
)
async def test_the_low_water_mark_lies_just_below_the_oldest_unfinished_entry(
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    entry_ids: list[str],
    mark: bytes,
) -> None:
    group = await open_group()
    for entry_id in entry_ids:
        redis_client.xadd(group.partitions[0].stream, {"version": "9"}, id=entry_id)
    held = (await group.take(10)).entries
    await Upkeep(stream.client, "main").trim(retention=0)
    lowest = redis_client.get(group.partitions[0].low_water)
    assert lowest == mark
    redis_client.xgroup_destroy(group.partitions[0].stream, "main")
    await group.open()
    again_taken = (await group.take(10)).entries
    assert [entry.ref for entry in again_taken] == [entry.ref for entry in held]
    await settle_all(group, *again_taken)


async def test_a_deleted_stream_is_made_anew_and_works(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(id="old")])
    await settle_all(group, *(await group.take(1)).entries)
    await Upkeep(stream.client, "main").trim(retention=0)
    redis_client.delete(group.partitions[0].stream, group.partitions[0].again)

    await stream.append([message(id="new")])
    with pytest.raises(GroupLostError):
        await group.take(1)
    assert await group.open() == 2
    taken = (await group.take(10)).entries
    assert ids(taken) == ["new"]
    await settle_all(group, *taken)


async def test_a_lost_group_is_told_from_a_redis_that_is_away(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message()])
    (entry,) = (await group.take(1)).entries
    assert (await group.take(1)).is_empty
    waiting = asyncio.create_task(group.wait(60))
    await eventually(lambda: blocked(redis_client))
    redis_client.delete(group.partitions[0].stream, group.partitions[0].again)
    with pytest.raises(GroupLostError):
        await waiting
    for asked in (
        group.wait(1),
        group.take_over(1, lease=0, pause=1),
        group.settle([Settlement(entry.ref, (again(entry),))]),
        group.take(1),
    ):
        with pytest.raises(GroupLostError):
            await asked
    assert await group.settle([Settlement(entry.ref)]) == []  # nothing to acknowledge, no harm


def blocked(client: redis.Redis) -> int:
    return sum("b" in row["flags"] for row in client.client_list())


# --- dead letters ---------------------------------------------------------------------------


@pytest.fixture
async def buried(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> AsyncIterator[tuple[Consumer, DeadLetters, list[str]]]:
    """A group with the dead letters m0 to m4, and their IDs."""
    group = await open_group()
    await stream.append([message(id=f"m{n}") for n in range(5)])
    for entry in (await group.take(5)).entries:
        await group.settle([Settlement(entry.ref, (dead(entry),))])
    yield (
        group,
        DeadLetters(stream.client, "main"),
        [letter.id for letter in await dead_letters(stream)],
    )
    redis_client.delete(group.partitions[0].dead)


async def test_dead_letters_are_read_page_by_page(
    buried: tuple[Consumer, DeadLetters, list[str]],
) -> None:
    _, letters, dead_ids = buried
    assert await letters.count() == 5
    page = await letters.survey("0-0", dead_ids[-1], 2)
    assert [letter.fields[b"id"] for letter in page] == [b"m0", b"m1"]
    rest = await letters.survey(f"({page[-1].id}", dead_ids[-1], 10)
    assert [letter.id for letter in rest] == dead_ids[2:]
    found = await letters.get(dead_ids[4])
    assert found is not None
    assert found.fields[b"id"] == b"m4"
    assert await letters.get("1-1") is None


async def test_a_replayed_dead_letter_is_taken_again_with_a_fresh_count(
    buried: tuple[Consumer, DeadLetters, list[str]],
) -> None:
    group, letters, (first, second, *_) = buried
    assert await letters.replay([second, "1-1", first]) == 2
    assert await letters.replay([second]) == 0
    assert await letters.count() == 3
    taken = await group.take(10)
    assert ids(taken.entries) == ["m1", "m0"]
    assert not taken.duplicates
    for entry in taken.entries:
        progress = Progress.from_fields(entry.fields, "")
        assert (progress.handler, progress.attempts) == ("h", 0)
        assert b"reason" not in entry.fields
    await settle_all(group, *taken.entries)


async def test_a_dropped_dead_letter_is_gone(
    stream: Producer, buried: tuple[Consumer, DeadLetters, list[str]]
) -> None:
    _, letters, dead_ids = buried
    assert await letters.drop([*dead_ids[:2], "1-1"]) == 2
    assert [letter.id for letter in await dead_letters(stream)] == dead_ids[2:]


# --- when Redis is away, frozen, full -------------------------------------------------------


def everything(
    stream: Producer, group: Consumer
) -> Iterator[tuple[str, Callable[[], Awaitable[Any]]]]:
    yield "append", lambda: stream.append([message()])
    yield "probe", stream.probe
    yield "trim", lambda: Upkeep(stream.client, "main").trim(0)
    yield "open", group.open
    yield "take", lambda: group.take(1)
    yield "wait", lambda: group.wait(0.1)
    yield "take over", lambda: group.take_over(1, 0, 1)
    yield "settle", lambda: group.settle([Settlement(EntryRef(STREAM, "1-1"))])
    yield "release", lambda: group.release(1)
    yield "retire", lambda: Upkeep(stream.client, "main").retire(0)
    yield "uptime", group.redis_uptime
    yield "dead", DeadLetters(stream.client, "main").count
    yield "renew", lambda: asyncio.to_thread(renew, group)


async def is_unavailable(ask: Callable[[], Awaitable[Any]]) -> bool:
    try:
        await ask()
    except StreamUnavailableError:
        return True
    return False


def renew(group: Consumer) -> list[EntryRef]:
    with closing(group.leases()) as leases:
        return leases.renew([EntryRef(STREAM, "1-1")])


async def test_a_redis_that_is_not_there_is_said_to_be_unavailable(own_server: OwnServer) -> None:
    server = own_server()
    async with opened(server) as (stream, group):
        await group.open()
        await group.take(1)
        server.kill()
        for what, ask in everything(stream, group):
            assert await is_unavailable(ask), what
        await group.stop_waiting()  # says nothing: it is asked for on the way out


async def test_a_frozen_redis_is_given_up_in_time_and_nothing_is_sent_twice(
    own_server: OwnServer,
) -> None:
    server = own_server()
    async with opened(server) as (stream, group):
        await group.open()
        await stream.append([message(id="early")])
        hurry(stream, 0.1)
        server.signal(signal.SIGSTOP)
        async with asyncio.timeout(30):
            for what, ask in everything(stream, group):
                if what == "renew":
                    continue  # its patience is not to be set
                assert await is_unavailable(ask), what
        server.signal(signal.SIGCONT)
        # A timeout is no proof that nothing was written; but it was written once.
        with redis.Redis.from_url(server.url) as client:
            await eventually(lambda: client.xlen(stream.partitions[0].stream) == 2)
            hurry(stream, 5.0)
            await stream.probe()
            assert client.xlen(stream.partitions[0].stream) == 2


async def test_a_command_without_an_answer_is_not_sent_again(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_server()
    async with opened(server) as (stream, _):
        await stream.append([message()])  # from here on Redis knows the script
        (connection,) = stream.client._servers[0]._free
        disconnect = connection.disconnect

        async def give_up(**options: Any) -> None:
            server.signal(signal.SIGCONT)  # back in time for a client that would try again
            await disconnect(**options)

        monkeypatch.setattr(connection, "disconnect", give_up)
        hurry(stream, 0.1)
        server.signal(signal.SIGSTOP)
        with pytest.raises(StreamUnavailableError):
            await stream.append([message()])
        hurry(stream, 5.0)
        with redis.Redis.from_url(server.url) as client:
            await eventually(lambda: client.xlen(stream.partitions[0].stream) == 2)


@pytest.mark.parametrize("has_flags", [True, False], ids=["script flags", "as before 7.0"])
@pytest.mark.parametrize("binary", list(server_binaries()))
async def test_a_full_redis_refuses_appends_and_can_still_be_drained(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch, binary: str, has_flags: bool
) -> None:
    if not has_flags:  # what a server says that does not know them
        monkeypatch.setattr(script_runner, "_ALLOW_OOM", "#!lua flags=none-that-is-known\n")
    server = own_server(binary=binary)
    async with opened(server) as (stream, group):
        with redis.Redis.from_url(server.url) as client:
            await group.open()
            await stream.append([message(id=name) for name in ("again", "dead", "late", "new")])
            repeated, buried, late = (await group.take(3)).entries
            used: Any = client.info("memory")
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", used["used_memory"] // 2)

            for ask in (lambda: stream.append([message()]), stream.probe):
                with pytest.raises(StreamUnavailableError, match="maxmemory"):
                    await ask()
            assert client.xlen(stream.partitions[0].stream) == 4
            # A worker that starts now can open the group as well.
            stream.client._is_agreed = False
            assert await group.open() == 0
            await group.settle(
                [
                    Settlement(repeated.ref, (again(repeated),)),
                    Settlement(buried.ref, (dead(buried),)),
                    Settlement(late.ref, (again(late, delay_ms=1),)),
                ]
            )
            await eventually(lambda: release(group))
            taken = await group.take(5)
            assert ids(taken.entries) == ["again", "late", "new"]
            await settle_all(group, *taken.entries)
            assert await group.open() == 0
            assert await Upkeep(stream.client, "main").trim(0) == 4
            assert written(client, group) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:6379", "redis://u:pa/ss@h:1/0", "redis://h:1/0?socket_timeout=s3cret"]
)
def test_an_unreadable_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Stream(url, "t")
    assert str(refused.value) == "REDIS_URL: the Redis client cannot read it"


ARGUMENT = (
    st.text(st.characters(exclude_categories=["Cs"])) | st.binary() | st.integers() | st.floats()
)


@given(st.lists(ARGUMENT, max_size=20))
def test_commands_are_packed_as_the_client_itself_packs_them(
    args: list[str | bytes | int | float],
) -> None:
    command: Any = ("XADD", *args)
    assert hiredis.pack_command(command) == b"".join(Connection().pack_command(*command))


@pytest.mark.parametrize("url", ["redis://h", "rediss://h", "unix:///run/redis.sock"])
def test_every_kind_of_connection_is_packed_for(url: str) -> None:
    (server,) = Client(url, "t")._servers
    kind = server.pool.connection_class
    assert issubclass(kind, ConnectionPool.from_url(url).connection_class)
    assert kind.__mro__[1].__name__ == "_WrittenAtOnce"


async def test_a_command_leaves_before_what_is_ready_by_now_runs(
    stream: Producer, redis_client: redis.Redis
) -> None:
    key = f"{stream.partitions[0].base}:left"
    await stream.client.execute(0, "PING")  # the connection is there
    writing = asyncio.ensure_future(stream.client.execute(0, "SET", key, "1"))
    await asyncio.sleep(0)  # its first step, and nothing else
    deadline = time.monotonic() + 5
    while not redis_client.exists(key) and time.monotonic() < deadline:
        time.sleep(0.001)  # noqa: ASYNC251 - the loop is to stand still
    assert redis_client.delete(key) == 1
    await writing
