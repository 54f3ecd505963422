"""What release 0.1 left in Redis is taken, settled, released and replayed by today's code.

`release_0_1.txt` has the commands that make it: recorded from what 0.1 wrote, a command a line, its
words as in a URL. Nothing in that file may ever change.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
import redis

from hookmill.errors import PartitionsError
from hookmill.message import Death, Message, Progress
from hookmill.signatures import Token
from hookmill.stream.arrival import Arrival, row_of
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import Entry, Settlement, Taken
from hookmill.stream.inspector import Inspector
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from hookmill.stream.view import open_view
from tests.stream.backlogs import walked
from tests.support import Server, taken_over

RECORDED = Path(__file__).with_name("release_0_1.txt")

RECEIVED = 1_790_000_000_000

WINDOW = 10**10
"""The dedup window of what was recorded: its first generation of IDs lasts for ever."""


@pytest.fixture
async def client(server: Server, redis_client: redis.Redis, prefix: str) -> AsyncIterator[Client]:
    """A client of today, for a Redis as 0.1 left it."""
    for line in RECORDED.read_text().splitlines():
        words = ["" if word == '""' else word for word in line.split()]
        execute: Any = redis_client.execute_command  # untyped
        execute(*(unquote_to_bytes(word).replace(b"PREFIX", prefix.encode()) for word in words))
    async with Client(server.url, prefix) as opened:
        yield opened
    for key in redis_client.scan_iter(f"{prefix}:*"):
        redis_client.delete(key)


@pytest.fixture
async def group(client: Client) -> AsyncIterator[Consumer]:
    opened = Consumer(client, "main", "today", dedup_window=WINDOW)
    assert await opened.open() == 0  # it is there
    yield opened
    await opened.close()


def names(entries: list[Entry]) -> list[str]:
    return [entry.fields[b"id"].decode() for entry in entries]


def as_sent(name: str, key: str = "") -> Message:
    return Message(
        id=name,
        source="qstash",
        type="order.paid",
        key=key,
        body=b'{"id":"%s"}' % name.encode(),
        header_block=b"X-Shop: 7",
        received_ms=RECEIVED,
    )


async def settle(group: Consumer, taken: Taken) -> None:
    late = await group.settle([Settlement(e.ref, (), e.key, e.owner) for e in taken.entries])
    assert late == []


async def test_new_messages_of_both_wire_versions_and_a_retry_are_taken(group: Consumer) -> None:
    taken = await group.take(100)

    # A new entry and one to be taken again: which stream goes first is decided by chance.
    by_name = {entry.fields[b"id"].decode(): entry for entry in taken.entries}
    assert by_name.keys() == {"retried", "new", "new-1"}
    retried, new, old = by_name["retried"], by_name["new"], by_name["new-1"]
    for entry in taken.entries:
        assert Message.from_fields(entry.fields) == as_sent(entry.fields[b"id"].decode())
    assert (new.fields[b"version"], old.fields[b"version"]) == (b"2", b"1")
    progress = Progress.from_fields(retried.fields, retried.ref.id)
    assert (progress.handler, progress.attempts, progress.failed_ms) == ("charge", 2, RECEIVED + 5)
    assert progress.owner == retried.owner.decode() != retried.ref.id
    await settle(group, taken)
    assert (await group.take(100)).is_empty


async def test_a_message_that_0_1_finished_is_a_duplicate(group: Consumer) -> None:
    (duplicate,) = (await group.take(100)).duplicates
    assert duplicate.message_id == "done"


async def test_delayed_messages_of_both_wire_versions_come_when_they_are_due(
    group: Consumer,
) -> None:
    await settle(group, await group.take(100))
    assert await group.release(10) == (2, None)

    taken = await group.take(100)
    assert names(taken.entries) == ["delayed-2", "delayed"]
    assert [Message.from_fields(entry.fields) for entry in taken.entries] == [
        as_sent("delayed-2"),
        as_sent("delayed"),
    ]
    assert [entry.fields[b"handler"] for entry in taken.entries] == [b"mail", b"mail"]
    await settle(group, taken)


async def test_what_a_worker_of_0_1_held_is_taken_over(group: Consumer) -> None:
    taken = await taken_over(group)
    assert names(taken.entries) == ["held", "held-1", "k1"]
    assert [entry.is_suspect for entry in taken.entries] == [False, False, False]
    assert [Message.from_fields(entry.fields) for entry in taken.entries] == [
        as_sent("held"),
        as_sent("held-1"),
        as_sent("k1", "7"),
    ]
    await settle(group, taken)

    taken = await taken_over(group)
    (suspect,) = taken.entries
    assert suspect.is_suspect
    assert Message.from_fields(suspect.fields) == as_sent("suspect")
    assert await group.run_alone(suspect.ref, "t") == 2  # it ran alone once with 0.1
    await settle(group, taken)


async def test_parked_messages_of_both_wire_versions_have_their_turn(group: Consumer) -> None:
    await settle(group, await group.take(100))
    while not (taken := await taken_over(group)).is_empty:
        await settle(group, taken)
    for name in ("k2", "k3"):
        taken = await group.take(100)
        assert names(taken.entries) == [name]
        assert Message.from_fields(taken.entries[0].fields) == as_sent(name, "7")
        await settle(group, taken)
    assert (await group.take(100)).is_empty


async def test_dead_letters_of_both_wire_versions_are_shown_and_replayed(
    client: Client, group: Consumer
) -> None:
    letters = DeadLetters(client, "main")
    listed = await letters.survey("0-0", "9" * 15, 10)
    for one, name in zip(listed, ("dead", "dead-1"), strict=True):
        letter = await letters.get(one.id)
        assert letter is not None
        assert Message.from_fields(letter.fields) == as_sent(name)
        assert Death.from_fields(letter.fields) == Death(
            reason="failed", error="ValueError: no", died_ms=RECEIVED + 9
        )
    await settle(group, await group.take(100))

    assert await letters.replay([one.id for one in listed]) == 2
    taken = await group.take(100)
    assert names(taken.entries) == ["dead", "dead-1"]
    for entry in taken.entries:
        progress = Progress.from_fields(entry.fields, entry.ref.id)
        assert (progress.handler, progress.attempts) == ("mail", 0)
    await settle(group, taken)


async def test_a_dead_letter_that_is_dropped_releases_its_id(
    client: Client, group: Consumer
) -> None:
    letters = DeadLetters(client, "main")
    assert await letters.drop([one.id for one in await letters.survey("0-0", "9" * 15, 10)]) == 2
    await Producer(client).append([as_sent("dead"), as_sent("dead-1"), as_sent("held")])
    taken = await group.take(100)
    assert {"dead", "dead-1"} < set(names(taken.entries))
    assert {one.message_id for one in taken.duplicates} == {"done", "held"}


async def test_a_token_that_0_1_accepted_is_good_for_its_message_only(client: Client) -> None:
    token = Token(b"\x01" * 16, 4_102_444_800)

    def arrival(name: str) -> Arrival:
        fields = {
            field: getattr(as_sent(name), field)
            for field in ("id", "source", "type", "key", "body", "header_block", "received_ms")
        }
        return Arrival(**fields, token=token)

    same, other = await Producer(client).append_rows(
        [row_of(arrival("token")), row_of(arrival("another"))]
    )
    assert same != ""
    assert other == ""


async def test_the_status_counts_what_is_there(client: Client, redis_client: redis.Redis) -> None:
    (facts,) = (await Inspector(client).overview()).groups
    assert (facts.held, facts.delayed, facts.again, facts.parked, facts.dead) == (4, 2, 1, 2, 2)
    assert facts.remembered == 13
    assert [one.name for one in facts.consumers] == ["gone"]


async def test_the_backlog_and_the_low_water_mark_are_kept(
    client: Client, group: Consumer, redis_client: redis.Redis
) -> None:
    keys = group.partitions[0]
    assert redis_client.get(keys.low_water) == b"%s" % before_the_held(redis_client, keys.stream)
    redis_client.xgroup_destroy(keys.stream, "main")
    assert await group.open() == 1
    assert "retried" in names((await group.take(5)).entries)
    measured = await Upkeep(client, "main").measure_backlog()
    assert measured.messages > 0


async def test_the_bytes_of_what_0_1_left_are_right_after_one_run_of_the_janitor(
    client: Client, group: Consumer, redis_client: redis.Redis
) -> None:
    there = walked(redis_client, group.partitions[0])
    assert there.messages == 12
    assert await Upkeep(client, "main").measure_backlog() == there
    await settle(group, await group.take(100))
    assert await Upkeep(client, "main").measure_backlog() == walked(
        redis_client, group.partitions[0]
    )


async def test_it_stays_with_its_number_of_partitions(server: Server, client: Client) -> None:
    found = await open_view(server.url, client.partitions[0].base.partition(":")[0])
    assert len(found.partitions) == 1
    await found.close()
    prefix = client.partitions[0].base.partition(":")[0]
    async with Client(server.url, prefix, partitions=2) as other:
        with pytest.raises(PartitionsError):
            await other.agree_on_partitions()


def before_the_held(client: redis.Redis, stream: str) -> bytes:
    """The entry before the one that 0.1 took after its last trim."""
    entries: Any = client.xrange(stream)
    ids = [entry_id for entry_id, fields in entries]
    return bytes(ids[[fields[b"id"] for _, fields in entries].index(b"held") - 1])
