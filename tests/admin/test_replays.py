"""Handled messages are run again as an operator says, on real servers."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
import redis

from hookmill.admin import groups
from hookmill.admin import replays as module
from hookmill.admin.body_paths import condition_of
from hookmill.admin.redactions import SearchRefusedError
from hookmill.admin.replay_checks import CAN_REPLAY, ReplayRefusedError
from hookmill.admin.replay_filter import ReplayFilter
from hookmill.admin.replays import Replay, ReplayTally, opened, resumed
from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError
from hookmill.stream.consumer import Consumer
from hookmill.stream.facts import Heartbeat
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from hookmill.stream.redactions import Redactions
from hookmill.stream.replays import ReplayProgress, Replays
from hookmill.stream.unfinished import ReplayTakenOverError
from tests.given_up import OpenGroup
from tests.stream.ordering import run_all, settled
from tests.support import message

PAID = ReplayFilter(type="order.paid")


@pytest.fixture
async def group(stream: Producer, open_group: OpenGroup) -> Consumer:
    """A group that has handled six messages, of two types."""
    opened_group = await open_group()
    for n in range(6):
        kind = "order.paid" if n % 2 else "order.sent"
        await stream.append([message(b'{"n": %d}' % n, id=f"m{n}", type=kind, key="")])
    await run_all(opened_group)
    await beat(stream, opened_group)
    return opened_group


async def beat(stream: Producer, group: Consumer, **handlers: tuple[str, ...]) -> None:
    heartbeat = Heartbeat(
        name=group.consumer, handlers=handlers, lease=60, can=(CAN_REPLAY,),
        aliases=dict.fromkeys(["older"], next(iter(handlers), "")),
    )  # fmt: skip
    await Heartbeats(stream.client, group.name).write(heartbeat)


async def looked(replay: Replay) -> None:
    async for _ in replay.look():
        pass


async def counted(replay: Replay) -> ReplayTally:
    await looked(replay)
    *_, tally = [one async for one in replay.counting()]
    return tally


async def run(replay: Replay) -> ReplayTally:
    await looked(replay)
    *_, tally = [one async for one in replay.run()]
    return tally


async def test_what_a_filter_matches_is_counted_shown_and_run_again(
    settings: Callable[..., Settings], group: Consumer
) -> None:
    async with opened(settings(), PAID) as replay:
        tally = await counted(replay)
        assert (tally.looked_at, tally.progress) == (6, ReplayProgress("", 3))
        assert [one["message_id"] for one in replay.sample] == ["m1", "m3", "m5"]
        assert await run_all(group) == []
        *_, tally = [one async for one in replay.run()]
    assert (tally.matched, tally.progress.replayed) == (3, 3)
    assert await run_all(group) == ["m1", "m3", "m5"]


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        (ReplayFilter(), 6),
        (ReplayFilter(source="qst*"), 6),
        (ReplayFilter(source="other"), 0),
        (ReplayFilter(key="k"), 0),
        (ReplayFilter(where=(condition_of("n=3"),)), 1),
        (ReplayFilter(since_ms=1), 6),
        (ReplayFilter(before_ms=1), 0),
        (ReplayFilter(since_ms=2**47), 0),
        (ReplayFilter(before_ms=2**47, type="order.sent"), 3),
    ],
)
@pytest.mark.one_server
async def test_every_given_field_counts(
    settings: Callable[..., Settings], group: Consumer, wanted: ReplayFilter, meant: int
) -> None:
    async with opened(settings(), wanted) as replay:
        await looked(replay)
        tallies = [one async for one in replay.counting()]
    assert sum(one.progress.replayed for one in tallies[-1:]) == meant


async def test_a_handler_means_what_it_handles_and_alone_runs_it(
    settings: Callable[..., Settings], stream: Producer, group: Consumer
) -> None:
    await beat(stream, group, pay=("order.paid",))
    async with opened(settings(), ReplayFilter(handler="pay")) as replay:
        assert (await run(replay)).progress.replayed == 3
    taken = (await group.take(10)).entries
    assert {entry.fields[b"handler"] for entry in taken} == {b"pay"}
    await group.settle([settled(entry) for entry in taken])

    with pytest.raises(
        ReplayRefusedError, match="no running worker has a handler 'gone': there are pay"
    ):
        async with opened(settings(), to="gone"):
            pass
    async with opened(settings(), ReplayFilter(handler="older")) as replay:
        assert replay.plan.to == "pay"
        assert (await counted(replay)).progress.replayed == 3
    await beat(stream, group)
    with pytest.raises(ReplayRefusedError, match="no worker of the group runs"):
        async with opened(settings(), to="pay"):
            pass


async def test_an_interrupted_replay_goes_on_where_it_was_and_runs_nothing_twice(
    settings: Callable[..., Settings], group: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STEP", 1)
    async with opened(settings()) as replay:
        await looked(replay)
        async for tally in replay.run():
            if tally.progress.replayed == 2:
                break
        name = replay.name
    assert await run_all(group) == ["m0", "m1"]
    with pytest.raises(ReplayRefusedError, match=f"Those that were interrupted: {name}"):
        async with resumed(settings(), "other"):
            pass

    async with resumed(settings(), name) as replay:
        assert (await run(replay)).progress.replayed == 6
    assert await run_all(group) == ["m2", "m3", "m4", "m5"]
    with pytest.raises(ReplayRefusedError, match="has ended"):
        async with resumed(settings(), name):
            pass


async def test_a_lost_reply_repeats_nothing_and_an_outage_is_waited_for(
    settings: Callable[..., Settings], group: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Replays.step
    lost: list[object] = []

    async def step(self: Replays, *args: object, **kwargs: object) -> object:
        done = await original(self, *args, **kwargs)  # type: ignore[arg-type]
        if len(lost) < 2:
            lost.append(done)
            raise StreamUnavailableError("the reply was lost")
        return done

    monkeypatch.setattr(Replays, "step", step)
    monkeypatch.setattr(module, "_REST", 0.01)
    async with opened(settings()) as replay:
        await looked(replay)
        tallies = [one async for one in replay.run()]
    assert [one.state for one in tallies[:3]] == ["waiting for Redis"] * 2 + ["working"]
    assert tallies[-1].progress.replayed == 6
    assert len(await run_all(group)) == 6


async def test_it_rests_while_the_backlog_is_above_half(
    settings: Callable[..., Settings],
    stream: Producer,
    group: Consumer,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_REST", 0.01)
    key = stream.partitions[0].backlog
    redis_client.hset(key, "messages", 5)
    async with opened(settings(backlog_messages=10)) as replay:
        await looked(replay)
        states = []
        async for tally in replay.run():
            states.append(tally.state)
            redis_client.hset(key, "messages", 4)
    assert states == ["resting", "working", "working"]
    redis_client.delete(key)
    assert len(await run_all(group)) == 6


async def test_what_was_trimmed_before_it_was_looked_at_is_counted(
    settings: Callable[..., Settings], stream: Producer, group: Consumer, redis_client: redis.Redis
) -> None:
    async with opened(settings()) as replay:
        await counted(replay)
        redis_client.xtrim(stream.partitions[0].stream, maxlen=4, approximate=False)
        *_, tally = [one async for one in replay.run()]
    assert tally.progress[1:] == (4, 0, 0, 0, 2)
    assert len(await run_all(group)) == 4


async def test_two_replays_do_not_run_at_the_same_time(
    settings: Callable[..., Settings], group: Consumer
) -> None:
    async with opened(settings()) as first, opened(settings()) as second:
        await looked(first)
        with pytest.raises(ReplayTakenOverError, match="under way"):
            await looked(second)
    async with opened(settings(), PAID) as third:
        assert (await run(third)).progress.replayed == 3
    assert len(await run_all(group)) == 3


async def test_beside_a_worker_of_an_older_release_nothing_is_replayed(
    settings: Callable[..., Settings], stream: Producer, group: Consumer
) -> None:
    await stream.append([message(id="held")])
    (entry,) = (await group.take(1)).entries
    await Heartbeats(stream.client, "main").remove(group.consumer)
    with pytest.raises(
        ReplayRefusedError, match=f"workers of an older release run: {group.consumer}"
    ):
        async with opened(settings()):
            pass
    await beat(stream, group)
    async with opened(settings()) as replay:
        assert (await run(replay)).progress[1:] == (6, 0, 0, 1, 0)
    await group.settle([settled(entry)])
    assert len(await run_all(group)) == 6


async def test_a_group_that_began_later_replays_nothing_from_before(
    settings: Callable[..., Settings], stream: Producer, group: Consumer
) -> None:
    await groups.add(settings(), "late", "now")
    await stream.append([message(id="new")])
    late = Consumer(stream.client, "late", "w", dedup_window=60)
    assert await run_all(late) == await run_all(group) == ["new"]
    await beat(stream, late)
    async with opened(settings(group="late")) as replay:
        assert (await run(replay)).matched == 1
    assert await run_all(late) == ["new"]
    await late.close()


async def test_a_plan_is_read_as_it_was_written() -> None:
    wanted = ReplayFilter(where=(condition_of("items[*].n~a*"),), handler="h", patterns=("a",))
    plan = module.ReplayPlan(wanted=wanted, to="h", rate=2.5, last=("1-1",), matched=3)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=module.ReplayPlan) == plan


async def test_messages_are_not_searched_for_what_a_source_redacts(
    settings: Callable[..., Settings], stream: Producer, group: Consumer
) -> None:
    await Redactions(stream.client).note({"qstash": ("n",)})
    with pytest.raises(SearchRefusedError, match="source qstash redacts it"):
        async with opened(settings(), ReplayFilter(where=(condition_of("n=3"),))):
            pass
