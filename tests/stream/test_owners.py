"""Which entry owns a message ID, and for how long that is remembered."""

from __future__ import annotations

import secrets
import time

import pytest
import redis

from hookmill.errors import GroupLostError
from hookmill.message import Progress
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import AGAIN, STREAM, EntryRef, Settlement
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.toolkit import (
    OpenGroup,
    again,
    ids,
    pending,
    release,
    settle_all,
)
from tests.support import (
    eventually,
    message,
)


@pytest.mark.parametrize("batches", [(2,), (1, 1)], ids=["one take", "two takes"])
async def test_the_first_entry_owns_an_id_and_a_duplicate_is_acknowledged_and_reported(
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
    assert [one.message_id for one in taken.duplicates] == ["m"]


async def test_an_id_stays_owned_once_it_is_done(stream: Producer, open_group: OpenGroup) -> None:
    group = await open_group()
    await stream.append([message(id="m")])
    await settle_all(group, *(await group.take(1)).entries)
    await stream.append([message(id="m")])
    taken = await group.take(1)
    assert not taken.entries
    assert [one.message_id for one in taken.duplicates] == ["m"]


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


async def test_several_handlers_of_one_message_are_no_duplicates_of_each_other(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await stream.append([message(id="m"), message(id="m")])
    (entry,) = (await group.take(1)).entries
    await group.settle([Settlement(entry.ref, (again(entry, "one"), again(entry, "two")))])
    taken = await group.take(10)
    assert [entry.fields[b"handler"] for entry in taken.entries] == [b"one", b"two"]
    assert [one.message_id for one in taken.duplicates] == ["m"]
    await settle_all(group, *taken.entries)


async def test_an_entry_that_runs_again_after_another_owns_its_id_is_a_duplicate(
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
    assert [one.message_id for one in taken.duplicates] == ["m"]
    assert redis_client.xlen(group.partitions[0].again) == 0
    assert second.fields[b"body"] == b"second"
    await settle_all(group, second)


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
        assert ids(next_one.entries) == [retried]  # its own token: recorded again
        assert [duplicate.message_id for duplicate in next_one.duplicates] == [done]
        assert ids(last.entries) == [done]  # forgotten, so it runs
        assert [duplicate.message_id for duplicate in last.duplicates] == [retried]
        return True

    await eventually(lambda: is_shown(secrets.token_hex(4), secrets.token_hex(4)))


async def test_every_record_expires_and_keeps_the_compact_encoding(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group(dedup_window=3600)
    now = int(redis_client.time()[0])
    generation = now // 3600
    begin_with_one_bucket(redis_client, group, 3600)
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
    group = await open_group(dedup_window=3600)
    begin_with_one_bucket(redis_client, group, 3600)
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
    group = await open_group(dedup_window=3600)
    await stream.append([message(id=f"m{n}") for n in range(100)])
    entries = (await group.take(100)).entries
    await group.settle([Settlement(entry.ref, (again(entry),)) for entry in entries])
    for key in redis_client.scan_iter(f"{group.partitions[0].owners}*", count=1000):
        redis_client.delete(key)
    begin_with_one_bucket(redis_client, group, 3600)
    await Upkeep(stream.client, "main").trim(0)  # notes that all of the stream is finished
    # What runs again is read, its IDs recorded again, and then the stream's own group is missing.
    redis_client.xgroup_destroy(group.partitions[0].stream, group.name)
    with pytest.raises(GroupLostError):
        await group.take(200)
    redis_client.delete(group.partitions[0].again)

    await group.open()
    await stream.append([message(id=f"m{n}") for n in range(100)])
    taken = await group.take(300)
    dropped = {one.message_id for one in taken.duplicates}
    assert dropped == {f"m{n}" for n in range(100)}
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
            "generations": ",".join(map(listed, (generation - 1, generation - 2))),
        },
    )  # fmt: skip
    await stream.append([message()])
    await settle_all(group, *(await group.take(1)).entries)
    assert redis_client.hgetall(group.partitions[0].owners) == {
        b"%d:buckets" % (generation - 1): b"1024",
        b"%d:size" % (generation - 1): b"1000000",
        b"%d:buckets" % generation: b"25000",
        b"%d:size" % generation: b"1",
        b"generations": ",".join(map(listed, (generation, generation - 1))).encode(),
    }
    assert 3600 <= redis_client.ttl(group.partitions[0].owners) <= 2 * 3600


async def test_the_first_generation_does_not_split_buckets_for_its_first_thousands_of_ids(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group(dedup_window=3600)
    await stream.append([message() for _ in range(3000)])
    redis_client.config_resetstat()
    taken = await group.take(3000)
    assert "cmdstat_copy" not in redis_client.info("commandstats")
    await settle_all(group, *taken.entries)


def begin_with_one_bucket(client: redis.Redis, group: Consumer, window: int) -> None:
    """Let the current generation have one bucket, so that it grows with its first IDs."""
    number = int(client.time()[0]) // window
    kept = f"{number} {window} {(number + 1) * window} {(number + 2) * window}"
    owners = group.partitions[0].owners
    for name, value in (("buckets", "1"), ("size", "0")):
        client.hset(owners, f"{number}:{name}", value)
    client.hset(owners, "generations", kept)
    client.expireat(owners, (number + 2) * window)


def listed(generation: int) -> str:
    """A generation of an hour: its window, its end, and when it is forgotten."""
    return f"{generation} 3600 {(generation + 1) * 3600} {(generation + 2) * 3600}"
