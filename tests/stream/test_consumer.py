"""A group as one consumer sees it: opened, taken from, lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from hookmill.errors import GroupLostError
from hookmill.message import Message
from hookmill.stream.entries import AGAIN, STREAM, EntryRef, Settlement
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.toolkit import (
    OpenGroup,
    again,
    blocked,
    ids,
    pending,
    settle_all,
)
from tests.support import (
    eventually,
    message,
)


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
    found = sorted((entry.ref.key_number, *entry.fields) for entry in taken.entries)
    assert found == sorted([
        (AGAIN, b"version", b"a"), (AGAIN, b"version", b"b"), (STREAM, b"version", b"b"),
    ])  # fmt: skip
    await settle_all(group, *taken.entries)


async def test_a_deleted_stream_is_made_again_and_works(
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


async def test_a_lost_group_is_distinguished_from_a_redis_that_is_away(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message()])
    (entry,) = (await group.take(1)).entries
    assert (await group.take(1)).is_empty
    waiting = asyncio.create_task(group.wait(60))
    await eventually(lambda: blocked(redis_client))
    redis_client.delete(group.partitions[0].stream, group.partitions[0].again)
    await stream.append([message()])
    assert await waiting  # what it takes then tells it
    for asked in (
        group.recover(0, 1, 0, 1, []),
        group.settle([Settlement(entry.ref, (again(entry),))]),
        group.take(1),
    ):
        with pytest.raises(GroupLostError):
            await asked
    assert await group.settle([Settlement(entry.ref)]) == []  # nothing to acknowledge, no harm
