"""What became of watched messages is told once, from the history of their group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hookmill.admin import outcome_feed
from hookmill.admin.outcome_feed import FOLLOWED_FOR, OutcomeFeed
from hookmill.admin.tailing import Tail, Wanted
from hookmill.config.settings import Settings
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry
from hookmill.stream.producer import Producer
from tests.histories import BOUNDS, dead, settlement
from tests.support import Clock, message
from worker.outcome import Done

FACTS = {"entry": "1-0", "source": "shop", "type": "a", "message_id": "m"}


@pytest.fixture
async def group(open_group: Callable[..., Any]) -> Consumer:
    made: Consumer = await open_group("c1", history=BOUNDS)
    return made


async def taken(stream: Producer, group: Consumer, number: int) -> list[Entry]:
    await stream.append([message(id=f"{n}") for n in range(number)])
    return (await group.take(number)).entries


def told(found: list[dict[str, Any]]) -> list[tuple[str, str, int, str]]:
    return [(one["outcome"], one["handler"], one["attempt"], one["reason"]) for one in found]


async def test_each_outcome_is_told_once_with_its_message(
    stream: Producer, group: Consumer, emptied: Callable[[], None]
) -> None:
    feed = OutcomeFeed(stream.client, "main")
    first, second, unwatched = await taken(stream, group, 3)
    for entry in (first, second):
        feed.follow(0, entry.owner.decode(), FACTS | {"message_id": entry.owner.decode()})
    assert await feed.look() == []

    await group.settle([settlement(first, Done("book")), settlement(unwatched, Done("book"))])
    (found,) = await feed.look()
    assert (found["message_id"], found["source"]) == (first.owner.decode(), "shop")
    assert told([found]) == [("done", "book", 1, "")]
    assert found["seconds"] == 0.25

    await group.settle([dead(second)])
    assert told(await feed.look()) == [("dead", "book", 2, "failed")]
    assert await feed.look() == []
    emptied()


async def test_only_the_last_messages_are_followed_and_not_for_ever(
    stream: Producer, group: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome_feed, "MOST", 2)
    clock = Clock()
    feed = OutcomeFeed(stream.client, "main", clock)
    entries = await taken(stream, group, 3)
    for entry in entries:
        feed.follow(0, entry.owner.decode(), FACTS)
    await group.settle([settlement(entry, Done("book")) for entry in entries[:2]])
    assert len(await feed.look()) == 1
    clock.now += FOLLOWED_FOR
    await group.settle([settlement(entries[2], Done("book"))])
    assert await feed.look() == []


async def test_with_more_lists_than_one_look_reads_each_has_its_turn(
    stream: Producer, group: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome_feed, "_LISTS", 2)
    feed = OutcomeFeed(stream.client, "main")
    entries = await taken(stream, group, 5)
    for number in range(20):  # older ones, each in a list of its own
        feed.follow(0, f"{number * 10_000}-0", FACTS)
    for entry in entries:
        feed.follow(0, entry.owner.decode(), FACTS)
    for number in range(20):
        feed.follow(0, f"{number * 10_000 + 5}-0", FACTS)
    await group.settle([settlement(entry, Done("book")) for entry in entries])
    found = [one for _ in range(100) for one in await feed.look()]
    assert told(found) == [("done", "book", 1, "")] * 5


async def test_a_tail_shows_what_became_of_what_came_in(
    stream: Producer, group: Consumer, settings: Callable[..., Settings]
) -> None:
    both = Tail(stream.client, settings(), Wanted())
    other = Tail(stream.client, settings(), Wanted(handler="other"))
    for tail in (both, other):
        await tail.start()
    (entry,) = await taken(stream, group, 1)
    assert [event.kind for event in (await both.look()).events] == ["arrived"]
    await group.settle([settlement(entry, Done("book"))])
    (event,) = (await both.look()).events
    assert (event.kind, event.facts["handler"]) == ("handled", "book")
    assert (await other.look()).events == []
