"""How many entries a key's head has: with several handlers, replays, and a lost group."""

from __future__ import annotations

import redis

from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.producer import Producer
from tests.stream.ordering import (
    OpenGroup,
    again,
    dead,
    fan_out,
    ids,
    parked,
    run_all,
    send,
    settle,
    settled,
    traces,
)
from tests.support import (
    dead_letters,
    eventually,
)


async def test_a_replayed_dead_letter_goes_to_the_tail(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await send(stream, "a-1", "a-2", "a-3")
    (head,) = (await group.take(10)).entries
    await group.settle([settled(head, dead(head))])
    letters = DeadLetters(stream.client, "main")
    second = await group.take(10)
    assert ids(second) == ["a-2"]
    await letters.replay([str(await letters.newest())])
    assert parked(redis_client, group) == 2
    assert (await group.take(10)).is_empty
    await settle(group, second)
    assert await run_all(group) == ["a-3", "a-1"]


async def test_the_next_waits_until_every_handler_of_the_head_is_through(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await send(stream, "a-1", "a-2")
    (head,) = (await group.take(10)).entries
    await group.settle([settled(head, again(head, "index"), again(head, "mail"))])
    index, mail = (await group.take(10)).entries
    assert {index.fields[b"handler"], mail.fields[b"handler"]} == {b"index", b"mail"}
    await group.settle([settled(index)])
    assert (await group.take(10)).is_empty
    await group.settle([settled(mail, again(mail, "mail"))])  # fails once
    (mail,) = (await group.take(10)).entries
    assert mail.fields[b"id"] == b"a-1"
    await group.settle([settled(mail, dead(mail))])
    assert await run_all(group) == ["a-2"]
    assert traces(redis_client, group) == []
    redis_client.delete(group.partitions[0].dead)


async def test_the_next_waits_for_all_of_a_message_that_is_replayed_for_several_handlers(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group, letters = await open_group(), DeadLetters(stream.client, "main")
    await send(stream, "a-1")
    for entry in await fan_out(group):
        await group.settle([settled(entry, dead(entry))])
    assert await letters.replay([one.id for one in await dead_letters(stream)]) == 2
    await send(stream, "a-2")
    both = await group.take(10)
    assert (ids(both), both.parked) == (["a-1", "a-1"], 1)
    await group.settle([settled(both.entries[0])])
    assert (await group.take(10)).is_empty
    await group.settle([settled(both.entries[1])])
    assert await run_all(group) == ["a-2"]
    assert traces(redis_client, group) == []


async def test_a_replay_for_one_handler_joins_the_same_message_of_another(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group, letters = await open_group(), DeadLetters(stream.client, "main")
    await send(stream, "a-1", "a-2")
    index, mail = await fan_out(group)
    await group.settle([settled(index, dead(index))])
    await letters.replay([str(await letters.newest())])
    replayed = await group.take(10)
    assert ids(replayed) == ["a-1"]
    await settle(group, replayed)
    assert (await group.take(10)).is_empty  # mail is not through
    await group.settle([settled(mail)])
    assert await run_all(group) == ["a-2"]
    assert traces(redis_client, group) == []


async def test_replayed_for_several_handlers_behind_another_message_both_wait(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group, letters = await open_group(), DeadLetters(stream.client, "main")
    await send(stream, "a-1", "a-2")
    for entry in await fan_out(group):
        await group.settle([settled(entry, dead(entry))])
    second = await group.take(10)
    await letters.replay([one.id for one in await dead_letters(stream)])
    await send(stream, "a-3")
    assert (await group.take(10)).parked == 1
    await settle(group, second)
    assert await run_all(group) == ["a-1", "a-1", "a-3"]
    assert traces(redis_client, group) == []


async def test_a_head_that_another_delivery_took_the_id_from_does_not_block_its_key(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group, letters = await open_group(), DeadLetters(stream.client, "main")
    await send(stream, "a-1", "a-2")
    index, mail = await fan_out(group)
    await group.settle([settled(index, dead(index)), settled(mail, again(mail, "mail", 50))])
    await letters.drop([str(await letters.newest())])  # releases the ID
    await send(stream, "a-1")
    assert (await group.take(10)).parked == 1

    async def is_due() -> bool:
        return (await group.release(10))[0] == 1

    await eventually(is_due)
    dropped = await group.take(10)
    assert [one.message_id for one in dropped.duplicates] == ["a-1"]
    await settle(group, dropped)
    assert ids(dropped) + await run_all(group) == ["a-2", "a-1"]
    assert traces(redis_client, group) == []


async def test_a_head_that_ran_again_after_its_group_was_lost_does_not_block_its_key(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await send(stream, "a-1", "a-2")
    for entry in await fan_out(group):
        handler = entry.fields[b"handler"].decode()
        await group.settle([settled(entry, again(entry, handler, 50))])
    redis_client.xgroup_destroy(group.partitions[0].stream, "main")
    await group.open()
    for entry in await fan_out(group):  # one message, and now both of its entries twice
        handler = entry.fields[b"handler"].decode()
        await group.settle([settled(entry, again(entry, handler, 50))])

    moved = 0

    async def all_due() -> bool:
        nonlocal moved
        moved += (await group.release(10))[0]  # they may come one by one
        return moved == 2

    await eventually(all_due)
    assert await run_all(group) == ["a-1", "a-1", "a-2", "a-2"]
    assert traces(redis_client, group) == []
