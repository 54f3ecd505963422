"""The dead letters as a person sees them, and what they decide, on real servers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from hookmill import graveyard
from hookmill.entries import AGAIN, Entry, FollowUp, Settlement
from hookmill.errors import HookmillError
from hookmill.graveyard import NoSuchDeadLetterError
from hookmill.message import Death, Message, Progress
from hookmill.settings import Settings
from hookmill.stream import DeadLetters, Group, Stream
from tests.support import message

OpenGroup = Callable[..., Awaitable[Group]]
Bury = Callable[..., Awaitable[list[str]]]

DIED = 1_795_253_400_123
TRACEBACK = 'Traceback (most recent call last):\n  File "app.py"\nValueError: no such order\n'


@pytest.fixture
def bury(
    stream: Stream, open_group: OpenGroup, redis_client: redis.Redis
) -> Callable[..., Awaitable[list[str]]]:
    """Have messages given up as the worker does; return their dead letters' IDs."""

    async def bury_all(
        *messages: Message, changed: dict[bytes, bytes] | None = None, **death: Any
    ) -> list[str]:
        group = await open_group()
        await stream.append(messages)
        taken = await group.take(len(messages))
        await group.settle(_buried(entry, changed or {}, death) for entry in taken.entries)
        letters = await DeadLetters(stream, "main").read()
        return [letter.id for letter in letters]

    return bury_all


def _buried(entry: Entry, changed: dict[bytes, bytes], death: dict[str, Any]) -> Settlement:
    progress = Progress(owner=entry.ref.id, handler="send", attempts=8, failed_ms=DIED - 5000)
    told = Death(**{"reason": "failed", "error": TRACEBACK, "died_ms": DIED, **death})
    fields = {**entry.fields, **progress.to_fields(), **told.to_fields(), **changed}
    return Settlement(entry.ref, (FollowUp("dead", "token", fields),))


@pytest.fixture
def emptied(prefix: str, redis_client: redis.Redis) -> Callable[[], None]:
    """Clear away what a test leaves dead or to be run again on purpose."""

    def empty() -> None:
        redis_client.delete(f"{prefix}:{{0}}:main:dead", f"{prefix}:{{0}}:main:again")

    return empty


async def test_an_empty_graveyard_says_so(
    settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    await graveyard.list_all(settings(), as_json=False)
    assert capsys.readouterr().out == "no dead letters\n"

    await graveyard.list_all(settings(), as_json=True)
    assert capsys.readouterr().out == ""


async def test_the_list_has_one_line_a_dead_letter_oldest_first(
    settings: Callable[..., Settings],
    bury: Bury,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = await bury(
        message(id="msg_1", type="order.paid"),
        message(id="msg_2" + "x" * 200, source="marble"),
    )

    await graveyard.list_all(settings(), as_json=False)

    died = "2026-11-21T09:30:00.123+00:00"
    why = "send (attempts: 8)  failed: ValueError: no such order"
    assert capsys.readouterr().out.splitlines() == [
        f"{first}  {died}  qstash  order.paid  msg_1  {why}",
        f"{second}  {died}  marble  -  msg_2{'x' * 200}  {why}",
    ]
    emptied()


async def test_the_list_for_programs_has_one_json_object_a_line(
    settings: Callable[..., Settings],
    bury: Bury,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (dead_id,) = await bury(message(b'{"a": 1}', id="msg_1", type="order.paid"))

    await graveyard.list_all(settings(), as_json=True)

    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {
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


async def test_one_is_shown_whole_with_its_error_its_headers_and_its_body(
    settings: Callable[..., Settings],
    bury: Bury,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    sent = message(b'{"a":\t1}\xff', id="msg_1", header_block=b"X-A: 1\r\nX-B: \xff")
    (dead_id,) = await bury(sent)

    await graveyard.show(settings(), dead_id, as_json=False)
    for_people = capsys.readouterr().out
    await graveyard.show(settings(), dead_id, as_json=True)
    for_programs = json.loads(capsys.readouterr().out)

    assert f"error:\n{TRACEBACK}" in for_people
    assert "message_id: msg_1\n" in for_people
    assert "X-B: \\xff" in for_people
    assert "\\xff" in for_people.splitlines()[-1]
    assert for_programs["headers"] == "X-A: 1\r\nX-B: \\xff"
    assert for_programs["body"] == '{"a":\t1}\\xff'
    assert for_programs["error"] == TRACEBACK
    emptied()


async def test_what_a_sender_wrote_neither_steers_the_terminal_nor_reads_as_markup(
    settings: Callable[..., Settings],
    bury: Bury,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    hostile = "[red]\x1b[2J[/] :star:\n\u202e\x07"
    (dead_id,) = await bury(message(hostile.encode(), type=hostile), error=f"Boom {hostile}")
    shown = "[red]\\x1b[2J[/] :star:{}\\u202e\\x07"

    await graveyard.list_all(settings(), as_json=False)
    (line,) = capsys.readouterr().out.splitlines()
    await graveyard.show(settings(), dead_id, as_json=False)
    whole = capsys.readouterr().out

    assert shown.format("\\n") in line
    assert whole.count(shown.format("\n")) == 3
    for character in "\x1b\x07\u202e":
        assert character not in line + whole
    emptied()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({b"version": b"9"}, "wire version '9'; this release reads version 1"),
        ({b"received": b"never"}, "not an entry of ours: invalid literal for int()"),
    ],
)
async def test_a_message_that_this_release_cannot_read_is_listed_shown_and_replayed(
    settings: Callable[..., Settings],
    bury: Bury,
    open_group: OpenGroup,
    capsys: pytest.CaptureFixture[str],
    changed: dict[bytes, bytes],
    said: str,
) -> None:
    (dead_id,) = await bury(message(), changed=changed, error="")

    await graveyard.list_all(settings(), as_json=False)
    assert said in capsys.readouterr().out
    await graveyard.show(settings(), dead_id, as_json=True)
    assert json.loads(capsys.readouterr().out)["unreadable"].startswith(said)

    await graveyard.replay(settings(), [dead_id])
    group = await open_group("c2")
    (entry,) = (await group.take(10)).entries
    assert changed.items() <= entry.fields.items()
    await group.settle([Settlement(entry.ref)])


async def test_times_that_no_calendar_has_do_not_hide_the_other_dead_letters(
    settings: Callable[..., Settings],
    bury: Bury,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    await bury(message(id="odd"), changed={b"received": b"9" * 20, b"died": b"9" * 30})
    await bury(message(id="sound"))

    await graveyard.list_all(settings(), as_json=False)

    odd, sound = capsys.readouterr().out.splitlines()
    assert f"  {'9' * 30} ms  " in odd
    assert "  sound  " in sound
    emptied()


async def test_a_replayed_message_runs_again_for_its_handler_with_a_fresh_count(
    settings: Callable[..., Settings],
    bury: Bury,
    open_group: OpenGroup,
    stream: Stream,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sent = message(b'{"a": 1}', id="msg_1")
    (dead_id,) = await bury(sent)

    await graveyard.replay(settings(), [dead_id, dead_id])

    assert capsys.readouterr().out == "replayed 1 of 1\n"
    assert await DeadLetters(stream, "main").count() == 0
    group = await open_group("c2")
    (entry,) = (await group.take(10)).entries
    assert entry.ref.key_number == AGAIN
    assert Message.from_fields(entry.fields) == sent
    progress = Progress.from_fields(entry.fields, "")
    assert (progress.handler, progress.attempts, progress.failed_ms) == ("send", 0, 0)
    assert b"error" not in entry.fields
    await group.settle([Settlement(entry.ref)])


async def test_all_are_replayed_page_by_page(
    settings: Callable[..., Settings],
    bury: Bury,
    open_group: OpenGroup,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graveyard, "PAGE", 2)
    await bury(*(message(id=f"msg_{number}") for number in range(5)))
    await graveyard.list_all(settings(), as_json=True)
    assert len(capsys.readouterr().out.splitlines()) == 5

    await graveyard.replay(settings(), [])

    assert capsys.readouterr().out == "replayed 5 of 5\n"
    group = await open_group("c2")
    entries = (await group.take(10)).entries
    assert [entry.fields[b"id"] for entry in entries] == [b"msg_%d" % n for n in range(5)]
    await group.settle(Settlement(entry.ref) for entry in entries)
    await graveyard.replay(settings(), [])
    assert capsys.readouterr().out == "replayed 0 of 0\n"


async def test_what_is_dropped_is_gone_and_the_rest_stays(
    settings: Callable[..., Settings],
    bury: Bury,
    stream: Stream,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second, third = await bury(*(message() for _ in range(3)))

    await graveyard.drop(settings(), [first, third, first])

    assert capsys.readouterr().out == "dropped 2 of 2\n"
    assert [letter.id for letter in await DeadLetters(stream, "main").read()] == [second]
    emptied()


async def test_an_id_that_is_not_there_is_told_after_the_others_are_done(
    settings: Callable[..., Settings],
    bury: Bury,
    stream: Stream,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = await bury(message(), message())

    with pytest.raises(NoSuchDeadLetterError, match="1 of these IDs are not there"):
        await graveyard.replay(settings(), [first, "5-1"])
    with pytest.raises(NoSuchDeadLetterError, match="1 of these IDs are not there"):
        await graveyard.drop(settings(), ["5-1", second])
    with pytest.raises(NoSuchDeadLetterError, match="no dead letter 5-1 in group main"):
        await graveyard.show(settings(), "5-1", as_json=False)

    assert capsys.readouterr().out == "replayed 1 of 2\ndropped 1 of 2\n"
    assert await DeadLetters(stream, "main").count() == 0
    emptied()


@pytest.mark.parametrize("wrong", ["", "-", "+", "5", "5-*", "(5-1", "5-1\n", "\u0665-1", "msg_1"])
async def test_what_is_no_id_is_refused_before_anything_is_touched(
    settings: Callable[..., Settings],
    bury: Bury,
    stream: Stream,
    emptied: Callable[[], None],
    wrong: str,
) -> None:
    (dead_id,) = await bury(message())

    for command in (
        graveyard.replay(settings(), [dead_id, wrong]),
        graveyard.drop(settings(), [dead_id, wrong]),
        graveyard.show(settings(), wrong, as_json=False),
    ):
        with pytest.raises(
            NoSuchDeadLetterError, match="is no ID of a dead letter: see `dead list"
        ):
            await command

    assert await DeadLetters(stream, "main").count() == 1
    emptied()


async def test_another_groups_dead_letters_are_another_matter(
    settings: Callable[..., Settings],
    bury: Bury,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (dead_id,) = await bury(message())

    await graveyard.list_all(settings(group="other"), as_json=False)
    with pytest.raises(NoSuchDeadLetterError, match="in group other"):
        await graveyard.show(settings(group="other"), dead_id, as_json=False)

    assert capsys.readouterr().out == "no dead letters\n"
    emptied()


async def test_where_redis_is_away_the_error_is_one_of_ours() -> None:
    away = Settings(redis_url="redis://127.0.0.1:1")

    with pytest.raises(HookmillError):
        await graveyard.list_all(away, as_json=False)
