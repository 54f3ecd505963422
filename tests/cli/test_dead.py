"""`hookmill dead` as an operator meets it: what it prints, asks and refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from hookmill.admin import dead_letters as admin
from hookmill.admin.dead_letters import NoSuchDeadLetterError
from hookmill.admin.filters import EVERYTHING, DeadLetterFilter, Selection
from hookmill.cli.dead import drop, list_all, replay, show
from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError
from hookmill.message import about_of
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.producer import Producer
from tests.cli.running import at_a_terminal, faults, hookmill
from tests.given_up import TRACEBACK, GiveUp, as_dead_letter
from tests.support import Server, Stream, dead_letters, message


async def test_where_there_are_no_dead_letters_that_is_said(
    settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    await list_all(settings(), EVERYTHING, as_json=False)
    assert capsys.readouterr().out == "no dead letters\n"

    await list_all(settings(), EVERYTHING, as_json=True)
    assert capsys.readouterr().out == ""


async def test_the_list_has_one_line_a_dead_letter_oldest_first(
    settings: Callable[..., Settings],
    give_up: GiveUp,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = await give_up(
        message(id="msg_1", type="order.paid"),
        message(id="msg_2" + "x" * 200, source="marble"),
    )

    await list_all(settings(), EVERYTHING, as_json=False)

    died = "2026-11-21T09:29:55Z  2026-11-21T09:30:00Z"
    why = "send (attempts: 8)  failed: ValueError: no such order"
    assert capsys.readouterr().out.splitlines() == [
        f"{first}  {died}  qstash  order.paid  msg_1  {why}",
        f"{second}  {died}  marble  -  msg_2{'x' * 200}  {why}",
    ]
    emptied()


async def test_the_list_for_programs_has_one_json_object_a_line(
    settings: Callable[..., Settings],
    give_up: GiveUp,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (dead_id,) = await give_up(message(b'{"a": 1}', id="msg_1", type="order.paid"))

    await list_all(settings(), EVERYTHING, as_json=True)

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
    give_up: GiveUp,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    sent = message(b'{"a":\t1}\xff', id="msg_1", header_block=b"X-A: 1\r\nX-B: \xff")
    (dead_id,) = await give_up(sent)

    await show(settings(), dead_id, as_json=False)
    for_people = capsys.readouterr().out
    await show(settings(), dead_id, as_json=True)
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
    give_up: GiveUp,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    hostile = "[red]\x1b[2J[/] :star:\n\u202e\x07"
    (dead_id,) = await give_up(message(hostile.encode(), type=hostile), error=f"Boom {hostile}")
    shown = "[red]\\x1b[2J[/] :star:{}\\u202e\\x07"

    await list_all(settings(), EVERYTHING, as_json=False)
    (line,) = capsys.readouterr().out.splitlines()
    await show(settings(), dead_id, as_json=False)
    whole = capsys.readouterr().out

    assert shown.format("\\n") in line
    assert whole.count(shown.format("\n")) == 3
    for character in "\x1b\x07\u202e":
        assert character not in line + whole
    emptied()


async def test_a_message_that_this_release_cannot_read_is_listed_with_the_reason(
    settings: Callable[..., Settings],
    give_up: GiveUp,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    await give_up(message(), changed={b"version": b"9"}, error="")

    await list_all(settings(), EVERYTHING, as_json=False)

    assert "wire version '9'; this release reads versions 1 and 2" in capsys.readouterr().out
    emptied()


NEVER = b'["qstash","",18446744073709551615]'


async def test_times_that_no_calendar_has_do_not_hide_the_other_dead_letters(
    settings: Callable[..., Settings],
    give_up: GiveUp,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    await give_up(message(id="odd"), changed={b"about": NEVER, b"died": b"9" * 30})
    await give_up(message(id="sound"))

    await list_all(settings(), EVERYTHING, as_json=False)

    odd, sound = capsys.readouterr().out.splitlines()
    assert f"Z  {'9' * 30} ms  " in odd
    assert "  sound  " in sound
    emptied()


async def test_an_id_that_is_not_there_is_told_after_the_others_are_done(
    settings: Callable[..., Settings],
    give_up: GiveUp,
    stream: Producer,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = await give_up(message(), message())

    with pytest.raises(NoSuchDeadLetterError, match="1 of these IDs are not there"):
        await replay(
            settings(),
            Selection(
                ids=(
                    first,
                    "5-1",
                )
            ),
        )
    with pytest.raises(NoSuchDeadLetterError, match="1 of these IDs are not there"):
        await drop(
            settings(),
            Selection(
                ids=(
                    "5-1",
                    second,
                )
            ),
        )
    with pytest.raises(NoSuchDeadLetterError, match="no dead letter 5-1 in group main"):
        await show(settings(), "5-1", as_json=False)

    assert capsys.readouterr().out == "replayed 1 of 2\ndropped 1 of 2\n"
    assert await DeadLetters(stream.client, "main").count() == 0
    emptied()


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"b":1,"a":[1.50,"x"]}', 'body: {"b": 1, "a": [1.50, "x"]}\n'),
        (
            b'{"text":"%b","n":12345678901234567890123}' % (b"x" * 70),
            'body:\n{\n  "text": "%s",\n  "n": 12345678901234567890123\n}\n' % ("x" * 70),
        ),
        (b'{"a":', 'body: {"a":\n'),
        (b"a=1&b=2", "body: a=1&b=2\n"),
        (b"", "body: \n"),
        (b"[" * 100_000, "body: [[["),
    ],
)
async def test_a_body_of_json_is_laid_out_and_any_other_is_shown_as_it_is(
    settings: Callable[..., Settings],
    give_up: GiveUp,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
    body: bytes,
    shown: str,
) -> None:
    (dead_id,) = await give_up(message(body))

    await show(settings(), dead_id, as_json=False)

    assert shown in capsys.readouterr().out
    emptied()


async def test_how_many_were_or_would_be_done_is_said(
    settings: Callable[..., Settings],
    give_up: GiveUp,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    await give_up(*(message(type=each) for each in ("a.1", "a.2", "b.1")))
    wanted = Selection(filter=DeadLetterFilter(type="a.*"))

    await replay(settings(), wanted, dry_run=True)
    await drop(settings(), wanted, dry_run=True)
    await replay(settings(), wanted)
    await drop(settings(), EVERYTHING)
    await replay(settings(), EVERYTHING)

    assert capsys.readouterr().out == (
        "would replay 2\nwould drop 2\nreplayed 2 of 2\ndropped 1 of 1\nreplayed 0 of 0\n"
    )
    emptied()


async def test_how_many_were_done_is_said_even_when_redis_goes_away_in_between(
    settings: Callable[..., Settings],
    give_up: GiveUp,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admin, "PAGE", 1)
    await give_up(*(message() for _ in range(3)))
    original, calls = DeadLetters.replay, []

    async def once(self: DeadLetters, dead_ids: Sequence[str]) -> int:
        calls.append(dead_ids)
        if len(calls) == 2:
            raise StreamUnavailableError("gone")
        return await original(self, dead_ids)

    monkeypatch.setattr(DeadLetters, "replay", once)
    with pytest.raises(StreamUnavailableError):
        await replay(settings(), EVERYTHING)

    assert capsys.readouterr().out == "replayed 1 of 2\n"
    emptied()


async def test_dropping_what_was_selected_is_confirmed_with_its_number_first(
    settings: Callable[..., Settings],
    give_up: GiveUp,
    stream: Producer,
    capsys: pytest.CaptureFixture[str],
    redis_client: redis.Redis,
) -> None:
    await give_up(*(message(type="post.published") for _ in range(3)), message(type="order.paid"))
    asked: list[int] = []
    dead, letters = stream.partitions[0].of_group("main").dead, DeadLetters(stream.client, "main")

    def answer(number: int) -> bool:
        asked.append(number)
        # Dies while the person thinks: it is not what they were asked about.
        late: dict[Any, Any] = {**message(type="post.late").to_fields(), b"owner": b"9-9"}
        redis_client.xadd(dead, late)
        return len(asked) > 1

    await drop(settings(), Selection(filter=DeadLetterFilter(type="post.*")), confirm=answer)
    assert (capsys.readouterr().out, await letters.count()) == ("dropped none\n", 5)
    await drop(settings(), Selection(filter=DeadLetterFilter(type="post.*")), confirm=answer)
    assert (capsys.readouterr().out, await letters.count()) == ("dropped 4 of 4\n", 2)
    await drop(settings(), Selection(filter=DeadLetterFilter(type="none.*")), confirm=answer)

    assert asked == [3, 4]
    left = await dead_letters(stream)
    assert [about_of(letter.fields).type for letter in left] == ["order.paid", "post.late"]
    redis_client.delete(dead)


async def give_up_in(server: Server, *types: str) -> None:
    """Have a message of each type given up, in the group `main`."""
    stream = Stream(server.url, "hookmill")
    group = Consumer(stream.client, "main", "c1", dedup_window=60)
    await group.open()
    await stream.append([message(type=one) for one in types])
    for entry in (await group.take(10)).entries:
        await group.settle([as_dead_letter(entry)])
    await group.close()
    await stream.close()


async def test_the_dead_letters_are_listed_shown_replayed_and_dropped(
    own_server: Callable[..., Server],
) -> None:
    server = own_server()  # tests/admin tries each kind of server
    stream = Stream(server.url, "cli")
    group = Consumer(stream.client, "orders", "c1", dedup_window=60)
    await group.open()
    await stream.append([message(b'{"a": 1}', id=f"msg_{number}") for number in range(3)])
    for entry in (await group.take(10)).entries:
        await group.settle([as_dead_letter(entry)])

    async def dead(*command: str, status: int = 0) -> str:
        given = ("dead", *command, "--group", "orders")
        env = {"REDIS_URL": server.url, "HOOKMILL_PREFIX": "cli"}
        answer = await asyncio.to_thread(hookmill, *given, env=env)
        assert answer.returncode == status, answer
        return answer.stdout or answer.stderr

    listed, for_programs = await asyncio.gather(dead("list"), dead("list", "--json"))
    letters = [json.loads(line) for line in for_programs.splitlines()]
    assert [letter["message_id"] for letter in letters] == ["msg_0", "msg_1", "msg_2"]
    first, second, third = (letter["id"] for letter in letters)
    assert [line.split()[0] for line in listed.splitlines()] == [first, second, third]

    shown, shown_json = await asyncio.gather(dead("show", first), dead("show", first, "--json"))
    assert 'body: {"a": 1}' in shown
    assert json.loads(shown_json)["body"] == '{"a": 1}'

    assert await dead("drop", second) == "dropped 1 of 1\n"
    assert await dead("replay", first) == "replayed 1 of 1\n"
    assert await dead("replay", "--all") == "replayed 1 of 1\n"
    unknown = await dead("show", third, status=1)
    assert unknown == f"hookmill: no dead letter {third} in group orders\n"
    again = (await group.take(10)).entries
    assert [entry.fields[b"id"] for entry in again] == [b"msg_0", b"msg_2"]

    await group.close()
    await stream.close()


async def test_dead_letters_are_selected_by_filters_and_dropping_them_wants_a_yes(
    own_server: Callable[..., Server],
) -> None:
    server = own_server()
    await give_up_in(server, "post.published", "post.deleted", "order.paid", "order.paid")

    async def dead(*command: str) -> tuple[int, str, str]:
        env = {"REDIS_URL": server.url}
        answer = await asyncio.to_thread(hookmill, "dead", *command, env=env)
        return answer.returncode, answer.stdout, answer.stderr

    listed, unasked, dry, none = await asyncio.gather(
        dead("list", "--type", "post.*", "--limit", "1"),
        dead("drop", "--type", "post.*"),
        dead("replay", "--type", "order.*", "--dry-run", "--rate", "5"),
        dead("list", "--before", "2h"),
    )
    assert [listed[1].count("\n"), " post.published " in listed[1]] == [1, True]
    assert unasked == (1, "", faults(
        "drop 2 dead letters of group main for good? There is nobody to ask: give --yes"
    ))  # fmt: skip
    assert dry == (0, "would replay 2\n", "")
    assert none == (0, "no dead letters\n", "")

    assert await dead("drop", "--type", "post.*", "--yes") == (0, "dropped 2 of 2\n", "")
    assert await dead("replay", "--all", "--rate", "100", "--limit", "1") == (
        0,
        "replayed 1 of 1\n",
        "",
    )
    assert (await dead("list", "--after", "1h"))[1].count("\n") == 1


@pytest.mark.parametrize(
    ("answer", "said", "left"), [("y", "dropped 2 of 2", 0), ("n", "dropped none", 2)]
)
async def test_on_a_terminal_a_person_is_asked_with_the_number_before_all_are_dropped(
    own_server: Callable[..., Server], answer: str, said: str, left: int
) -> None:
    server = own_server()
    await give_up_in(server, "a", "b")

    shown = await asyncio.to_thread(
        at_a_terminal, ["dead", "drop", "--all"], {"REDIS_URL": server.url}, f"{answer}\n"
    )

    assert "drop 2 dead letters of group main for good? [y/N]" in shown
    assert said in shown
    with redis.Redis.from_url(server.url) as client:
        assert client.xlen("hookmill:{0}:main:dead") == left
