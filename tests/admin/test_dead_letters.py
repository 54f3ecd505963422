"""What an operator can ask and do with dead letters, as data, on real servers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest
import redis

from hookmill.admin import dead_letters as module
from hookmill.admin.dead_letters import NoSuchDeadLetterError, Tally, describe, find, opened, select
from hookmill.admin.filters import EVERYTHING, DeadLetterFilter, Selection
from hookmill.config.settings import Settings
from hookmill.errors import HookmillError, StreamUnavailableError
from hookmill.message import Message, Progress, about_of
from hookmill.stream.arrival import Row
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import AGAIN, Settlement
from hookmill.stream.producer import Producer
from tests.given_up import TRACEBACK, GiveUp, OpenGroup, as_dead_letter
from tests.support import dead_letters, message, written_in_version_1


@pytest.fixture
async def letters(settings: Callable[..., Settings]) -> AsyncIterator[DeadLetters]:
    """The dead letters of the group `main`, opened as an operator's command does."""
    async with opened(settings()) as found:
        yield found


def of_ids(*ids: str) -> Selection:
    return Selection(ids=ids)


def of_filter(limit: int | None = None, **fields: Any) -> Selection:
    return Selection(filter=DeadLetterFilter(**fields), limit=limit)


async def listed(letters: DeadLetters, selection: Selection = EVERYTHING) -> list[str]:
    return [letter.id async for letter in (await select(letters, selection)).listed()]


async def counted(letters: DeadLetters, selection: Selection = EVERYTHING) -> int:
    return await (await select(letters, selection)).count()


async def replay(
    letters: DeadLetters, selection: Selection = EVERYTHING, rate: float | None = None
) -> tuple[int, int]:
    return await followed((await select(letters, selection)).replay(rate))


async def drop(letters: DeadLetters, selection: Selection = EVERYTHING) -> tuple[int, int]:
    return await followed((await select(letters, selection)).drop())


async def followed(
    tallies: AsyncIterator[Tally], seen: list[Tally] | None = None
) -> tuple[int, int]:
    """How many were done and tried in the end; `seen` keeps each tally, also where it fails."""
    seen = [Tally()] if seen is None else seen
    async for tally in tallies:
        seen.append(tally)
    return seen[-1].done, seen[-1].tried


async def test_where_there_are_none_nothing_is_listed_and_nothing_done(
    letters: DeadLetters,
) -> None:
    assert await listed(letters) == []
    assert await counted(letters) == 0
    assert await replay(letters) == await drop(letters) == (0, 0)


async def test_a_dead_letter_is_described_with_what_is_known_of_it(
    letters: DeadLetters, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    (dead_id,) = await give_up(message(b'{"a": 1}', id="msg_1", type="order.paid"))

    (letter,) = [one async for one in (await select(letters, EVERYTHING)).listed()]

    assert describe(letter) == {
        "id": dead_id,
        "reason": "failed",
        "error": TRACEBACK,
        "handler": "send",
        "attempts": 8,
        "first_failed_at": "2026-11-21T09:29:55.123+00:00",
        "died_at": "2026-11-21T09:30:00.123+00:00",
        "message_id": "msg_1",
        "source": "qstash",
        "type": "order.paid",
        "received_at": "2023-11-14T22:13:20.000+00:00",
    }
    emptied()


async def test_one_is_found_whole_with_its_error_its_headers_and_its_body(
    letters: DeadLetters, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    sent = message(b'{"a":\t1}\xff', id="msg_1", header_block=b"X-A: 1\r\nX-B: \xff")
    (dead_id,) = await give_up(sent)

    seen = describe(await find(letters, dead_id, group="main"), whole=True)

    assert seen["headers"] == "X-A: 1\r\nX-B: \\xff"
    assert seen["body"] == '{"a":\t1}\\xff'
    assert seen["error"] == TRACEBACK
    emptied()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({b"version": b"9"}, "wire version '9'; this release reads versions 1 and 2"),
        ({b"about": b"never"}, "not an entry of ours: JSON is malformed"),
    ],
)
async def test_a_message_that_this_release_cannot_read_is_described_and_replayed(
    letters: DeadLetters,
    give_up: GiveUp,
    open_group: OpenGroup,
    changed: dict[bytes, bytes],
    said: str,
) -> None:
    (dead_id,) = await give_up(message(), changed=changed, error="")

    assert await listed(letters) == [dead_id]
    seen = describe(await find(letters, dead_id, group="main"), whole=True)
    assert seen["unreadable"].startswith(said)

    assert await replay(letters, of_ids(dead_id)) == (1, 1)
    group = await open_group("c2")
    (entry,) = (await group.take(10)).entries
    assert changed.items() <= entry.fields.items()
    await group.settle([Settlement(entry.ref)])


NEVER = b'["qstash","",18446744073709551615]'


async def test_a_time_that_no_calendar_has_is_told_in_milliseconds(
    letters: DeadLetters, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    (dead_id,) = await give_up(message(id="odd"), changed={b"about": NEVER, b"died": b"9" * 30})

    assert describe(await find(letters, dead_id, group="main"))["died_at"] == f"{'9' * 30} ms"
    emptied()


async def test_a_replayed_message_runs_again_for_its_handler_with_a_fresh_count(
    letters: DeadLetters, give_up: GiveUp, open_group: OpenGroup
) -> None:
    sent = message(b'{"a": 1}', id="msg_1")
    (dead_id,) = await give_up(sent)

    assert await replay(letters, of_ids(dead_id, dead_id)) == (1, 1)

    assert await letters.count() == 0
    group = await open_group("c2")
    (entry,) = (await group.take(10)).entries
    assert entry.ref.key_number == AGAIN
    assert Message.from_fields(entry.fields) == sent
    progress = Progress.from_fields(entry.fields, "")
    assert (progress.handler, progress.attempts, progress.failed_ms) == ("send", 0, 0)
    assert b"error" not in entry.fields
    await group.settle([Settlement(entry.ref)])


async def test_a_dead_letter_of_an_older_release_is_listed_selected_and_replayed(
    letters: DeadLetters, stream: Producer, open_group: OpenGroup
) -> None:
    sent = message(b'{"a": 1}', id="msg_1", source="marble", type="post.published", key="7")
    group = await open_group()
    await stream.append_rows([Row(written_in_version_1(sent))])
    (entry,) = (await group.take(1)).entries
    given_up = msgspec.structs.replace(as_dead_letter(entry), key=entry.key, owner=entry.owner)
    await group.settle([given_up])
    wanted = of_filter(source="marble", type="post.*")

    (letter,) = [one async for one in (await select(letters, wanted)).listed()]
    seen = describe(letter)
    assert (seen["message_id"], seen["type"]) == ("msg_1", "post.published")
    assert await replay(letters, of_filter(source="qstash")) == (0, 0)
    assert await replay(letters, wanted) == (1, 1)

    (entry,) = (await group.take(10)).entries
    assert entry.ref.key_number == AGAIN
    assert Message.from_fields(entry.fields) == sent
    await group.settle([Settlement(entry.ref, (), entry.key, entry.owner)])


async def test_all_are_replayed_page_by_page(
    letters: DeadLetters,
    give_up: GiveUp,
    open_group: OpenGroup,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    await give_up(*(message(id=f"msg_{number}") for number in range(5)))
    assert len(await listed(letters)) == 5

    seen: list[Tally] = []
    assert await followed((await select(letters, EVERYTHING)).replay(), seen) == (5, 5)

    assert [one.looked_at for one in seen if one.looked_at] == [2, 2, 2, 4, 4, 4, 5]
    group = await open_group("c2")
    entries = (await group.take(10)).entries
    assert [entry.fields[b"id"] for entry in entries] == [b"msg_%d" % n for n in range(5)]
    await group.settle(Settlement(entry.ref) for entry in entries)
    assert await replay(letters) == (0, 0)


async def test_what_is_dropped_is_gone_and_the_rest_stays(
    letters: DeadLetters, give_up: GiveUp, stream: Producer, emptied: Callable[[], None]
) -> None:
    first, second, third = await give_up(*(message() for _ in range(3)))

    assert await drop(letters, of_ids(first, third, first)) == (2, 2)

    assert [letter.id for letter in await dead_letters(stream)] == [second]
    emptied()


async def test_an_id_that_is_not_there_is_told_after_the_others_are_done(
    letters: DeadLetters, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    first, second = await give_up(message(), message())

    for tallies in (
        (await select(letters, of_ids(first, "5-1"))).replay(),
        (await select(letters, of_ids("5-1", second))).drop(),
    ):
        seen: list[Tally] = []
        with pytest.raises(NoSuchDeadLetterError, match="1 of these IDs are not there"):
            await followed(tallies, seen)
        assert seen[-1] == Tally(looked_at=2, tried=2, done=1)
    with pytest.raises(NoSuchDeadLetterError, match="no dead letter 5-1 in group main"):
        await find(letters, "5-1", group="main")

    assert await letters.count() == 0
    emptied()


@pytest.mark.parametrize("wrong", ["", "-", "+", "5", "5-*", "(5-1", "5-1\n", "\u0665-1", "msg_1"])
async def test_what_is_no_id_is_refused_before_anything_is_touched(
    letters: DeadLetters, give_up: GiveUp, emptied: Callable[[], None], wrong: str
) -> None:
    (dead_id,) = await give_up(message())

    for call in (select(letters, of_ids(dead_id, wrong)), find(letters, wrong, group="main")):
        with pytest.raises(NoSuchDeadLetterError, match="is not the ID of a dead letter"):
            await call

    assert await letters.count() == 1
    emptied()


async def give_up_several(give_up: GiveUp) -> list[str]:
    """Four dead letters that differ in all that can be selected by."""
    await give_up(message(id="a", type="post.published"))
    await give_up(message(id="b", type="post.deleted", source="marble"), reason="exhausted")
    await give_up(message(id="c", type="order.paid"), changed={b"handler": b"bill"})
    return await give_up(message(id="d", type="order.paid"), changed={b"version": b"9"})


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (of_filter(source="marble"), "b"),
        (of_filter(type="post.*"), "ab"),
        (of_filter(handler="bill"), "c"),
        (of_filter(reason="exhausted"), "b"),
        (of_filter(type="order.paid"), "cd"),
        (of_filter(type="order.paid", limit=1), "c"),
        (of_filter(limit=3), "abc"),
        (of_filter(type="p*", reason="failed"), "a"),
        (of_filter(after_ms=2**47), ""),
        (of_filter(before_ms=1000), ""),
        (EVERYTHING, "abcd"),
    ],
)
@pytest.mark.parametrize("page", [1, 2, 100])
async def test_what_is_selected_is_listed_and_replayed_and_the_rest_stays(
    *,
    letters: DeadLetters,
    give_up: GiveUp,
    emptied: Callable[[], None],
    redis_client: redis.Redis,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    page: int,
    selection: Selection,
    expected: str,
) -> None:
    monkeypatch.setattr(module, "PAGE", page)
    dead_ids = dict(zip(await give_up_several(give_up), "abcd", strict=True))

    assert "".join(dead_ids[one] for one in await listed(letters, selection)) == expected
    assert await counted(letters, selection) == len(expected)
    assert await replay(letters, selection) == (len(expected), len(expected))

    again = [
        fields[b"id"].decode() for _, fields in rows_of(redis_client, f"{prefix}:{{0}}:main:again")
    ]
    assert "".join(again) == expected
    left = {row[0].decode() for row in rows_of(redis_client, f"{prefix}:{{0}}:main:dead")}
    assert left == {dead_id for dead_id, name in dead_ids.items() if name not in expected}
    emptied()


def rows_of(client: redis.Redis, key: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    rows: Any = client.xrange(key)
    return list(rows)


async def test_times_select_by_when_they_died(
    letters: DeadLetters, emptied: Callable[[], None], redis_client: redis.Redis, prefix: str
) -> None:
    for dead_id in ("1000-0", "1999-5", "2000-0", "3000-0"):
        fields: dict[Any, Any] = {**message(id=dead_id).to_fields(), b"owner": b"9-9"}
        redis_client.xadd(f"{prefix}:{{0}}:main:dead", fields, id=dead_id)

    assert await listed(letters, of_filter(after_ms=1500, before_ms=2000)) == ["1999-5"]
    assert await listed(letters, of_filter(after_ms=2000, before_ms=3001)) == ["2000-0", "3000-0"]
    emptied()


async def test_of_given_ids_those_count_that_are_there(
    letters: DeadLetters, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    (dead_id,) = await give_up(message())

    assert await counted(letters, of_ids(dead_id, "5-1")) == 1
    assert await counted(letters, of_ids(dead_id, dead_id)) == 1

    assert await letters.count() == 1
    emptied()


async def test_a_replay_of_all_does_not_chase_what_dies_again_meanwhile(
    letters: DeadLetters,
    give_up: GiveUp,
    open_group: OpenGroup,
    monkeypatch: pytest.MonkeyPatch,
    redis_client: redis.Redis,
) -> None:
    monkeypatch.setattr(module, "PAGE", 1)
    await give_up(*(message(id=f"msg_{number}") for number in range(3)))
    group = await open_group("c2")
    original = DeadLetters.replay

    async def and_die_again(self: DeadLetters, dead_ids: Sequence[str]) -> int:
        replayed = await original(self, dead_ids)
        for entry in (await group.take(10)).entries:
            await group.settle([as_dead_letter(entry)])
        return replayed

    monkeypatch.setattr(DeadLetters, "replay", and_die_again)

    assert await replay(letters) == (3, 3)
    assert await letters.count() == 3
    redis_client.delete(group.partitions[0].dead)


async def test_what_dies_after_the_selection_does_not_belong_to_it(
    letters: DeadLetters, give_up: GiveUp, stream: Producer, emptied: Callable[[], None]
) -> None:
    first = await give_up(message(type="post.published"), message(type="order.paid"))
    selected = await select(letters, of_filter(type="post.*"))
    *_, late = await give_up(message(type="post.late"))

    assert await selected.count() == 1
    assert await followed(selected.drop()) == (1, 1)

    assert [letter.id for letter in await dead_letters(stream)] == [first[1], late]
    emptied()


async def test_the_last_tally_is_right_even_when_redis_goes_away_in_between(
    letters: DeadLetters,
    give_up: GiveUp,
    emptied: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PAGE", 1)
    await give_up(*(message() for _ in range(3)))
    original, calls = DeadLetters.replay, []

    async def once(self: DeadLetters, dead_ids: Sequence[str]) -> int:
        calls.append(dead_ids)
        if len(calls) == 2:
            raise StreamUnavailableError("gone")
        return await original(self, dead_ids)

    monkeypatch.setattr(DeadLetters, "replay", once)
    seen: list[Tally] = []
    with pytest.raises(StreamUnavailableError):
        await followed((await select(letters, EVERYTHING)).replay(), seen)

    assert seen[-1] == Tally(looked_at=1, tried=2, done=1)
    emptied()


async def test_a_replay_keeps_to_its_rate(
    letters: DeadLetters,
    give_up: GiveUp,
    emptied: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await give_up(*(message() for _ in range(5)))
    steps: list[int] = []
    original = DeadLetters.replay

    async def noted(self: DeadLetters, dead_ids: Sequence[str]) -> int:
        steps.append(len(dead_ids))
        return await original(self, dead_ids)

    monkeypatch.setattr(DeadLetters, "replay", noted)
    before = time.monotonic()
    await replay(letters, rate=20)

    assert steps == [2, 2, 1]
    assert time.monotonic() - before >= 0.2  # a lower bound: no machine is too slow for it
    emptied()


async def test_another_groups_dead_letters_are_another_matter(
    settings: Callable[..., Settings], give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    (dead_id,) = await give_up(message(type="order.paid"))

    async with opened(settings(group="other")) as letters:
        assert await listed(letters) == []
        with pytest.raises(NoSuchDeadLetterError, match="in group other"):
            await find(letters, dead_id, group="other")
    async with opened(settings()) as letters:
        letter = await find(letters, dead_id, group="main")
    assert about_of(letter.fields).type == "order.paid"
    emptied()


async def test_where_redis_is_away_the_error_is_one_of_ours() -> None:
    with pytest.raises(HookmillError):
        async with opened(Settings(redis_url="redis://127.0.0.1:1")) as letters:
            await listed(letters)
