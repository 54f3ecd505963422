"""Dead letters are listed, replayed and dropped."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis

from hookmill.message import Progress
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import Settlement
from hookmill.stream.producer import Producer
from tests.stream.toolkit import (
    OpenGroup,
    dead,
    ids,
    settle_all,
)
from tests.support import (
    dead_letters,
    message,
)


@pytest.fixture
async def buried(
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
    buried: tuple[Consumer, DeadLetters, list[str]],
) -> None:
    _, letters, dead_ids = buried
    assert await letters.count() == 5
    page = await letters.survey("0-0", dead_ids[-1], 2)
    assert [letter.fields[b"id"] for letter in page] == [b"m0", b"m1"]
    rest = await letters.survey(f"({page[-1].id}", dead_ids[-1], 10)
    assert [letter.id for letter in rest] == dead_ids[2:]
    found = await letters.get(dead_ids[4])
    assert found is not None
    assert found.fields[b"id"] == b"m4"
    assert await letters.get("1-1") is None


async def test_a_replayed_dead_letter_is_taken_again_with_a_fresh_count(
    buried: tuple[Consumer, DeadLetters, list[str]],
) -> None:
    group, letters, (first, second, *_) = buried
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


async def test_a_dropped_dead_letter_is_gone(
    stream: Producer, buried: tuple[Consumer, DeadLetters, list[str]]
) -> None:
    _, letters, dead_ids = buried
    assert await letters.drop([*dead_ids[:2], "1-1"]) == 2
    assert [letter.id for letter in await dead_letters(stream)] == dead_ids[2:]
