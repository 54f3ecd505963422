"""What `hookmill dead` prints and asks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest
import redis

from hookmill.admin import dead_letters as admin
from hookmill.admin.dead_letters import NoSuchDeadLetterError
from hookmill.admin.filters import EVERYTHING, DeadLetterFilter, Selection
from hookmill.cli.dead import drop, list_all, replay, show
from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError
from hookmill.message import Progress, about_of
from hookmill.printable import block
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.producer import Producer
from tests.given_up import DIED, FINGERPRINT, TRACEBACK, GiveUp, OpenGroup
from tests.support import dead_letters, message
from worker.outcome import RetryLater
from worker.settlement import settlement_of


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

    assert f"error:\n{block(TRACEBACK)}\n" in for_people
    assert "message_id: msg_1\n" in for_people
    assert "headers:\n  X-A: 1\n  X-B: \\xff\n" in for_people
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
    assert whole.count(shown.format("\n  ")) == 3
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

    assert "wire version '9'; this release reads versions 1 to 3" in capsys.readouterr().out
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


async def test_an_unknown_id_is_reported_after_the_others_are_done(
    settings: Callable[..., Settings],
    give_up: GiveUp,
    stream: Producer,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = await give_up(message(), message())

    with pytest.raises(NoSuchDeadLetterError, match="1 of these IDs not found"):
        await replay(
            settings(),
            Selection(
                ids=(
                    first,
                    "5-1",
                )
            ),
        )
    with pytest.raises(NoSuchDeadLetterError, match="1 of these IDs not found"):
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
            'body:\n  {\n    "text": "%s",\n    "n": 12345678901234567890123\n  }\n' % ("x" * 70),
        ),
        (b'{"a":', 'body: {"a":\n'),
        (b"a=1&b=2", "body: a=1&b=2\n"),
        (b"", "body: \n"),
        (b"[" * 100_000, "body: [[["),
        # Laid out, these would take 33 and 9 times as much.
        (b"[" * 33 + b"1" * 99 + b"]" * 33, "body: [[[["),
        (b"[[[[" + b"1," * 600_000 + b"1]]]]", "body: [[[[1,1,"),
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


async def test_a_message_that_waits_for_its_next_attempt_is_shown_by_its_message_id(
    settings: Callable[..., Settings],
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    capsys: pytest.CaptureFixture[str],
) -> None:
    group = await open_group()
    await stream.append([message(b'{"a": 1}', id="msg_1", type="order.paid")])
    (entry,) = (await group.take(1)).entries
    progress = Progress(owner=entry.ref.id, handler="send", attempts=2, failed_ms=DIED)
    retry = RetryLater(progress, 90.0, "ValueError: no such order", TRACEBACK)
    await group.settle([settlement_of(entry, retry, time.time)])

    await show(settings(), "msg_1", as_json=True)
    seen = json.loads(capsys.readouterr().out)
    assert seen["state"] == "not dead: it waits for its next attempt"
    assert (seen["next_attempt"], seen["attempts"], seen["handler"]) == (3, 2, "send")
    assert (seen["error"], seen["body"]) == (TRACEBACK, '{"a": 1}')
    due = datetime.fromisoformat(seen["due_at"]).timestamp()
    assert 0 < due - time.time() <= 91

    await show(settings(), "msg_1", as_json=False)
    shown = capsys.readouterr().out
    assert "state: not dead: it waits for its next attempt\n" in shown
    assert "ValueError: no such order" in shown
    with pytest.raises(NoSuchDeadLetterError, match="no dead letter msg_2 in group main"):
        await show(settings(), "msg_2", as_json=False)
    keys = group.partitions[0]
    redis_client.delete(keys.delayed, keys.delayed_entries, keys.sooner)
