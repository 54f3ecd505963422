"""Under load new entries are read without a script; what runs is the same as with one."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
import redis

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Settlement, Taken, weight_of
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.direct import (
    FEW,
    append,
    append_as_older_release,
    direct,
    finish_all,
    names,
    under_load,
)
from tests.stream.toolkit import OpenGroup, again, ids, pending, settle_all
from tests.support import ANY_BYTES, Server, Stream

KB, MB = 1000, 1_000_000


async def take_directly(client: redis.Redis, group: Consumer, count: int) -> Taken:
    before = direct(client)
    taken = await group.take(count)
    assert direct(client) == before + 1, "it was not a direct read"
    return taken


async def test_under_load_new_entries_are_read_directly_each_of_them_once_and_in_order(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    for first in range(0, 200, 25):
        await append(stream, *names(first, first + 25), body=b"x" * first)
    found = (await group.take(40)).entries
    for _ in range(4):
        taken = await take_directly(redis_client, group, 40)
        assert taken.weight == sum(weight_of(entry.fields) for entry in taken.entries)
        found += taken.entries
    assert ids(found) == names(0, 200)
    assert [entry.weight for entry in found] == [weight_of(entry.fields) for entry in found]
    assert (await group.take(40)).is_empty
    await settle_all(group, *found)
    assert pending(redis_client, group) == 0


async def test_nothing_of_a_direct_read_is_left_in_redis(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await under_load(stream, group)
    await settle_all(group, *(await take_directly(redis_client, group, FEW)).entries)
    keys = group.partitions[0]
    assert not redis_client.exists(keys.gate)
    assert not redis_client.hexists(keys.counts, "read")


async def test_a_duplicate_is_dropped_and_named(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await append(stream, *names(0, 40))
    await append(stream, *names(10, 30), *names(40, 50))
    first = await group.take(20)
    more = [await take_directly(redis_client, group, 20) for _ in range(2)]
    await settle_all(group, *first.entries, *(entry for taken in more for entry in taken.entries))
    assert ids(more[0].entries) == names(20, 40)
    assert (ids(more[1].entries), more[1].read) == ([], 20)
    dropped = [one.message_id for taken in more for one in taken.duplicates]
    assert dropped == names(10, 30)
    assert await finish_all(group) == names(40, 50)
    assert redis_client.hget(group.partitions[0].counts, "repeats") == b"20"
    assert pending(redis_client, group) == 0


async def test_of_one_key_only_the_first_runs_and_the_others_come_in_their_order(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await under_load(stream, group)
    await append(stream, *names(0, 5), key="a")
    await append(stream, *names(5, 10))
    await append(stream, *names(10, 15), key="b")
    taken = await take_directly(redis_client, group, FEW + 20)
    assert ids(taken.entries[FEW:]) == ["m0", *names(5, 10), "m10"]
    assert taken.parked == 8
    in_hand, order = taken.entries, list[str]()
    while in_hand:
        order += ids(in_hand)
        await group.settle([Settlement(e.ref, (), e.key, e.owner) for e in in_hand])
        in_hand = (await group.take(20)).entries
    for first in 0, 5, 10:
        assert [name for name in order if name in names(first, first + 5)] == names(
            first, first + 5
        )


async def test_what_an_older_release_appends_is_decided_about_as_well(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await under_load(stream, group)
    await append(stream, *names(0, 10))
    append_as_older_release(redis_client, stream, *names(5, 15))
    await append(stream, *names(15, 50))
    taken = await take_directly(redis_client, group, FEW + 30)
    assert ids(taken.entries[FEW:]) == names(0, 25 - 5)[:20] + names(20, 25)
    assert [one.message_id for one in taken.duplicates] == names(5, 10)
    await settle_all(group, *taken.entries)
    await finish_all(group)


async def test_where_most_is_of_an_older_release_a_script_reads_for_a_while(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    """Direct reads would cost more, because most entries would be read twice."""
    group = await open_group()
    await under_load(stream, group)
    append_as_older_release(redis_client, stream, *names(0, 100))
    taken = await take_directly(redis_client, group, 3 * FEW)
    assert ids(taken.entries[FEW:]) == names(0, 2 * FEW)
    await settle_all(group, *taken.entries)
    before = direct(redis_client)
    assert await finish_all(group) == names(2 * FEW, 100)
    assert direct(redis_client) == before


async def test_an_entry_that_is_larger_than_all_before_is_not_read_beside_many_others(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    """The count of a direct read is chosen before, by the largest entry that was known then."""
    group = await open_group()
    await append(stream, *names(0, 100))
    first = await group.take(20, MB)
    await append(stream, "large", body=bytes(400 * KB))
    await append(stream, *names(100, 104), body=bytes(400 * KB))
    taken = await group.take(110, MB)
    assert ids(taken.entries) == [*names(20, 100), "large", *names(100, 102)]
    assert taken.weight < MB + 400 * KB + KB
    await settle_all(group, *first.entries, *taken.entries)
    assert await finish_all(group) == names(102, 104)


async def test_where_the_largest_entry_allows_few_a_script_reads_more_of_the_small_ones(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await append(stream, "large", body=bytes(500 * KB))
    await append(stream, *names(0, 100))
    first = await group.take(40, MB)
    taken = await group.take(40, MB)
    assert (len(first.entries), len(taken.entries)) == (40, 40)
    await settle_all(group, *first.entries, *taken.entries)
    await finish_all(group)


async def test_what_is_to_be_taken_again_does_not_wait_behind_direct_reads(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await append(stream, *names(0, 400))
    taken = await group.take(40)
    await settle_all(group, *taken.entries[1:])
    await group.settle([Settlement(taken.entries[0].ref, (again(taken.entries[0]),))])
    in_between = await take_directly(redis_client, group, 40)
    then = await group.take(40)
    assert "m0" in ids(then.entries)
    await settle_all(group, *in_between.entries, *then.entries)
    await finish_all(group)


async def test_a_server_that_has_forgotten_the_scripts_gives_nothing_that_is_not_decided_about(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await append(stream, *names(0, 200))
    await append(stream, *names(0, 200))
    found = (await group.take(40)).entries + (await group.take(40)).entries
    redis_client.script_flush()  # a server that was just started has none either
    found += (await group.take(40)).entries
    assert ids(found) == names(0, 120)
    assert pending(redis_client, group) == 120
    await settle_all(group, *found)
    assert await finish_all(group) == names(120, 200)


async def test_what_an_earlier_read_has_left_is_not_decided_about_once_more(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    """The key of a message that is finished would wait for it for ever."""
    group = await open_group()
    await append(stream, "m0", key="a")
    await append(stream, *names(1, 100))
    first = await group.take(20)
    done, held = first.entries[:5], first.entries[5:]
    await group.settle([Settlement(one.ref, (), one.key, one.owner) for one in done])
    # It was begun, and its end was missing.
    redis_client.hset(group.partitions[0].counts, "read", "0-0 0 c9/9")
    await append(stream, *names(100, 104), body=bytes(10 * KB))  # shuts the gate
    taken = await group.take(100)
    assert ids(taken.entries) == names(20, 104)
    await settle_all(group, *held, *taken.entries)


async def test_what_was_read_and_not_decided_about_is_recovered_and_runs_once(
    server: Server, stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    # An operator's ACL that forgot a command is one way to get there.
    group = await open_group("c1")
    user = f"u{secrets.token_hex(4)}"
    redis_client.acl_setuser(user, enabled=True, nopass=True, keys=["*"], commands=["+@all"])
    url = server.url.replace("redis://", f"redis://{user}:x@")
    limited = Consumer(
        Stream(url, stream.partitions[0].base.split(":")[0]).client, "main", "c2", dedup_window=3600
    )
    try:
        await append(stream, *names(0, 80), *names(0, 20))
        taken = await limited.take(40)
        await settle_all(group, *taken.entries)
        redis_client.acl_setuser(user, commands=["-zrem", "-zscore", "-xlen", "-hsetnx"])
        with pytest.raises(StreamUnavailableError, match="it is not decided what runs"):
            await limited.take(30)
        assert pending(redis_client, group) == 30
        redis_client.acl_setuser(user, commands=["+@all"])
        recovered, _ = await limited.recover(0, 100, 60, ANY_BYTES, [])
        assert ids(recovered.entries) == names(40, 70)
        await settle_all(limited, *recovered.entries)
        assert await finish_all(group) == names(70, 80)
    finally:
        await limited.close()
        await limited._client.close()
        redis_client.acl_deluser(user)


async def test_a_group_that_is_gone_is_said_to_be_gone(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await under_load(stream, group)
    redis_client.xgroup_destroy(stream.partitions[0].stream, "main")
    with pytest.raises(GroupLostError):
        await group.take(FEW)
    await group.open()
    await finish_all(group)


async def test_the_index_is_trimmed_with_the_stream_and_begins_again_with_a_new_one(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group, keys = await open_group(), stream.partitions[0]
    for first in range(0, 60, 10):
        await append(stream, *names(first, first + 10))
    taken = await group.take(25)
    await settle_all(group, *taken.entries)
    await Upkeep(stream.client, "main").trim(0)
    unread: Any = redis_client.xrange(keys.stream)
    assert len(unread) == 35
    left: Any = redis_client.xrange(keys.index)
    assert left[0][0] >= unread[0][0]
    assert left[-1][0] == unread[-1][0]
    # A stream that begins anew may have smaller IDs: Redis' clock was set back, or it is restored.
    redis_client.xadd(keys.index, {"d": b"x" * 16}, id="99999999999999-0")
    await append(stream, *names(60, 80))
    again: Any = redis_client.xrange(keys.index)
    assert sum(len(fields[b"d"]) for _, fields in again) == 20 * 16
    assert await finish_all(group) == names(25, 80)
