"""Dead letters in Redis: their pages, who owns their IDs afterwards, and a server that is full."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis

from hookmill.errors import StreamUnavailableError
from hookmill.message import Message, Progress
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import Entry, Settlement
from hookmill.stream.producer import Producer
from tests.given_up import GiveUp, OpenGroup, as_dead_letter
from tests.stream.toolkit import (
    dead,
    ids,
    settle_all,
)
from tests.support import (
    Server,
    Stream,
    dead_letters,
    message,
)


@pytest.fixture
async def given_up(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> AsyncIterator[tuple[Consumer, DeadLetters, list[str]]]:
    """A group with the dead letters m0 to m4, and their IDs."""
    group = await open_group()
    await stream.append([message(id=f"m{n}") for n in range(5)])
    for entry in (await group.take(5)).entries:
        await group.settle([Settlement(entry.ref, (dead(entry),))])
    yield (
        group,
        DeadLetters(stream.client, "main"),
        [letter.id for letter in await dead_letters(stream)],
    )
    redis_client.delete(group.partitions[0].dead)


async def test_dead_letters_are_read_page_by_page(
    given_up: tuple[Consumer, DeadLetters, list[str]],
) -> None:
    _, letters, dead_ids = given_up
    assert await letters.count() == 5
    page = await letters.survey("0-0", dead_ids[-1], 2)
    assert [letter.fields[b"id"] for letter in page] == [b"m0", b"m1"]
    rest = await letters.survey(f"({page[-1].id}", dead_ids[-1], 10)
    assert [letter.id for letter in rest] == dead_ids[2:]
    found = await letters.get(dead_ids[4])
    assert found is not None
    assert found.fields[b"id"] == b"m4"
    assert await letters.get("1-1") is None


async def test_the_newest_is_named_without_its_body(
    emptied: Callable[[], None], give_up: GiveUp, stream: Producer, redis_client: redis.Redis
) -> None:
    letters = DeadLetters(stream.client, "main")
    assert await letters.newest() is None
    *_, last = await give_up(message(id="small"), message(bytes(1_000_000), id="large"))

    def sent() -> int:
        stats: Any = redis_client.info("stats")
        return int(stats["total_net_output_bytes"])

    before = sent()
    assert await letters.newest() == last
    assert sent() - before < 100_000
    emptied()


async def test_a_replayed_dead_letter_is_taken_again_with_a_fresh_count(
    given_up: tuple[Consumer, DeadLetters, list[str]],
) -> None:
    group, letters, (first, second, *_) = given_up
    assert await letters.replay([second, "1-1", first]) == 2
    assert await letters.replay([second]) == 0
    assert await letters.count() == 3
    taken = await group.take(10)
    assert ids(taken.entries) == ["m1", "m0"]
    assert not taken.duplicates
    for entry in taken.entries:
        progress = Progress.from_fields(entry.fields, "")
        assert (progress.handler, progress.attempts) == ("h", 0)
        assert b"reason" not in entry.fields
    await settle_all(group, *taken.entries)


async def test_a_dead_letter_can_be_replayed_for_another_handler(
    given_up: tuple[Consumer, DeadLetters, list[str]],
) -> None:
    group, letters, (first, second, *_) = given_up
    assert await letters.replay([second, "1-1", first], to="mail") == 2
    taken = await group.take(10)
    assert ids(taken.entries) == ["m1", "m0"]
    assert not taken.duplicates
    for entry in taken.entries:
        progress = Progress.from_fields(entry.fields, "")
        assert (progress.handler, progress.attempts) == ("mail", 0)
        assert b"reason" not in entry.fields
        assert Message.from_fields(entry.fields).body
    await settle_all(group, *taken.entries)


async def test_a_dropped_dead_letter_is_gone(
    stream: Producer, given_up: tuple[Consumer, DeadLetters, list[str]]
) -> None:
    _, letters, dead_ids = given_up
    assert await letters.drop([*dead_ids[:2], "1-1"]) == 2
    assert [letter.id for letter in await dead_letters(stream)] == dead_ids[2:]


@pytest.fixture
def letters(stream: Stream) -> DeadLetters:
    """The dead letters of the group `main`."""
    return DeadLetters(stream.client, "main")


async def test_large_dead_letters_come_in_small_pages_without_their_bodies(
    letters: DeadLetters, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    await give_up(*(message(b"x" * 600_000, id=f"m{number}") for number in range(4)))

    page = await letters.survey("0-0", "+", 100)

    assert [letter.fields[b"id"] for letter in page] == [b"m0", b"m1"]
    assert {letter.fields[b"body"] for letter in page} == {b""}
    assert len(await letters.survey(f"({page[-1].id}", "+", 100)) == 2
    emptied()


async def delivered(stream: Stream, group: Consumer, sent: Message) -> str:
    """Deliver a message; return whether it would run, and settle it."""
    await stream.append([sent])
    taken = await group.take(10)
    await group.settle(Settlement(entry.ref) for entry in taken.entries)
    assert len(taken.entries) + len(taken.duplicates) == 1
    return "runs" if taken.entries else "duplicate"


async def test_a_dropped_dead_letter_releases_its_id(
    letters: DeadLetters, give_up: GiveUp, stream: Stream, open_group: OpenGroup
) -> None:
    dropped, other = message(id="msg_1"), message(id="msg_2")
    group = await open_group()
    assert await delivered(stream, group, other) == "runs"
    (dead_id,) = await give_up(dropped)
    assert await delivered(stream, group, dropped) == "duplicate"

    # It is found although the operator does not give the workers' duplicate window.
    assert await letters.drop([dead_id]) == 1

    assert await delivered(stream, group, dropped) == "runs"
    assert await delivered(stream, group, dropped) == "duplicate"
    assert await delivered(stream, group, other) == "duplicate"


async def test_an_id_that_another_entry_has_come_to_own_stays_with_it(
    letters: DeadLetters, give_up: GiveUp, stream: Stream, open_group: OpenGroup
) -> None:
    sent = message(id="msg_1")
    (dead_id,) = await give_up(sent, changed={b"owner": b"1-1"})

    await letters.drop([dead_id])

    assert await delivered(stream, await open_group(), sent) == "duplicate"


async def test_an_id_is_released_from_the_generation_before_as_well(
    letters: DeadLetters,
    give_up: GiveUp,
    stream: Stream,
    open_group: OpenGroup,
    redis_client: redis.Redis,
) -> None:
    group = await open_group()  # a window of an hour
    sent = message(id="msg_1")
    (dead_id,) = await give_up(sent)
    moved = as_of_the_last_generation(redis_client, group.partitions[0].owners, 3600)
    assert moved == 1
    assert await delivered(stream, group, sent) == "duplicate"

    await letters.drop([dead_id])

    assert await delivered(stream, group, sent) == "runs"


def as_of_the_last_generation(client: redis.Redis, owners: str, window: int) -> int:
    """Rename what was recorded in this generation to the one before; return how many buckets."""
    now: Any = client.time()
    number, buckets = now[0] // window, 0
    for what in ("buckets", "size"):
        value: Any = client.hget(owners, f"{number}:{what}")
        client.hset(owners, f"{number - 1}:{what}", value)
        client.hdel(owners, f"{number}:{what}")
    times = f"{number * window} {(number + 1) * window}"
    client.hset(owners, "generations", f"{number - 1} {window} {times}")
    for key in client.scan_iter(f"{owners}:{number}:*"):
        client.rename(key, key.decode().replace(f":{number}:", f":{number - 1}:"))
        buckets += 1
    return buckets


@pytest.mark.parametrize(
    "changed", [{b"digest": b""}, {b"digest": b"abc"}, {b"owner": b""}, {b"owner": b"no token"}]
)
async def test_a_dead_letter_that_owns_nothing_can_be_dropped(
    letters: DeadLetters, give_up: GiveUp, changed: dict[bytes, bytes]
) -> None:
    (dead_id,) = await give_up(message(), changed=changed)

    assert await letters.drop([dead_id]) == 1


async def test_a_replay_keeps_the_ids_owner(
    letters: DeadLetters, give_up: GiveUp, stream: Stream, open_group: OpenGroup
) -> None:
    sent = message(id="msg_1")
    group = await open_group()
    (dead_id,) = await give_up(sent)

    await letters.replay([dead_id])

    assert [entry.fields[b"id"] for entry in (await finished(group))] == [b"msg_1"]
    assert await delivered(stream, group, sent) == "duplicate"


async def finished(group: Consumer) -> list[Entry]:
    entries = (await group.take(10)).entries
    await group.settle(Settlement(entry.ref) for entry in entries)
    return entries


@pytest.mark.parametrize("binary", ["valkey", pytest.param("redis", marks=pytest.mark.external)])
async def test_on_a_full_redis_dead_letters_can_be_listed_replayed_and_dropped(
    own_server: Callable[..., Server], binary: str
) -> None:
    server = own_server(binary=binary)
    stream = Stream(server.url, "full")
    group = Consumer(stream.client, "main", "c1", dedup_window=60)
    await group.open()
    await stream.append([message(), message()])
    await group.settle([as_dead_letter(entry) for entry in (await group.take(2)).entries])
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1mb")
        assert not await accepts(stream)

        letters = DeadLetters(stream.client, "main")
        replayed, dropped = [letter.id for letter in await letters.survey("0-0", "9" * 15, 10)]
        assert await letters.replay([replayed]) == 1
        assert await letters.drop([dropped]) == 1

        assert client.xlen("full:{0}:main:again") == 1
    await group.close()
    await stream.close()


async def accepts(stream: Stream) -> bool:
    try:
        await stream.append([message()])
    except StreamUnavailableError:
        return False
    return True


async def test_the_dead_letters_of_one_lane_have_the_numbers_that_partitions_have_among_all(
    server: Server,
) -> None:
    lane = Client(server.url, "lane-of-dead-letters", partitions=3, only=[2])
    async with Client(server.url, "lane-of-dead-letters", partitions=3) as whole, lane:
        group = Consumer(lane, "main", "w", dedup_window=60)
        await group.open()
        await Producer(lane).append([message(id="a")])
        for entry in (await group.take(1)).entries:
            await group.settle([Settlement(entry.ref, (dead(entry),))])
        await group.close()
        letters = DeadLetters(lane, "main")
        _, (oldest,) = await letters.oldest(10)
        (found,) = await DeadLetters(whole, "main").survey("0-0", "9999999999999", 10)
        assert oldest.id == await letters.newest() == found.id
        assert found.id.endswith("@2")
        assert (await letters.drop([found.id.replace("@2", "@1")]), await letters.count()) == (0, 1)
        assert (await letters.drop([found.id]), await letters.count()) == (1, 0)
