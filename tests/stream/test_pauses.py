"""Pauses in Redis: what they hold back, how it comes back, and what each worker is told."""

# Long because: each test needs the same group with something that is held back.

from __future__ import annotations

import msgspec
import pytest
import redis

from hookmill.message import Progress
from hookmill.stream import pauses as pauses_module
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, FollowUp, Settlement
from hookmill.stream.facts import Pause
from hookmill.stream.groups import Groups
from hookmill.stream.inspector import Inspector
from hookmill.stream.pauses import Pauses
from hookmill.stream.producer import Producer
from hookmill.stream.unfinished import UnfinishedWork
from hookmill.stream.upkeep import Upkeep
from tests.stream.toolkit import OpenGroup, again, ids, settle_all
from tests.support import Server, Stream, message

HANDLER = Pause(kind="handler", value="h", names=("h", "old"), who="Ada", why="it is broken")


def held_back(entry: Entry, pause: Pause = HANDLER) -> Settlement:
    progress = Progress(owner=entry.owner.decode(), handler="h", attempts=2)
    follow_up = FollowUp("paused", pause.name, progress.to_fields())
    return Settlement(entry.ref, (follow_up,), entry.key, entry.owner, entry.weight, entry.fields)


@pytest.fixture
def pauses(stream: Producer) -> Pauses:
    return Pauses(stream.client, "main")


@pytest.fixture
async def group(open_group: OpenGroup) -> Consumer:
    return await open_group()


async def resumed(pauses: Pauses, name: str) -> list[int]:
    """Resume; return how many messages each step has moved."""
    return [step.moved async for step in pauses.resume(name)]


async def test_what_is_held_back_comes_back_in_its_order_with_its_attempts(
    stream: Producer, group: Consumer, pauses: Pauses
) -> None:
    await stream.append([message(id=f"m{n}") for n in range(3)])
    entries = (await group.take(10)).entries
    assert await pauses.pause(HANDLER)
    assert await group.settle([held_back(entry) for entry in entries]) == []
    (noted,) = await pauses.listed()
    assert (noted.held_back, noted.why, noted.is_ending) == (3, "it is broken", False)
    assert (await group.take(10)).is_empty

    assert await resumed(pauses, HANDLER.name) == [3]
    back = (await group.take(10)).entries
    assert ids(back) == ["m0", "m1", "m2"]
    assert {Progress.from_fields(one.fields, one.ref.id).attempts for one in back} == {2}
    assert await pauses.listed() == []
    await settle_all(group, *back)


async def test_it_is_backlog_as_any_other_and_known_to_the_last_byte(
    stream: Producer, group: Consumer, pauses: Pauses
) -> None:
    await stream.append([message(b"x" * 1000), message(b"x" * 1000)])
    upkeep = Upkeep(stream.client, "main")
    entries = (await group.take(10)).entries
    before = await upkeep.measure_backlog()
    await pauses.pause(HANDLER)
    await group.settle([held_back(entry) for entry in entries])
    after = await upkeep.measure_backlog()
    facts = await Inspector(stream.client).group("main")
    assert (after.messages, facts.paused, facts.backlog, facts.again) == (2, 2, 2, 0)
    assert before.bytes < after.bytes < before.bytes + 200  # it has its progress too
    assert [pause.name for pause in facts.pauses] == ["handler:h"]

    await resumed(pauses, HANDLER.name)
    assert await upkeep.measure_backlog() == after
    back = (await group.take(10)).entries
    await group.settle([Settlement(one.ref, weight=one.weight) for one in back])
    assert (await upkeep.measure_backlog()).messages == 0


async def test_bytes_that_are_held_back_are_counted_again(
    stream: Producer, group: Consumer, pauses: Pauses, redis_client: redis.Redis
) -> None:
    await stream.append([message(b"x" * 1000), message(b"x" * 3000)])
    await pauses.pause(HANDLER)
    await group.settle([held_back(entry) for entry in (await group.take(10)).entries])
    upkeep = Upkeep(stream.client, "main")
    right = await upkeep.measure_backlog()
    counts = stream.partitions[0].of_group("main").counts
    redis_client.hset(counts, mapping={"unfinished:bytes": 1, "recount": ""})
    assert await upkeep.measure_backlog() == right
    await resumed(pauses, HANDLER.name)
    await settle_all(group, *(await group.take(10)).entries)


async def test_what_is_settled_after_its_pause_has_ended_is_taken_again(
    stream: Producer, group: Consumer, pauses: Pauses, redis_client: redis.Redis
) -> None:
    await stream.append([message(id="late")])
    (entry,) = (await group.take(10)).entries
    await pauses.pause(HANDLER)
    await resumed(pauses, HANDLER.name)
    await group.settle([held_back(entry)])
    (back,) = (await group.take(10)).entries
    assert ids([back]) == ["late"]
    await settle_all(group, back)
    assert not redis_client.exists(stream.partitions[0].of_group("main").paused)


async def test_a_key_waits_for_its_message_that_is_held_back(
    stream: Producer, group: Consumer, pauses: Pauses
) -> None:
    await stream.append([message(id=f"k{n}", key="k") for n in range(3)])
    (head,) = (await group.take(10)).entries
    await pauses.pause(HANDLER)
    await group.settle([held_back(head)])
    assert (await group.take(10)).is_empty
    await resumed(pauses, HANDLER.name)
    for n in range(3):
        (entry,) = (await group.take(10)).entries
        assert ids([entry]) == [f"k{n}"]
        await group.settle([Settlement(entry.ref, (), entry.key, entry.owner)])


async def test_while_all_is_paused_a_take_gives_nothing_and_a_resume_wakes(
    stream: Producer, open_group: OpenGroup, pauses: Pauses
) -> None:
    group, other = await open_group("c1"), await open_group("c2")
    await pauses.pause(Pause(kind="all"))
    await stream.append([message(id="m")])
    assert await group.wait(10)
    assert (await group.take(10)).is_empty
    assert group.pauses.is_all
    assert not await other.wait(0.05)
    await resumed(pauses, "all")
    assert await other.wait(10)
    (entry,) = (await other.take(10)).entries
    assert not other.pauses.is_all
    await settle_all(other, entry)


async def test_a_direct_read_gives_nothing_while_all_is_paused(
    stream: Producer, group: Consumer, pauses: Pauses
) -> None:
    await stream.append([message(id=f"m{n}") for n in range(400)])
    first = (await group.take(100)).entries  # from now on it reads directly
    await pauses.pause(Pause(kind="all"))
    assert (await group.take(100)).is_empty
    await resumed(pauses, "all")
    await pauses.pause(HANDLER)
    second = (await group.take(300)).entries
    assert len(second) == 300
    assert group.pauses.holds(0, "", b"", ("old",)) == "handler:h"
    await settle_all(group, *first, *second)
    await resumed(pauses, HANDLER.name)


async def test_each_take_tells_the_worker_of_a_new_pause_before_it_gives_anything(
    stream: Producer, group: Consumer, pauses: Pauses
) -> None:
    known = group.pauses
    key = Pause(kind="key", source="acme", value="A:1")
    await pauses.pause(HANDLER)
    await pauses.pause(Pause(kind="source", value="stripe"))
    await pauses.pause(key)
    assert not known.is_any
    await group.take(1)
    assert known.is_any
    assert known.holds(0, "qstash", b"", ("other",)) is None
    assert known.holds(0, "qstash", b"", ("x", "old")) == "handler:h"
    assert known.holds(0, "stripe", b"") == "source:stripe"
    assert known.holds(0, "acme", b"acme:A:1") == "key:acme:A:1"
    assert known.holds(0, "acme", b"acme:A") is None
    for name in ("handler:h", "source:stripe", key.name):
        await resumed(pauses, name)
    await group.take(1)
    assert not known.is_any


async def test_resuming_goes_in_steps_and_another_one_goes_on_where_it_broke_off(
    stream: Producer,
    group: Consumer,
    pauses: Pauses,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pauses_module, "STEP", 4)
    await stream.append([message(id=f"m{n}") for n in range(10)])
    await pauses.pause(HANDLER)
    await group.settle([held_back(entry) for entry in (await group.take(10)).entries])
    steps = pauses.resume(HANDLER.name)
    assert (await anext(steps)) == (4, 6)
    await steps.aclose()  # as if the command had been killed
    (ending,) = await pauses.listed()
    assert (ending.is_ending, ending.held_back) == (True, 6)
    await group.take(1)
    assert not group.pauses.is_any
    look = await group.look_at_delayed()
    assert look.next_due is not None
    assert 1 < look.next_due <= 2  # so long the command has for its next step
    await pauses.end_due([0])
    assert (await group.look_at_delayed()).pauses_due == [0]
    await pauses.end_due([0])
    assert await pauses.listed() == []
    assert (await group.look_at_delayed()).next_due is None
    back = (await group.take(20)).entries
    assert ids(back) == [f"m{n}" for n in range(1, 10)]
    await settle_all(group, *back, *(await group.recover(0, 9, 60, 9**9, []))[0].entries)


async def test_a_step_ends_after_so_many_bytes(
    stream: Producer, group: Consumer, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses_module, "STEP_BYTES", 1500)
    await stream.append([message(b"x" * 1000) for _ in range(5)])
    await pauses.pause(HANDLER)
    await group.settle([held_back(entry) for entry in (await group.take(10)).entries])
    assert await resumed(pauses, HANDLER.name) == [2, 2, 1]
    await settle_all(group, *(await group.take(10)).entries)


async def test_a_pause_that_is_made_again_while_it_is_resumed_keeps_what_is_left(
    stream: Producer, group: Consumer, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses_module, "STEP", 1)
    await stream.append([message(id="a"), message(id="b")])
    await pauses.pause(HANDLER)
    await group.settle([held_back(entry) for entry in (await group.take(10)).entries])
    steps = pauses.resume(HANDLER.name)
    await anext(steps)
    await pauses.pause(HANDLER)
    await steps.aclose()
    (noted,) = await pauses.listed()
    assert (noted.is_ending, noted.held_back) == (False, 1)
    (entry,) = (await group.take(10)).entries
    await settle_all(group, entry)
    await resumed(pauses, HANDLER.name)
    await settle_all(group, *(await group.take(10)).entries)


async def test_a_resume_does_not_end_what_was_paused_again_while_it_ran(
    stream: Producer, group: Consumer, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses_module, "STEP", 1)
    await stream.append([message(id="a"), message(id="b")])
    await pauses.pause(msgspec.structs.replace(HANDLER, since_ms=1))
    await group.settle([held_back(entry) for entry in (await group.take(10)).entries])
    steps = pauses.resume(HANDLER.name, since_ms=1)
    assert (await anext(steps)).moved == 1
    await pauses.pause(msgspec.structs.replace(HANDLER, since_ms=2))
    assert [step async for step in steps] == [(0, 0)]
    (noted,) = await pauses.listed()
    assert (noted.is_ending, noted.held_back, noted.since_ms) == (False, 1, 2)
    await resumed(pauses, HANDLER.name)
    await settle_all(group, *(await group.take(10)).entries)


async def test_a_pause_is_heeded_whose_version_redis_has_lost(
    stream: Producer, open_group: OpenGroup, pauses: Pauses, redis_client: redis.Redis
) -> None:
    await pauses.pause(HANDLER)
    redis_client.delete(stream.partitions[0].of_group("main").counts)
    new = await open_group("new")
    await new.take(1)
    assert new.pauses.is_any
    await resumed(pauses, HANDLER.name)


async def test_what_somebody_deleted_is_no_backlog_after_the_pause(
    stream: Producer, group: Consumer, pauses: Pauses, redis_client: redis.Redis
) -> None:
    await stream.append([message(), message()])
    await pauses.pause(HANDLER)
    await pauses.pause(Pause(kind="source", value="stripe"))
    await group.settle([held_back(entry) for entry in (await group.take(10)).entries])
    redis_client.delete(f"{group.partitions[0].paused}:{HANDLER.name}")
    await resumed(pauses, HANDLER.name)
    assert (await Upkeep(stream.client, "main").measure_backlog()).messages == 0
    await resumed(pauses, "source:stripe")


async def test_a_long_list_of_what_is_held_back_is_read_many_at_a_time(
    stream: Producer, group: Consumer, pauses: Pauses, redis_client: redis.Redis
) -> None:
    # One at a time, each read goes through the list: with 100,000 entries that held up Redis.
    sizes = [10] * 100 + [100_000] + [10] * 200
    await stream.append([message(b"x" * size, id=f"m{n}") for n, size in enumerate(sizes)])
    await pauses.pause(HANDLER)
    entries = (await group.take(1000)).entries
    await group.settle([held_back(entry) for entry in entries])
    upkeep = Upkeep(stream.client, "main")
    right = await upkeep.measure_backlog()
    counts = stream.partitions[0].of_group("main").counts
    redis_client.hset(counts, mapping={"unfinished:bytes": 1, "recount": ""})
    redis_client.config_resetstat()
    assert await upkeep.measure_backlog() == right
    found = UnfinishedWork(stream.client, "main", "run")
    async for _ in found.look():
        pass
    assert found.tokens[0] - {b""} == {one.owner for one in entries}
    reads = redis_client.info("commandstats")
    assert reads["cmdstat_lrange"]["calls"] < len(sizes) / 4
    await resumed(pauses, HANDLER.name)
    await settle_all(group, *(await group.take(1000)).entries)


async def test_a_pause_is_in_every_partition_and_is_listed_if_it_is_only_in_one(
    server: Server, prefix: str, open_group: OpenGroup
) -> None:
    stream = Stream(server.url, prefix, partitions=3)
    group = Consumer(stream.client, "main", "c", dedup_window=60)
    await group.open()
    pauses = Pauses(stream.client, "main")
    await pauses.pause(HANDLER)
    await group.take(3)
    assert [group.pauses.holds(n, "", b"", ("h",)) for n in range(3)] == ["handler:h"] * 3
    steps = pauses.resume(HANDLER.name)
    await anext(steps)  # it broke off
    await steps.aclose()
    assert [one.name for one in await pauses.listed()] == ["handler:h"]
    assert await resumed(pauses, HANDLER.name) == [0, 0, 0]
    assert await pauses.listed() == []
    await pauses.pause(msgspec.structs.replace(HANDLER, until_ms=1))
    await pauses.end_due(range(3))
    assert await pauses.listed() == []
    await group.close()
    await stream.close()


async def test_there_are_only_so_many(pauses: Pauses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses_module, "MOST_PAUSES", 2)
    for name in "ab":
        assert await pauses.pause(Pause(kind="source", value=name))
    assert not await pauses.pause(HANDLER)
    assert await pauses.pause(Pause(kind="source", value="a", why="longer"))


async def test_what_another_release_wrote_of_a_pause_pauses_all_the_same(
    stream: Producer, group: Consumer, pauses: Pauses, redis_client: redis.Redis
) -> None:
    key = stream.partitions[0].of_group("main").paused
    await pauses.pause(HANDLER)
    redis_client.hset(key, "pause handler:h", "on 0 [1]")
    redis_client.hset(key, "pause key:a:b:c", "on 5 {}")
    redis_client.hset(key, "pause source:s", "later than this")
    found = {one.name: one for one in await pauses.listed()}
    assert found.keys() == {"handler:h", "key:a:b:c"}
    assert (found["key:a:b:c"].source, found["key:a:b:c"].until_ms) == ("a", 5)
    await group.take(1)
    assert group.pauses.holds(0, "", b"", ("h",)) == "handler:h"


async def test_a_dropped_group_leaves_nothing_of_its_pauses(
    stream: Producer, group: Consumer, pauses: Pauses, redis_client: redis.Redis
) -> None:
    await stream.append([message()])
    await pauses.pause(HANDLER)
    await group.settle([held_back(entry) for entry in (await group.take(10)).entries])
    assert list(redis_client.scan_iter("*:paused*"))
    await Groups(stream.client).drop("main")
    assert not list(redis_client.scan_iter("*:paused*"))


async def test_a_retry_that_is_due_is_held_back_as_well(
    stream: Producer, group: Consumer, pauses: Pauses
) -> None:
    await stream.append([message(id="m")])
    (entry,) = (await group.take(10)).entries
    await group.settle([Settlement(entry.ref, (again(entry, attempts=1, delay_ms=1),))])
    await pauses.pause(HANDLER)
    while not (await group.release(10))[0]:
        pass
    (due,) = (await group.take(10)).entries
    await group.settle([held_back(due)])
    assert [one.held_back for one in await pauses.listed()] == [1]
    await resumed(pauses, HANDLER.name)
    await settle_all(group, *(await group.take(10)).entries)
