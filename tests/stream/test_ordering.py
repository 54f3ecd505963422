"""Messages with the same key run one after another, whoever runs them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from hookmill.errors import BacklogFullError
from hookmill.message import Message, Progress
from hookmill.stream.arrival import Row
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import AGAIN, STREAM, Entry, FollowUp, Settlement, Taken
from hookmill.stream.facts import Backlog
from hookmill.stream.inspector import Inspector
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.support import (
    Server,
    Stream,
    dead_letters,
    eventually,
    message,
    taken_over,
    written_in_version_1,
)

OpenGroup = Callable[..., Awaitable[Consumer]]


async def send(stream: Producer, *names: str, source: str = "marble") -> None:
    """Append messages named `KEY-ANYTHING`; a name without a dash has no key."""
    await stream.append(
        [
            message(id=name, source=source, key=name.partition("-")[0] if "-" in name else "")
            for name in names
        ]
    )


def ids(taken: Taken) -> list[str]:
    return [entry.fields[b"id"].decode() for entry in taken.entries]


def settled(entry: Entry, *follow_ups: FollowUp) -> Settlement:
    return Settlement(entry.ref, follow_ups, entry.key, entry.owner)


def again(entry: Entry, handler: str = "", delay_ms: int = 0) -> FollowUp:
    progress = Progress(owner=entry.owner.decode(), handler=handler)
    fields = {**entry.fields, **progress.to_fields()}
    return FollowUp("again", f"{progress.owner}/{handler}", fields, delay_ms)


def dead(entry: Entry) -> FollowUp:
    return FollowUp("dead", "", {**entry.fields, b"owner": entry.owner})


async def settle(group: Consumer, *takings: Taken) -> None:
    await group.settle([settled(entry) for taken in takings for entry in taken.entries])


async def run_all(group: Consumer) -> list[str]:
    """Run whatever there is, to its end; return the message IDs in the order they ran."""
    ran: list[str] = []
    while not (taken := await group.take(10)).is_empty:
        ran += ids(taken)
        await settle(group, taken)
    return ran


def parked(client: redis.Redis, group: Consumer) -> int:
    count: Any = client.get(group.partitions[0].parked)
    return int(count or 0)


def traces(client: redis.Redis, group: Consumer) -> list[Any]:
    """What ordering has left in Redis: busy keys and parked messages."""
    keys = group.partitions[0]
    busy: list[Any] = client.hkeys(keys.busy)
    return [*busy, *client.scan_iter(f"{keys.parked}:*")]


async def test_of_one_key_only_the_first_is_taken_and_other_keys_go_on(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await send(stream, "a-1", "a-2", "b-1", "a-3", "free", "b-2")
    first = await group.take(10)
    assert ids(first) == ["a-1", "b-1", "free"]
    assert first.parked == 3
    assert (await group.take(10)).is_empty
    assert parked(redis_client, group) == 3

    await group.settle([settled(first.entries[0])])
    second = await group.take(10)
    assert ids(second) == ["a-2"]  # b's next waits for its own
    await settle(group, Taken(first.entries[1:], []))
    third = await group.take(10)
    assert ids(third) == ["b-2"]
    await settle(group, second, third)
    assert await run_all(group) == ["a-3"]
    assert parked(redis_client, group) == 0
    assert traces(redis_client, group) == []


async def test_the_order_of_arrival_holds_across_workers(
    stream: Producer, open_group: OpenGroup
) -> None:
    workers = [await open_group(f"c{n}") for n in range(3)]
    await send(stream, *(f"{key}-{n}" for n in range(20) for key in "abcde"))
    ended: list[str] = []

    async def run(group: Consumer, entry: Entry) -> None:
        name = entry.fields[b"id"].decode()
        # The later ones are quicker: begun beside an earlier one they would end before it.
        await asyncio.sleep(0.02 / (1 + int(name[2:])))
        ended.append(name)
        await group.settle([settled(entry)])

    async def work(group: Consumer) -> None:
        while len(ended) < 100:
            taken = await group.take(10)
            await asyncio.gather(*(run(group, entry) for entry in taken.entries))
            await asyncio.sleep(0.001)

    await asyncio.gather(*map(work, workers))
    for key in "abcde":
        assert [one for one in ended if one[0] == key] == [f"{key}-{n}" for n in range(20)]


async def test_a_retry_blocks_only_its_own_key(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await send(stream, "a-1", "a-2", "b-1", "b-2")
    failed, fine = (await group.take(10)).entries
    await group.settle([settled(failed, again(failed, delay_ms=150)), settled(fine)])
    assert await run_all(group) == ["b-2"]
    await send(stream, "a-3", "b-3")
    assert await run_all(group) == ["b-3"]

    async def is_due() -> bool:
        return (await group.release(10))[0] == 1

    await eventually(is_due)
    assert await run_all(group) == ["a-1", "a-2", "a-3"]
    assert traces(redis_client, group) == []


@pytest.mark.parametrize("kind", ["done", "dead", "handed back"])
async def test_what_is_over_lets_the_next_go_and_what_is_handed_back_does_not(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis, kind: str
) -> None:
    group = await open_group()
    await send(stream, "a-1", "a-2")
    (head,) = (await group.take(10)).entries
    follow_ups = {"done": (), "dead": (dead(head),), "handed back": (again(head),)}[kind]
    await group.settle([settled(head, *follow_ups)])
    next_one = await group.take(10)
    assert ids(next_one) == (["a-1"] if kind == "handed back" else ["a-2"])
    await settle(group, next_one)
    await run_all(group)
    redis_client.delete(group.partitions[0].dead)


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


async def fan_out(group: Consumer) -> tuple[Entry, Entry]:
    """Take a message that two handlers want, and then both of its entries."""
    (head,) = (await group.take(10)).entries
    await group.settle([settled(head, again(head, "index"), again(head, "mail"))])
    index, mail = (await group.take(10)).entries
    return index, mail


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
    repeated = await group.take(10)
    assert [repeat.message_id for repeat in repeated.duplicates] == ["a-1"]
    await settle(group, repeated)
    assert ids(repeated) + await run_all(group) == ["a-2", "a-1"]
    assert traces(redis_client, group) == []


async def test_a_head_that_ran_anew_after_its_group_was_lost_does_not_block_its_key(
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


async def test_a_key_is_its_heads_for_as_long_as_that_takes(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    group = await open_group()
    await send(stream, "a-1", "a-2")
    head = await group.take(10)
    keys = group.partitions[0]
    for key in (keys.busy, keys.parked, f"{keys.parked}:marble:a"):
        assert redis_client.ttl(key) == -1, f"{key} expires"
    await settle(group, head)
    assert await run_all(group) == ["a-2"]


async def test_a_dead_workers_keys_move_on(stream: Producer, open_group: OpenGroup) -> None:
    gone, group = await open_group("gone"), await open_group("c2")
    await send(stream, "a-1", "a-2", "b-1")
    await gone.take(10)
    assert (await group.take(10)).is_empty
    found = await taken_over(group)
    assert ids(found) == ["a-1", "b-1"]
    await settle(group, found)
    assert await run_all(group) == ["a-2"]


async def test_a_late_success_does_not_let_the_next_overtake_a_second_run(
    stream: Producer, open_group: OpenGroup
) -> None:
    # Without a key a late success acknowledges for good. Here another worker runs the message
    # already, and the next one must not begin beside it.
    late, other = await open_group("late"), await open_group("other")
    await send(stream, "a-1", "a-2")
    (entry,) = (await late.take(10)).entries
    theirs = await taken_over(other)
    assert await late.settle([settled(entry)]) == [entry.ref.id]
    assert (await late.take(10)).is_empty
    await settle(other, theirs)
    assert await run_all(late) == ["a-2"]


async def test_a_settlement_whose_reply_was_lost_lets_only_one_go(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await send(stream, "a-1", "a-2", "a-3")
    (head,) = (await group.take(10)).entries
    await group.settle([settled(head)])
    assert await group.settle([settled(head)]) == [head.ref.id]
    taken = await group.take(10)
    assert ids(taken) == ["a-2"]
    await settle(group, taken)
    assert await run_all(group) == ["a-3"]


async def test_a_repeat_of_a_message_in_line_is_dropped(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await send(stream, "a-1", "a-2", "a-1", "a-2")
    taken = await group.take(10)
    assert ids(taken) == ["a-1"]
    assert [repeat.message_id for repeat in taken.duplicates] == ["a-1", "a-2"]
    await settle(group, taken)
    assert await run_all(group) == ["a-2"]


async def test_keys_count_per_source_and_per_group(stream: Producer, open_group: OpenGroup) -> None:
    main, search = await open_group(), await open_group("c1", name="search")
    await send(stream, "a-1", "a-2")
    await send(stream, "a-x", source="qstash")
    first = await main.take(10)
    assert ids(first) == ["a-1", "a-x"]
    assert await run_all(search) == ["a-1", "a-x", "a-2"]
    await settle(main, first)
    assert await run_all(main) == ["a-2"]


@pytest.mark.parametrize("order", [(1, 2, 1, 2), (2, 1, 2, 1)])
async def test_what_older_and_newer_releases_wrote_is_kept_in_one_order(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis, order: tuple[int, ...]
) -> None:
    write = {1: written_in_version_1, 2: Message.to_fields}
    sent = [message(id=f"a-{n}", source="marble", key="a") for n in range(4)]
    await stream.append_rows(
        [Row(write[version](one)) for version, one in zip(order, sent, strict=True)]
    )
    group = await open_group()
    first = await group.take(10)
    assert (ids(first), first.parked) == (["a-0"], 3)
    (head,) = first.entries
    await group.settle([settled(head, again(head, delay_ms=1))])  # fails once
    assert (await group.take(10)).is_empty

    async def is_due() -> bool:
        return (await group.release(10))[0] == 1

    await eventually(is_due)
    retried = await group.take(10)
    assert ids(retried) == ["a-0"]
    await group.settle([settled(entry, dead(entry)) for entry in retried.entries])
    second = await group.take(10)
    assert ids(second) == ["a-1"]
    letters = DeadLetters(stream.client, "main")
    await letters.replay([str(await letters.newest())])
    await settle(group, second)
    assert await run_all(group) == ["a-2", "a-3", "a-0"]
    assert parked(redis_client, group) == 0
    assert traces(redis_client, group) == []


async def test_a_head_that_somebody_deleted_does_not_block_its_key_for_ever(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> None:
    gone, group = await open_group("gone"), await open_group("c2")
    await send(stream, "a-1", "a-2", "b-1")
    head, _ = (await gone.take(10)).entries
    redis_client.xdel(group.partitions[0].stream, head.ref.id)
    found = await taken_over(group)
    if found.is_empty:  # Redis finds the gap before it comes to the rest
        found = await taken_over(group)
    assert ids(found) == ["b-1"]
    await settle(group, found)
    assert await run_all(group) == ["a-2"]
    assert traces(redis_client, group) == []


async def test_what_is_parked_counts_as_unfinished_and_shows(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    await send(stream, *(f"a-{n}" for n in range(5)))
    head = await group.take(10)
    assert head.parked == 4
    await Upkeep(stream.client, "main").trim(0)
    assert (await Upkeep(stream.client, "main").measure_backlog()).messages == 5
    (facts,) = (await Inspector(stream.client).overview()).groups
    assert (facts.held, facts.parked, facts.waiting) == (1, 4, 0)
    assert facts.has_work
    await settle(group, head)
    await run_all(group)


async def test_a_parked_message_survives_trimming_and_keeps_every_field(
    stream: Producer, open_group: OpenGroup
) -> None:
    group = await open_group()
    sent = message(
        bytes(range(256)) * 4, id="a-2", key="a", header_block=b"X-Odd: \xe4", source="marble"
    )
    await send(stream, "a-1")
    await stream.append([sent])
    head = await group.take(10)
    await Upkeep(stream.client, "main").trim(0)
    await settle(group, head)
    assert await Upkeep(stream.client, "main").trim(0) == 2
    (entry,) = (await group.take(10)).entries
    progress = {b"owner"}
    assert {k: v for k, v in entry.fields.items() if k not in progress} == sent.to_fields()
    assert entry.ref.key_number == AGAIN
    assert head.entries[0].ref.key_number == STREAM
    await group.settle([settled(entry)])


async def test_a_settlement_that_redis_breaks_off_leaves_the_key_as_it_was(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis, server: Server
) -> None:
    """Redis refuses to write the next one: nothing is acknowledged, nothing is let go twice."""
    group = await open_group()
    await send(stream, "a-1", "a-2")
    (head,) = (await group.take(10)).entries
    kept = redis_client.dump(group.partitions[0].again)
    redis_client.set(group.partitions[0].again, "not a stream")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await group.settle([settled(head)])
    redis_client.delete(group.partitions[0].again)
    redis_client.restore(group.partitions[0].again, 0, kept)  # type: ignore[arg-type] # it was there
    assert parked(redis_client, group) == 1
    await group.settle([settled(head)])
    assert await run_all(group) == ["a-2"]


async def test_a_hot_key_fills_the_backlog_and_not_more(
    server: Server, prefix: str, open_group: OpenGroup
) -> None:
    limited = Stream(server.url, prefix, limit=Backlog(20, 0))
    group = await open_group()
    head = Taken([], [])
    for number in range(20):
        await send(limited, f"a-{number}")
        head = Taken([*head.entries, *(await group.take(10)).entries], [])
        await Upkeep(limited.client, "main").trim(0)
    with pytest.raises(BacklogFullError):
        await send(limited, "a-20")
    await limited.close()
    await settle(group, head)
    assert len(await run_all(group)) == 19


# --- against a model -------------------------------------------------------------------------


class Model:
    """Three workers, and what the tests know of their messages."""

    def __init__(self, stream: Producer) -> None:
        self.stream = stream
        self.workers = [
            Consumer(stream.client, "main", f"w{n}", dedup_window=3600) for n in range(3)
        ]
        self.in_hand: list[tuple[Consumer, Entry]] = []
        self.sent: list[str] = []
        self.over: list[str] = []

    async def send(self, key: str) -> None:
        name = f"{key}-{len(self.sent)}" if key else f"free{len(self.sent)}"
        self.sent.append(name)
        await send(self.stream, name)

    async def take(self, which: int) -> None:
        self.took(self.workers[which], await self.workers[which].take(2))

    def took(self, group: Consumer, taken: Taken) -> None:
        refs = [entry.ref for entry in taken.entries]
        self.in_hand = [(who, entry) for who, entry in self.in_hand if entry.ref not in refs]
        self.in_hand += [(group, entry) for entry in taken.entries]
        running: dict[bytes, set[bytes]] = {}
        for _, entry in self.in_hand:
            running.setdefault(entry.key, set()).add(entry.fields[b"id"])
        running.pop(b"", None)
        assert all(len(messages) == 1 for messages in running.values()), running

    async def settle(self, what: str, which: int) -> None:
        if not self.in_hand:
            return
        group, entry = self.in_hand.pop(which % len(self.in_hand))
        handler = entry.fields.get(b"handler", b"").decode()
        follow_ups = {
            "done": (),
            "dead": (dead(entry),),
            "again": (again(entry, handler),),
            "fan out": tuple(again(entry, one) for one in ([handler] if handler else "xy")),
        }[what]
        late = await group.settle([settled(entry, *follow_ups)])
        if not late and what in {"done", "dead"}:
            self.over.append(entry.fields[b"id"].decode())

    async def take_over(self, which: int) -> None:
        """One of them takes over whatever was in hand: the others had died."""
        self.in_hand = []
        wait = 0.0
        while not wait:
            taken, wait = await self.workers[which].take_over(100, 0, 0.001)
            self.took(self.workers[which], taken)
        await asyncio.sleep(wait)

    async def finish(self) -> None:
        """Have all come to its end, and see that it is all there was, in the order it came."""
        await self.take_over(0)
        while True:
            while self.in_hand:
                await self.settle("done", 0)
            await self.take(0)
            if not self.in_hand:
                break
        assert set(self.over) == set(self.sent)
        for key in "ab":
            ended = [name for name in dict.fromkeys(self.over) if name[0] == key]
            assert ended == [name for name in self.sent if name[0] == key]
        keys = self.workers[0].partitions[0]
        execute = self.stream.client.execute
        assert not await execute(0, "EXISTS", keys.busy)
        assert not int(await execute(0, "GET", keys.parked) or 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(["a", "b", ""])),
        st.tuples(st.sampled_from(["take", "take over"]), st.integers(0, 2)),
        st.tuples(st.sampled_from(["done", "again", "dead", "fan out"]), st.integers(0, 5)),
    ),
    max_size=60,
)


@given(steps=STEPS)
async def test_whatever_happens_a_key_has_one_message_in_hand_and_none_is_lost(
    server: Server, steps: list[tuple[str, Any]]
) -> None:
    stream = Stream(server.url, f"model{secrets.token_hex(4)}")
    model = Model(stream)
    await model.workers[0].open()
    try:
        for what, which in steps:
            match what:
                case "send":
                    await model.send(which)
                case "take":
                    await model.take(which)
                case "take over":
                    await model.take_over(which)
                case _:
                    await model.settle(what, which)
        await model.finish()
    finally:
        prefix = stream.partitions[0].base.split(":")[0]
        with redis.Redis.from_url(server.url) as client:
            client.delete(*client.scan_iter(f"{prefix}:*"))
        for group in model.workers:
            await group.close()
        await stream.close()
