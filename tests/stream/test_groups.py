"""Groups are made on purpose: by their first worker, by an earlier release, or by `add`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis

from hookmill.errors import GroupRefusedError
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.groups import Groups, KnownGroup
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.toolkit import OpenGroup, ids, settle_all
from tests.support import Server, message

Worker = Callable[..., Consumer]


@pytest.fixture
def groups(stream: Producer) -> Groups:
    return Groups(stream.client)


@pytest.fixture
async def worker(stream: Producer) -> AsyncIterator[Worker]:
    """Make consumers that may not make their group, as a worker of a group that is not the default
    one.
    """
    made: list[Consumer] = []

    def make(group: str = "search", name: str = "c1") -> Consumer:
        made.append(Consumer(stream.client, group, name, dedup_window=3600, makes_group=False))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def states(groups: Groups) -> dict[str, tuple[str, str]]:
    return {name: (one.state, one.origin) for name, one in (await groups.known()).items()}


def lag(client: redis.Redis, stream: Producer, group: str) -> Any:
    rows: Any = client.xinfo_groups(stream.partitions[0].stream)
    return next(row["lag"] for row in rows if row["name"] == group.encode())


async def test_a_group_that_its_first_worker_made_is_known_and_says_since_when(
    groups: Groups, open_group: OpenGroup
) -> None:
    assert await groups.known() == {}
    await open_group(name="main")
    (known,) = (await groups.known()).values()
    assert (known.name, known.state, known.origin) == ("main", "made", "first")
    assert known.since_ms > 1_700_000_000_000
    await open_group("c2", name="main")
    assert await groups.known() == {"main": known}


async def test_a_group_of_release_0_1_is_known_without_a_note(
    groups: Groups, stream: Producer, redis_client: redis.Redis, worker: Worker
) -> None:
    redis_client.xgroup_create(stream.partitions[0].stream, "search", "0", mkstream=True)
    redis_client.xgroup_create(stream.partitions[0].stream, "search:bell", "0")
    assert await groups.known() == {"search": KnownGroup("search")}
    await worker("search").open()
    with pytest.raises(GroupRefusedError, match="there is a group search already"):
        await groups.add("search", "now")


async def test_an_unknown_group_is_refused_and_nothing_is_left_of_it(
    groups: Groups, open_group: OpenGroup, worker: Worker, redis_client: redis.Redis, prefix: str
) -> None:
    await open_group(name="main")
    await groups.add("search", "now")
    before = set(redis_client.scan_iter(f"{prefix}:*"))
    with pytest.raises(GroupRefusedError) as refused:
        await worker("typo").open()
    assert str(refused.value) == (
        "there is no group typo; there are: main, search. Make it once with `hookmill group add "
        "typo --from beginning` (or `--from now`)"
    )
    assert set(redis_client.scan_iter(f"{prefix}:*")) == before
    assert set(await groups.known()) == {"main", "search"}


async def test_where_nothing_is_there_yet_a_group_is_refused_too(
    worker: Worker, redis_client: redis.Redis, prefix: str
) -> None:
    with pytest.raises(GroupRefusedError, match="there are: none"):
        await worker("typo").open()
    assert not list(redis_client.scan_iter(f"{prefix}:*"))


async def test_a_group_from_the_beginning_gets_all_that_is_retained(
    groups: Groups, stream: Producer, worker: Worker
) -> None:
    await stream.append([message(id="m1"), message(id="m2")])
    await groups.add("search", "beginning")
    await stream.append([message(id="m3")])
    group = worker("search")
    assert await group.open() == 0
    entries = (await group.take(10)).entries
    assert ids(entries) == ["m1", "m2", "m3"]
    await settle_all(group, *entries)


@pytest.mark.since_7_0
async def test_a_group_from_now_gets_what_comes_later_and_redis_can_tell_how_much_that_is(
    groups: Groups, stream: Producer, worker: Worker, redis_client: redis.Redis
) -> None:
    await stream.append([message(id="m1"), message(id="m2")])
    await groups.add("search", "now")
    assert lag(redis_client, stream, "search") == 0
    await stream.append([message(id="m3")])
    assert lag(redis_client, stream, "search") == 1
    group = worker("search")
    await group.open()
    entries = (await group.take(10)).entries
    assert ids(entries) == ["m3"]
    await settle_all(group, *entries)


async def test_a_group_that_is_there_is_not_added_again(
    groups: Groups, open_group: OpenGroup
) -> None:
    await open_group(name="main")
    await groups.add("search", "now")
    before = await groups.known()
    for name in "main", "search":
        with pytest.raises(GroupRefusedError, match=f"there is a group {name} already"):
            await groups.add(name, "beginning")
    assert await groups.known() == before


@pytest.fixture
async def three(server: Server, prefix: str) -> AsyncIterator[Client]:
    """A client of a stream with three partitions."""
    async with Client(server.url, prefix, partitions=3) as client:
        yield client


async def test_of_those_who_add_a_group_at_the_same_time_one_succeeds(three: Client) -> None:
    for number in range(10):
        both = [Groups(three).add(f"g{number}", "now") for _ in range(4)]
        results = await asyncio.gather(*both, return_exceptions=True)
        assert results.count(None) == 1, results
        assert all(isinstance(one, GroupRefusedError) for one in results if one is not None)
        assert (await Groups(three).known())[f"g{number}"].state == "made"


async def test_an_add_that_broke_off_is_finished_by_the_same_command_only(
    three: Client, redis_client: redis.Redis
) -> None:
    groups = Groups(three)
    redis_client.hset(three.partitions[0].groups, "search", "adding now")
    assert await states(groups) == {"search": ("adding", "now")}

    half_made = "group search is only half made: finish `hookmill group add search --from now`"
    for refused in (
        groups.check("search"),
        groups.make("search"),
        groups.add("search", "beginning"),
    ):
        with pytest.raises(GroupRefusedError) as error:
            await refused
        assert str(error.value) == half_made

    await groups.add("search", "now")
    assert await states(groups) == {"search": ("made", "now")}
    assert await groups.make("search") == 0


async def test_a_lost_group_is_made_again_by_a_worker_that_has_worked_and_is_known_to_others(
    groups: Groups, stream: Producer, worker: Worker, redis_client: redis.Redis
) -> None:
    await groups.add("search", "beginning")
    running = worker("search", "c1")
    await running.open()
    redis_client.xgroup_destroy(stream.partitions[0].stream, "search")
    assert await worker("search", "c2").open() == 1  # it was not dropped: the note knows it

    for key in redis_client.scan_iter(f"{stream.partitions[0].base}:*"):
        redis_client.delete(key)
    with pytest.raises(GroupRefusedError, match="there is no group search"):
        await worker("search", "c3").open()
    assert await running.open() == 2
    await worker("search", "c3").open()


async def test_a_group_from_now_that_is_lost_before_the_first_trim_starts_there_again(
    groups: Groups, stream: Producer, worker: Worker, redis_client: redis.Redis
) -> None:
    await stream.append([message(id="before")])
    await groups.add("search", "now")
    await stream.append([message(id="after")])
    redis_client.xgroup_destroy(stream.partitions[0].stream, "search")
    group = worker("search")
    assert await group.open() == 1
    entries = (await group.take(10)).entries
    assert ids(entries) == ["after"]
    await settle_all(group, *entries)


async def test_a_group_that_was_added_holds_back_the_trimming(
    groups: Groups, stream: Producer
) -> None:
    await groups.add("search", "now")
    await stream.append([message()])
    assert await Upkeep(stream.client, "search").trim(0) == 0


async def test_names_that_would_steer_a_terminal_are_shown_escaped(
    groups: Groups, stream: Producer, redis_client: redis.Redis
) -> None:
    redis_client.xgroup_create(stream.partitions[0].stream, "a\x1b[1m\xff", "0", mkstream=True)
    with pytest.raises(GroupRefusedError) as refused:
        await groups.check("b\n")
    assert "there is no group b\\n; there are: a\\x1b[1m\\xff. " in str(refused.value)


async def test_a_note_of_a_later_release_stands_for_a_group(
    groups: Groups, stream: Producer, redis_client: redis.Redis
) -> None:
    redis_client.hset(stream.partitions[0].groups, "search", "made beginning 7 and more")
    assert await groups.known() == {"search": KnownGroup("search", is_there=False)}
    await groups.check("search")
