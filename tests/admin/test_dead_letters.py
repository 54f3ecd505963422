"""What an operator can ask of dead letters, as data, on real servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import redis

from hookmill.admin import dead_letters as module
from hookmill.admin import groups
from hookmill.admin.dead_letters import NoSuchDeadLetterError, describe, find, opened, select
from hookmill.admin.filters import EVERYTHING, Selection
from hookmill.admin.redactions import Showable
from hookmill.config.settings import Settings
from hookmill.errors import GroupRefusedError, HookmillError
from hookmill.message import WIRE_VERSIONS, Message, about_of
from hookmill.stream.arrival import Row
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import AGAIN, Settlement
from hookmill.stream.producer import Producer
from tests.admin.selecting import counted, drop, listed, of_filter, of_ids, replay
from tests.given_up import FINGERPRINT, TRACEBACK, GiveUp, OpenGroup, as_dead_letter
from tests.support import message, written_in


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
        "fingerprint": FINGERPRINT,
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

    seen = describe(await find(letters, dead_id, group="main"), whole=True, shown=Showable())

    assert seen["headers"] == "X-A: 1\r\nX-B: \\xff"
    assert seen["body"] == '{"a":\t1}\\xff'
    assert seen["error"] == TRACEBACK
    emptied()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({b"version": b"9"}, "wire version '9'; this release reads versions 1 to 3"),
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
    seen = describe(await find(letters, dead_id, group="main"), whole=True, shown=Showable())
    assert seen["unreadable"].startswith(said)

    assert await replay(letters, of_ids(dead_id)) == (1, 1)
    group = await open_group("c2")
    (entry,) = (await group.take(10)).entries
    assert changed.items() <= entry.fields.items()
    await group.settle([Settlement(entry.ref)])


NEVER = b'["qstash","",18446744073709551615]'


async def test_a_time_outside_the_calendar_is_shown_in_milliseconds(
    letters: DeadLetters, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    (dead_id,) = await give_up(message(id="odd"), changed={b"about": NEVER, b"died": b"9" * 30})

    assert describe(await find(letters, dead_id, group="main"))["died_at"] == f"{'9' * 30} ms"
    emptied()


@pytest.mark.parametrize("version", WIRE_VERSIONS)
async def test_a_dead_letter_of_every_wire_version_is_listed_shown_selected_and_replayed(
    letters: DeadLetters, stream: Producer, open_group: OpenGroup, version: int
) -> None:
    sent = message(
        b'{"a": 1}', id="msg_1", source="marble", type="post.published", key="7",
        header_block=b"X-Shop: 7",
    )  # fmt: skip
    group = await open_group()
    await stream.append_rows([Row(written_in(version, sent))])
    (entry,) = (await group.take(1)).entries
    given_up = msgspec.structs.replace(as_dead_letter(entry), key=entry.key, owner=entry.owner)
    await group.settle([given_up])
    wanted = of_filter(source="marble", type="post.*")

    (letter,) = [one async for one in (await select(letters, wanted)).listed()]
    seen = describe(letter)
    assert (seen["message_id"], seen["type"]) == ("msg_1", "post.published")
    assert seen["received_at"] == "2023-11-14T22:13:20.000+00:00"
    assert '{"a": 1}' not in str(letter.fields)
    whole = describe(await find(letters, letter.id, group="main"), whole=True, shown=Showable())
    assert (whole["body"], whole["headers"]) == ('{"a": 1}', "X-Shop: 7")
    assert await replay(letters, of_filter(source="qstash")) == (0, 0)
    assert await replay(letters, wanted) == (1, 1)

    (entry,) = (await group.take(10)).entries
    assert entry.ref.key_number == AGAIN
    assert Message.from_fields(entry.fields) == sent
    await group.settle([Settlement(entry.ref, (), entry.key, entry.owner)])


@pytest.mark.parametrize("wrong", ["", "-", "+", "5", "5-*", "(5-1", "5-1\n", "\u0665-1", "msg_1"])
async def test_what_is_no_id_is_refused_before_anything_is_touched(
    letters: DeadLetters, give_up: GiveUp, emptied: Callable[[], None], wrong: str
) -> None:
    (dead_id,) = await give_up(message())

    with pytest.raises(NoSuchDeadLetterError, match="is not the ID of a dead letter"):
        await select(letters, of_ids(dead_id, wrong))
    with pytest.raises(NoSuchDeadLetterError, match="no message with this ID waits for a retry"):
        await find(letters, wrong, group="main")

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


async def test_another_groups_dead_letters_are_another_matter(
    settings: Callable[..., Settings], give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    (dead_id,) = await give_up(message(type="order.paid"))
    await groups.add(settings(), "other", "now")

    async with opened(settings(group="other")) as letters:
        assert await listed(letters) == []
        with pytest.raises(NoSuchDeadLetterError, match="in group other"):
            await find(letters, dead_id, group="other")
    async with opened(settings()) as letters:
        letter = await find(letters, dead_id, group="main")
    assert about_of(letter.fields).type == "order.paid"
    emptied()


async def test_a_group_that_there_is_not_has_its_name_and_those_of_the_others_in_the_error(
    settings: Callable[..., Settings], give_up: GiveUp, emptied: Callable[[], None],
    redis_client: redis.Redis, stream: Producer,
) -> None:  # fmt: skip
    await give_up(message())
    with pytest.raises(GroupRefusedError) as refused:
        async with opened(settings(group="typo")):
            pass
    assert str(refused.value) == "there is no group typo; there are: main"
    # The dead letters of a group that was destroyed by hand can still be looked at.
    redis_client.xadd(stream.partitions[0].of_group("lost").dead, {"version": "2"})
    async with opened(settings(group="lost")) as letters:
        assert await letters.count() == 1
    redis_client.delete(stream.partitions[0].of_group("lost").dead)
    emptied()


async def test_where_redis_is_away_the_error_is_one_of_ours() -> None:
    with pytest.raises(HookmillError):
        async with opened(Settings(redis_url="redis://127.0.0.1:1")) as letters:
            await listed(letters)
