"""What a replay of handled messages looks at, puts back and leaves out, on real servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import redis

from hookmill.errors import StreamUnavailableError
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import FollowUp
from hookmill.stream.facts import Pause
from hookmill.stream.pauses import Pauses
from hookmill.stream.producer import Producer
from hookmill.stream.replays import Limits, ReplayProgress, Replays
from hookmill.stream.unfinished import OneMessage, ReplayTakenOverError, UnfinishedWork
from tests.stream.ordering import OpenGroup, again, dead, ids, run_all, send, settled
from tests.stream.toolkit import OwnServer, opened
from tests.support import message

PAUSE = Pause(kind="handler", value="h", names=("h",))


async def handled(stream: Producer, group: Consumer, *names: str) -> list[str]:
    """Have messages handled; return the IDs of their entries."""
    await send(stream, *names)
    assert len(await run_all(group)) == len(names)
    return [entry_id async for entry_id in entries_of(stream)]


async def entries_of(stream: Producer) -> Any:
    key = stream.partitions[0].stream
    for entry_id, _ in await stream.client.execute(0, "XRANGE", key, "-", "+"):
        yield entry_id.decode()


async def looked(stream: Producer, run: str = "run") -> UnfinishedWork:
    found = UnfinishedWork(stream.client, "main", run)
    async for _ in found.look():
        pass
    return found


async def step(
    stream: Producer,
    dead_ids: Sequence[str],
    *,
    before: str = "-",
    after: str = "9-9",
    run: str = "run",
    handler: str = "",
    limits: Limits = Limits(),  # noqa: B008 - a named tuple cannot change
) -> tuple[str, ReplayProgress]:
    return await Replays(stream.client, "main").step(
        0, "r", run, dead_ids, before=before, after=after, unfinished=0, handler=handler,
        limits=limits, acts=True,
    )  # fmt: skip


async def test_a_replayed_message_keeps_its_id_and_its_owner_and_counts_attempts_anew(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    (entry_id,) = await handled(stream, group, "one")
    await looked(stream)

    assert await step(stream, [entry_id], handler="send") == ("went on", ReplayProgress("9-9", 1))

    (entry,) = (await group.take(10)).entries
    assert entry.fields[b"id"] == b"one"
    assert entry.fields[b"owner"] == entry_id.encode()
    assert entry.fields[b"handler"] == b"send"
    assert b"attempts" not in entry.fields
    await group.settle([settled(entry)])


@pytest.mark.parametrize("is_one", [False, True], ids=["all", "one"])
async def test_what_moves_behind_the_back_of_a_look_is_left_out(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis, *, is_one: bool
) -> None:
    group = await open_group()
    await send(stream, "one")
    (first,) = (await group.take(10)).entries
    await group.settle([settled(first, again(first, "h"))])
    (entry,) = (await group.take(10)).entries
    only = OneMessage(0, first.ref.id) if is_one else None
    found = UnfinishedWork(stream.client, "main", "run", only)
    look = found.look()
    await anext(look)  # the dead letters
    await anext(look)  # the delayed
    await group.settle([settled(entry, again(entry, "h", delay_ms=60_000))])
    async for _ in look:
        pass

    assert found.tokens[0] >= {first.ref.id.encode()}
    assert not redis_client.exists(group.partitions[0].moves)
    redis_client.delete(group.partitions[0].delayed, group.partitions[0].delayed_entries)


async def test_each_place_of_an_unfinished_message_is_looked_at(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    (done,) = await handled(stream, group, "done")
    pauses = Pauses(stream.client, "main")
    assert await pauses.pause(PAUSE)
    await send(stream, "k-head", "k-parked", "dead", "delayed", "again", "paused")
    head, gave_up, late, retry, held_back = (await group.take(10)).entries
    await group.settle([
        settled(gave_up, dead(gave_up)),
        settled(late, again(late, "h", delay_ms=60_000)),
        settled(retry, again(retry, "h")),
        settled(held_back, FollowUp("paused", PAUSE.name, again(held_back).changes)),
    ])  # fmt: skip
    await send(stream, "undelivered")

    found = await looked(stream)

    everything = [one async for one in entries_of(stream)]
    assert found.tokens[0] - {b""} == {one.encode() for one in everything[1:7]}
    assert found.last[0] == everything[6]
    for number, token in enumerate(everything):
        one = UnfinishedWork(stream.client, "main", "run", OneMessage(0, token))
        assert [read async for read in one.look()]
        assert one.tokens[0] == ({token.encode()} if number else set())
    assert await step(stream, [done, head.ref.id]) == (
        "went on",
        ReplayProgress("9-9", replayed=1, unfinished=1),
    )
    await group.settle([settled(head)])
    assert sorted(await run_all(group)) == ["again", "done", "k-parked", "undelivered"]
    assert [step async for step in pauses.resume(PAUSE.name)]
    assert await run_all(group) == ["paused"]
    keys = group.partitions[0]
    redis_client.delete(keys.dead, keys.delayed, keys.delayed_entries)


async def test_a_duplicate_is_left_out_and_what_is_gone_and_forgotten_is_counted(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await stream.append([message(id="a"), message(id="a"), message(id="b"), message(id="c")])
    await run_all(group)
    everything = [one async for one in entries_of(stream)]
    redis_client.xdel(stream.partitions[0].stream, everything[2])
    await looked(stream)

    found = await step(stream, everything)
    assert found == ("went on", ReplayProgress("9-9", replayed=2, duplicates=1, gone=1))
    assert await run_all(group) == ["a", "c"]

    redis_client.delete(group.partitions[0].owners)
    found = await step(stream, everything[:1], before="9-9", after="9-10")
    assert found == ("went on", ReplayProgress("9-10", 3, forgotten=1, duplicates=1, gone=1))
    assert await run_all(group) == ["a"]


async def test_an_ordered_message_joins_the_end_of_its_key(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    (entry_id,) = await handled(stream, group, "k-1")
    await send(stream, "k-2", "k-3")
    taken = await group.take(10)
    await looked(stream)
    await step(stream, [entry_id])
    assert ids(taken) == ["k-2"]
    assert (await group.take(10)).is_empty
    await group.settle([settled(taken.entries[0])])
    assert await run_all(group) == ["k-3", "k-1"]


async def test_a_step_whose_reply_was_lost_does_nothing_when_it_is_sent_again(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    first, second = await handled(stream, group, "one", "two")
    await looked(stream)

    done = await step(stream, [first], after=first)
    assert await step(stream, [first], after=first) == done == ("went on", ReplayProgress(first, 1))
    assert (await step(stream, [second], before="-", after=second))[0] == "other cursor"
    assert (await step(stream, [second], before=first, after=second))[1].replayed == 2
    assert await Replays(stream.client, "main").progress("r") == [ReplayProgress(second, 2)]
    assert await run_all(group) == ["one", "two"]


@pytest.mark.one_server
async def test_a_step_ends_early_where_messages_are_large(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await stream.append([message(b"x" * 150_000, id=f"m{n}") for n in range(3)])
    await run_all(group)
    everything = [one async for one in entries_of(stream)]
    await looked(stream)
    assert await step(stream, everything) == ("went on", ReplayProgress(everything[1], 2))
    assert await run_all(group) == ["m0", "m1"]


async def test_it_rests_above_its_limits(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    first, second = await handled(stream, group, "one", "two")
    await looked(stream)
    redis_client.hset(stream.partitions[0].backlog, mapping={"messages": 10, "bytes": 1000})
    for limits in (Limits(messages=10), Limits(bytes=1000)):
        assert await step(stream, [first], limits=limits) == ("rests", ReplayProgress())
    redis_client.delete(stream.partitions[0].backlog)
    assert (await step(stream, [first], after=first, limits=Limits(5, 500, 1)))[0] == "went on"
    state, done = await step(stream, [second], before=first, limits=Limits(again=1))
    assert (state, done.replayed) == ("rests", 1)
    assert await run_all(group) == ["one"]


async def test_one_run_at_a_time_has_the_right(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    (entry_id,) = await handled(stream, group, "one")
    await looked(stream)
    with pytest.raises(ReplayTakenOverError, match="under way"):
        await looked(stream, "other")
    redis_client.hset(group.partitions[0].counts, "replay", "run 5")
    await looked(stream, "other")
    assert (await step(stream, [entry_id]))[0] == "taken over"
    await Replays(stream.client, "main").give_up_right("run")
    assert (await step(stream, [entry_id], run="other"))[0] == "went on"
    await Replays(stream.client, "main").give_up_right("other")
    await looked(stream, "third")
    assert await run_all(group) == ["one"]


async def test_where_the_group_is_made_again_a_replay_has_to_look_again(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    (entry_id,) = await handled(stream, group, "one")
    await looked(stream)
    redis_client.xgroup_destroy(stream.partitions[0].stream, "main")
    await group.open()

    assert (await step(stream, [entry_id]))[0] == "taken over"
    assert await run_all(group) == ["one"]


async def test_a_look_that_stood_still_for_too_long_is_refused(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await handled(stream, group, "one")
    look = UnfinishedWork(stream.client, "main", "run").look()
    await anext(look)
    redis_client.delete(group.partitions[0].moves)
    with pytest.raises(ReplayTakenOverError, match="interrupted"):
        async for _ in look:
            pass


@pytest.mark.one_server
async def test_a_full_redis_takes_no_replay(own_server: OwnServer) -> None:
    server = own_server()
    async with opened(server) as (stream, group):
        await group.open()
        (entry_id,) = await handled(stream, group, "one")
        await looked(stream)
        await stream.client.execute(0, "CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StreamUnavailableError, match="maxmemory"):
            await step(stream, [entry_id])
        await stream.client.execute(0, "CONFIG", "SET", "maxmemory", "0")
        assert await run_all(group) == []
