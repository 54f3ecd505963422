"""A message is found by its ID, and its story is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from hookmill.admin import messages
from hookmill.admin.messages import NoSuchMessageError
from hookmill.admin.stories import GroupStory, Place, Story
from hookmill.config.settings import Settings
from hookmill.errors import GroupRefusedError
from hookmill.message import Progress
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import Entry, Settlement
from hookmill.stream.facts import Pause
from hookmill.stream.pauses import Pauses
from hookmill.stream.producer import Producer
from hookmill.stream.redactions import Redactions
from tests.histories import BOUNDS, dead, retry, settlement
from tests.support import Server, Stream, dead_letters, message
from worker.outcome import Done, HeldBack

OpenGroup = Callable[..., Any]


@pytest.fixture
async def group(open_group: OpenGroup) -> Consumer:
    opened: Consumer = await open_group(history=BOUNDS)
    return opened


@pytest.fixture
def found_by(settings: Callable[..., Settings]) -> Callable[..., Any]:
    """Find the one message with an ID, and return its story."""

    async def find(text: str, source: str | None = None, group: str | None = None) -> Story:
        async with messages.opened(settings(), group) as opened:
            (match,) = (await opened.find(text, source)).matches
            return await opened.story(match)

    return find


async def one_taken(stream: Producer, group: Consumer, message_id: str, **fields: Any) -> Entry:
    await stream.append([message(id=message_id, **fields)])
    (entry,) = (await group.take(1)).entries
    return entry


def in_main(story: Story) -> GroupStory:
    (found,) = story.groups
    assert found.group == "main"
    return found


def place_in_main(story: Story) -> Place:
    (place,) = in_main(story).places
    return place


async def test_the_story_follows_a_message_through_all_its_states(
    stream: Producer, group: Consumer, found_by: Callable[..., Any], redis_client: redis.Redis
) -> None:
    headers = b"X-Shop: 7"
    await stream.append([message(id="m", type="order.paid", header_block=headers)])
    story = await found_by("m")
    assert (story.type, story.headers, story.is_trimmed) == ("order.paid", "X-Shop: 7", False)
    assert (place_in_main(story).state, in_main(story).attempts) == ("waiting", ())

    (entry,) = (await group.take(1)).entries
    place = place_in_main(await found_by("m"))
    assert (place.state, place.worker, place.entry) == ("held", "c1", entry.ref.id)

    await group.settle([retry(entry, "Traceback\nValueError: no", after=600)])
    story = await found_by("m")
    place = place_in_main(story)
    assert (place.state, place.handler, place.attempts) == ("delayed", "book", 1)
    (tried,) = in_main(story).attempts
    assert (tried.outcome, tried.error) == ("retry", "Traceback\nValueError: no")
    assert tried.next_at[:19] == place.until[:19]

    redis_client.zadd(group.partitions[0].delayed, {f"{entry.ref.id}/book": 0})
    await group.release(1)
    place = place_in_main(await found_by("m"))
    assert (place.state, place.handler, place.attempts) == ("again", "book", 1)

    (again,) = (await group.take(1)).entries
    place = place_in_main(await found_by("m"))
    assert (place.state, place.handler, place.entry) == ("held", "book", again.ref.id)
    assert (await found_by(again.ref.id)).entry == story.entry

    await group.settle([dead(again)])
    (letter,) = await dead_letters(stream)
    place = place_in_main(await found_by("m"))
    assert (place.state, place.entry, place.reason) == ("dead", letter.id, "failed")
    assert (await found_by(letter.id)).entry == story.entry

    await DeadLetters(stream.client, "main").replay([letter.id])
    (replayed,) = (await group.take(1)).entries
    await group.settle([settlement(replayed, Done("book"))])
    story = await found_by("m")
    place = place_in_main(story)
    assert (place.state, place.handler, place.worker) == ("handled", "book", "c1")
    assert [one.outcome for one in in_main(story).attempts] == ["retry", "dead", "done"]
    assert in_main(story).notes == ()


async def test_headers_that_a_source_redacts_are_hidden(
    stream: Producer, found_by: Callable[..., Any]
) -> None:
    await Redactions(stream.client).note({"qstash": ("header:x-customer",)})
    await stream.append([message(id="m1", header_block=b"X-Customer: ada\r\nX-A: b")])
    assert (await found_by("m1")).headers == "X-Customer: [redacted]\r\nX-A: b"


async def test_a_message_that_was_trimmed_is_found_with_its_attempts(
    stream: Producer, group: Consumer, found_by: Callable[..., Any], redis_client: redis.Redis
) -> None:
    entry = await one_taken(stream, group, "m")
    await group.settle([settlement(entry, Done("book"))])
    redis_client.xtrim(group.partitions[0].stream, maxlen=0, approximate=False)
    for text, source in (("m", message().source), (entry.ref.id, None)):
        story = await found_by(text, source)
        assert (story.is_trimmed, story.body_bytes, story.entry) == (True, None, entry.ref.id)
        assert place_in_main(story).state == "handled"
    assert (await found_by("m", message().source)).source == message().source


async def test_a_parked_message_names_the_one_that_it_waits_for(
    stream: Producer, group: Consumer, found_by: Callable[..., Any]
) -> None:
    head = await one_taken(stream, group, "first", key="7")
    await stream.append([message(id=name, key="7") for name in ("second", "third")])
    assert (await group.take(2)).parked == 2
    place = place_in_main(await found_by("third"))
    assert (place.state, place.behind, place.behind_id) == ("parked", head.ref.id, "first")
    assert place.position == 1
    await group.settle([settlement(head, Done("book"))])
    for name in ("second", "third"):
        (entry,) = (await group.take(1)).entries
        assert place_in_main(await found_by(name)).state == "held"
        await group.settle([settlement(entry, Done("book"))])


async def test_a_message_that_a_pause_holds_back_names_the_pause(
    stream: Producer, group: Consumer, found_by: Callable[..., Any]
) -> None:
    pauses = Pauses(stream.client, "main")
    await pauses.pause(Pause(kind="handler", value="book"))
    entry = await one_taken(stream, group, "m")
    progress = Progress(owner=entry.ref.id, handler="book")
    await group.settle([settlement(entry, HeldBack(progress, "handler:book"))])
    story = await found_by("m")
    place = place_in_main(story)
    assert (place.state, place.handler, place.reason) == ("paused", "book", "handler:book")
    assert [one.outcome for one in in_main(story).attempts] == ["held_back"]
    async for _ in pauses.resume("handler:book"):
        pass
    (entry,) = (await group.take(1)).entries
    await group.settle([settlement(entry, Done("book"))])
    assert place_in_main(await found_by("m")).state == "handled"


async def test_the_entry_of_a_duplicate_names_the_one_that_it_repeats(
    stream: Producer, group: Consumer, found_by: Callable[..., Any]
) -> None:
    first = await one_taken(stream, group, "m")
    (repeated,) = await stream.append([message(id="m")])
    assert len((await group.take(1)).duplicates) == 1
    await group.settle([settlement(first, Done("book"))])
    await stream.append([message(id="m")])
    assert len((await group.take(1)).duplicates) == 1
    place = place_in_main(await found_by(repeated))
    assert (place.state, place.behind) == ("duplicate", first.ref.id)
    story = await found_by("m")
    assert place_in_main(story).state == "handled"
    assert len(in_main(story).duplicates) == 1  # since a history was there


async def test_what_a_worker_without_a_history_has_handled_says_so(
    stream: Producer, open_group: OpenGroup, found_by: Callable[..., Any]
) -> None:
    group = await open_group()
    entry = await one_taken(stream, group, "m")
    await group.settle([Settlement(entry.ref)])
    story = await found_by("m")
    assert (place_in_main(story).state, in_main(story).attempts) == ("finished", ())
    assert "keeps no history" in in_main(story).notes[0]


async def test_each_group_has_its_own_part_of_the_story(
    stream: Producer, group: Consumer, open_group: OpenGroup, found_by: Callable[..., Any]
) -> None:
    await open_group(name="other")
    entry = await one_taken(stream, group, "m")
    await group.settle([settlement(entry, Done("book"))])
    states = {one.group: one.places[0].state for one in (await found_by("m")).groups}
    assert states == {"main": "handled", "other": "waiting"}
    assert [one.group for one in (await found_by("m", group="other")).groups] == ["other"]
    with pytest.raises(GroupRefusedError, match="there are: main, other"):
        await found_by("m", group="third")


async def test_messages_of_several_sources_and_partitions_with_one_id_are_all_found(
    server: Server, prefix: str, settings: Callable[..., Settings]
) -> None:
    stream = Stream(server.url, prefix, partitions=2)
    group = Consumer(stream.client, "main", "c1", dedup_window=3600, history=BOUNDS)
    await group.open()
    try:
        sent = [
            message(f"{number}".encode(), id="m", source=source)
            for number in range(8)
            for source in ("shop", "bank")
        ]
        await stream.append(sent)
        taken = await group.take(100)
        await group.settle([settlement(entry, Done("book")) for entry in taken.entries])
        async with messages.opened(settings(partitions=2)) as opened:
            search = await opened.find("m")
            assert len(search.matches) == len(taken.entries) == 4
            assert {match.source for match in search.matches} == {"shop", "bank"}
            assert {"@1" in match.entry for match in search.matches} == {True, False}
            (match, *_) = (await opened.find(search.matches[-1].entry)).matches
            assert match == search.matches[-1]
            assert place_in_main(await opened.story(match)).state == "handled"
            assert len((await opened.find("m", "bank")).matches) == 2
    finally:
        await group.close()
        await stream.close()


@pytest.mark.parametrize("text", ["nobody", "1764500000000-0", "1764500000000-0@7", "\udcff", ""])
async def test_what_is_not_there_is_not_found(
    text: str, stream: Producer, group: Consumer, found_by: Callable[..., Any]
) -> None:
    entry = await one_taken(stream, group, "m", source="shop")
    await group.settle([settlement(entry, Done("book"))])
    with pytest.raises(NoSuchMessageError, match=r"qstash, marble, shop\. .* --source NAME"):
        await found_by(text)


async def test_a_story_changes_nothing(
    stream: Producer, group: Consumer, found_by: Callable[..., Any], redis_client: redis.Redis
) -> None:
    entry = await one_taken(stream, group, "m")
    await group.settle([retry(entry)])
    keys: Any = sorted(redis_client.keys("*"))
    before = [redis_client.dump(key) for key in keys]
    await found_by("m")
    assert sorted(redis_client.keys("*")) == keys
    assert [redis_client.dump(key) for key in keys] == before
    (again,) = (await group.take(1)).entries
    await group.settle([settlement(again, Done("book"))])
