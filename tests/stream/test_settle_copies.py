"""A settlement has Redis copy what does not change, so no body is sent twice."""

from __future__ import annotations

from typing import Any

import redis

from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, FollowUp, Settlement
from hookmill.stream.producer import Producer
from tests.slow_line import SlowLine
from tests.stream.toolkit import OpenGroup, pending, release, settle_all
from tests.support import Server, Stream, dead_letters, message, taken_over, written_in_version_1

MB = 1_000_000

LATER = {b"attempts": b"2", b"error": b"oh no"}


def changes(entry: Entry, handler: bytes = b"h") -> dict[bytes, bytes]:
    return {b"owner": entry.owner, b"handler": handler, b"attempts": b"1"}


def retry(changes: dict[bytes, bytes], delay_ms: int = 0, token: str = "t") -> FollowUp:
    return FollowUp("again", token, changes, delay_ms)


def settled(entry: Entry, *follow_ups: FollowUp) -> Settlement:
    return Settlement(entry.ref, follow_ups, entry.key, entry.owner, entry.weight, entry.fields)


def received(client: redis.Redis) -> int:
    """How many bytes Redis has received until now."""
    stats: Any = client.info("stats")
    return int(stats["total_net_input_bytes"])


async def one_of(group: Consumer) -> Entry:
    (entry,) = (await group.take(10)).entries
    return entry


async def test_a_new_entry_has_the_fields_of_the_old_one_in_their_order(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    for fields in (
        message(b"\x00\xff", id="new", key="k").to_fields(),
        written_in_version_1(message(id="old")),
        {b"version": b"9", b"digest": b"12345678", b"\xff": b""},
    ):
        redis_client.xadd(group.partitions[0].stream, fields)  # type: ignore[arg-type] # bytes
        first = await one_of(group)
        assert await group.settle([settled(first, retry(changes(first)))]) == []
        second = await one_of(group)
        assert list(second.fields.items()) == list({**fields, **changes(first)}.items())
        assert await group.settle([settled(second, retry(LATER, delay_ms=1))]) == []
        while not await release(group):
            pass
        third = await one_of(group)
        assert list(third.fields.items()) == list({**fields, **changes(first), **LATER}.items())
        await group.settle([settled(third, FollowUp("dead", "t", {b"reason": b"failed"}))])
        dead = (await dead_letters(stream))[-1]
        assert dead.fields == {**fields, **changes(first), **LATER, b"reason": b"failed"}
    redis_client.delete(group.partitions[0].dead)


async def test_a_large_body_is_not_sent_again_for_any_handler(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(bytes(MB))])
    entry = await one_of(group)
    before = received(redis_client)
    await group.settle([settled(entry, *(retry(changes(entry), 0, f"t{n}") for n in range(3)))])
    assert received(redis_client) - before < 50_000  # the script's text is among them
    taken = (await group.take(10)).entries
    assert [len(one.fields[b"body"]) for one in taken] == [MB] * 3
    await settle_all(group, *taken)


async def test_what_somebody_deleted_is_sent_once_more(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(id=name) for name in ("kept", "deleted", "done", "fanned")])
    kept, deleted, done, fanned = (await group.take(4)).entries
    redis_client.xdel(group.partitions[0].stream, deleted.ref.id, done.ref.id, fanned.ref.id)
    late = await group.settle(
        [
            settled(kept, retry(changes(kept))),
            settled(deleted, FollowUp("dead", "t", {b"reason": b"failed"})),
            settled(done),
            settled(fanned, *(retry(changes(fanned, name)) for name in (b"a", b"b"))),
        ]
    )
    assert late == []
    assert [one.fields for one in await dead_letters(stream)] == [
        {**deleted.fields, b"reason": b"failed"}
    ]
    taken = (await group.take(10)).entries
    assert [one.fields for one in taken] == [
        {**kept.fields, **changes(kept)},
        {**fanned.fields, **changes(fanned, b"a")},
        {**fanned.fields, **changes(fanned, b"b")},
    ]
    await settle_all(group, *taken)
    assert pending(redis_client, group) == 0
    redis_client.delete(group.partitions[0].dead)


async def test_an_ordering_key_moves_on_though_somebody_deleted_its_message(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(id=f"m{n}", key="k") for n in range(2)])
    head = await one_of(group)
    redis_client.xdel(group.partitions[0].stream, head.ref.id)
    await group.settle([settled(head, FollowUp("dead", "t", {b"reason": b"failed"}))])
    following = await one_of(group)
    assert following.fields[b"id"] == b"m1"
    await group.settle([settled(following)])
    redis_client.delete(group.partitions[0].dead)


async def test_a_late_outcome_of_a_deleted_entry_changes_nothing(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    silent, other = await open_group("silent"), await open_group("other")
    await stream.append([message()])
    entry = await one_of(silent)
    (theirs,) = (await taken_over(other)).entries
    redis_client.xdel(silent.partitions[0].stream, entry.ref.id)
    assert await silent.settle([settled(entry, retry(changes(entry)))]) == [entry.ref.id]
    assert redis_client.xlen(silent.partitions[0].again) == 0
    await settle_all(other, theirs)


async def test_large_settlements_pass_a_slow_line(
    server: Server, prefix: str, redis_client: redis.Redis
) -> None:
    async with SlowLine(server.url, 2 * MB).open() as line:
        near, far = Stream(server.url, prefix), Client(line.url, prefix, timeout=1.0)
        group = Consumer(far, "main", "c1", dedup_window=3600)
        await group.open()
        await near.append([message(bytes(4 * MB), id=name) for name in ("kept", "deleted")])
        kept, deleted = (await group.take(10)).entries
        redis_client.xdel(group.partitions[0].stream, deleted.ref.id)
        copies = [retry(LATER, 0, f"t{n}") for n in range(5)]
        assert await group.settle([settled(kept, *copies), settled(deleted, *copies)]) == []
        assert redis_client.xlen(group.partitions[0].again) == 10
        redis_client.delete(group.partitions[0].again)
        await group.close()
        await far.close()
        await near.close()
