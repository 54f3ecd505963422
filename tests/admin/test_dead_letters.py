"""The dead letters as a person sees them, and what they decide, on real servers."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import redis

from hookmill.admin import dead_letters as module
from hookmill.admin.dead_letters import EVERYTHING, NoSuchDeadLetterError, Pace
from hookmill.admin.filters import Choice
from hookmill.config.settings import Settings
from hookmill.errors import HookmillError, StreamUnavailableError
from hookmill.message import Death, Message, Progress, about_of
from hookmill.stream.arrival import Row
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import AGAIN, Entry, FollowUp, Settlement
from hookmill.stream.producer import Producer
from tests.support import Server, Stream, dead_letters, message, written_in_version_1

OpenGroup = Callable[..., Awaitable[Consumer]]
Bury = Callable[..., Awaitable[list[str]]]

DIED = 1_795_253_400_123
TRACEBACK = 'Traceback (most recent call last):\n  File "app.py"\nValueError: no such order\n'


@pytest.fixture
def bury(
    stream: Producer, open_group: OpenGroup, redis_client: redis.Redis
) -> Callable[..., Awaitable[list[str]]]:
    """Have messages given up as the worker does; return their dead letters' IDs."""

    async def bury_all(
        *messages: Message, changed: dict[bytes, bytes] | None = None, **death: Any
    ) -> list[str]:
        group = await open_group()
        await stream.append(messages)
        taken = await group.take(len(messages))
        await group.settle(_buried(entry, changed or {}, death) for entry in taken.entries)
        return [letter.id for letter in await dead_letters(stream)]

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
    await module.list_all(settings(), as_json=False)
    assert capsys.readouterr().out == "no dead letters\n"

    await module.list_all(settings(), as_json=True)
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

    await module.list_all(settings(), as_json=False)

    died = "2026-11-21T09:29:55Z  2026-11-21T09:30:00Z"
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

    await module.list_all(settings(), as_json=True)

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

    await module.show(settings(), dead_id, as_json=False)
    for_people = capsys.readouterr().out
    await module.show(settings(), dead_id, as_json=True)
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

    await module.list_all(settings(), as_json=False)
    (line,) = capsys.readouterr().out.splitlines()
    await module.show(settings(), dead_id, as_json=False)
    whole = capsys.readouterr().out

    assert shown.format("\\n") in line
    assert whole.count(shown.format("\n")) == 3
    for character in "\x1b\x07\u202e":
        assert character not in line + whole
    emptied()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({b"version": b"9"}, "wire version '9'; this release reads versions 1 and 2"),
        ({b"about": b"never"}, "not an entry of ours: JSON is malformed"),
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

    await module.list_all(settings(), as_json=False)
    assert said in capsys.readouterr().out
    await module.show(settings(), dead_id, as_json=True)
    assert json.loads(capsys.readouterr().out)["unreadable"].startswith(said)

    await module.replay(settings(), [dead_id])
    group = await open_group("c2")
    (entry,) = (await group.take(10)).entries
    assert changed.items() <= entry.fields.items()
    await group.settle([Settlement(entry.ref)])


NEVER = b'["qstash","",18446744073709551615]'


async def test_times_that_no_calendar_has_do_not_hide_the_other_dead_letters(
    settings: Callable[..., Settings],
    bury: Bury,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    await bury(message(id="odd"), changed={b"about": NEVER, b"died": b"9" * 30})
    await bury(message(id="sound"))

    await module.list_all(settings(), as_json=False)

    odd, sound = capsys.readouterr().out.splitlines()
    assert f"Z  {'9' * 30} ms  " in odd
    assert "  sound  " in sound
    emptied()


async def test_a_replayed_message_runs_again_for_its_handler_with_a_fresh_count(
    settings: Callable[..., Settings],
    bury: Bury,
    open_group: OpenGroup,
    stream: Producer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sent = message(b'{"a": 1}', id="msg_1")
    (dead_id,) = await bury(sent)

    await module.replay(settings(), [dead_id, dead_id])

    assert capsys.readouterr().out == "replayed 1 of 1\n"
    assert await DeadLetters(stream.client, "main").count() == 0
    group = await open_group("c2")
    (entry,) = (await group.take(10)).entries
    assert entry.ref.key_number == AGAIN
    assert Message.from_fields(entry.fields) == sent
    progress = Progress.from_fields(entry.fields, "")
    assert (progress.handler, progress.attempts, progress.failed_ms) == ("send", 0, 0)
    assert b"error" not in entry.fields
    await group.settle([Settlement(entry.ref)])


async def test_a_dead_letter_of_an_older_release_is_listed_chosen_and_replayed(
    settings: Callable[..., Settings],
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sent = message(b'{"a": 1}', id="msg_1", source="marble", type="post.published", key="7")
    group = await open_group()
    await stream.append_rows([Row(written_in_version_1(sent))])
    (entry,) = (await group.take(1)).entries
    buried = msgspec.structs.replace(_buried(entry, {}, {}), key=entry.key, owner=entry.owner)
    await group.settle([buried])

    await module.list_all(settings(), Choice(source="marble", type="post.*"), as_json=True)
    shown = json.loads(capsys.readouterr().out)
    await module.replay(settings(), Choice(source="qstash"))
    await module.replay(settings(), Choice(source="marble", type="post.*"))

    assert (shown["message_id"], shown["type"]) == ("msg_1", "post.published")
    assert "replayed 1 of 1\n" in capsys.readouterr().out
    (entry,) = (await group.take(10)).entries
    assert entry.ref.key_number == AGAIN
    assert Message.from_fields(entry.fields) == sent
    await group.settle([Settlement(entry.ref, (), entry.key, entry.owner)])


async def test_all_are_replayed_page_by_page(
    settings: Callable[..., Settings],
    bury: Bury,
    open_group: OpenGroup,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    await bury(*(message(id=f"msg_{number}") for number in range(5)))
    await module.list_all(settings(), as_json=True)
    assert len(capsys.readouterr().out.splitlines()) == 5

    await module.replay(settings(), EVERYTHING)

    assert capsys.readouterr().out == "replayed 5 of 5\n"
    group = await open_group("c2")
    entries = (await group.take(10)).entries
    assert [entry.fields[b"id"] for entry in entries] == [b"msg_%d" % n for n in range(5)]
    await group.settle(Settlement(entry.ref) for entry in entries)
    await module.replay(settings(), EVERYTHING)
    assert capsys.readouterr().out == "replayed 0 of 0\n"


async def test_what_is_dropped_is_gone_and_the_rest_stays(
    settings: Callable[..., Settings],
    bury: Bury,
    stream: Producer,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second, third = await bury(*(message() for _ in range(3)))

    await module.drop(settings(), [first, third, first])

    assert capsys.readouterr().out == "dropped 2 of 2\n"
    assert [letter.id for letter in await dead_letters(stream)] == [second]
    emptied()


async def test_an_id_that_is_not_there_is_told_after_the_others_are_done(
    settings: Callable[..., Settings],
    bury: Bury,
    stream: Producer,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = await bury(message(), message())

    with pytest.raises(NoSuchDeadLetterError, match="1 of these IDs are not there"):
        await module.replay(settings(), [first, "5-1"])
    with pytest.raises(NoSuchDeadLetterError, match="1 of these IDs are not there"):
        await module.drop(settings(), ["5-1", second])
    with pytest.raises(NoSuchDeadLetterError, match="no dead letter 5-1 in group main"):
        await module.show(settings(), "5-1", as_json=False)

    assert capsys.readouterr().out == "replayed 1 of 2\ndropped 1 of 2\n"
    assert await DeadLetters(stream.client, "main").count() == 0
    emptied()


@pytest.mark.parametrize("wrong", ["", "-", "+", "5", "5-*", "(5-1", "5-1\n", "\u0665-1", "msg_1"])
async def test_what_is_no_id_is_refused_before_anything_is_touched(
    settings: Callable[..., Settings],
    bury: Bury,
    stream: Producer,
    emptied: Callable[[], None],
    wrong: str,
) -> None:
    (dead_id,) = await bury(message())

    for command in (
        module.replay(settings(), [dead_id, wrong]),
        module.drop(settings(), [dead_id, wrong]),
        module.show(settings(), wrong, as_json=False),
    ):
        with pytest.raises(
            NoSuchDeadLetterError, match="is no ID of a dead letter: see `dead list"
        ):
            await command

    assert await DeadLetters(stream.client, "main").count() == 1
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
    bury: Bury,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
    body: bytes,
    shown: str,
) -> None:
    (dead_id,) = await bury(message(body))

    await module.show(settings(), dead_id, as_json=False)

    assert shown in capsys.readouterr().out
    emptied()


async def bury_several(bury: Bury) -> list[str]:
    """Four dead letters that differ in all that can be chosen by."""
    await bury(message(id="a", type="post.published"))
    await bury(message(id="b", type="post.deleted", source="marble"), reason="exhausted")
    await bury(message(id="c", type="order.paid"), changed={b"handler": b"bill"})
    return await bury(message(id="d", type="order.paid"), changed={b"version": b"9"})


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice(source="marble"), "b"),
        (Choice(type="post.*"), "ab"),
        (Choice(handler="bill"), "c"),
        (Choice(reason="exhausted"), "b"),
        (Choice(type="order.paid"), "cd"),
        (Choice(type="order.paid", limit=1), "c"),
        (Choice(limit=3), "abc"),
        (Choice(type="p*", reason="failed"), "a"),
        (Choice(after_ms=2**47), ""),
        (Choice(before_ms=1000), ""),
        (EVERYTHING, "abcd"),
    ],
)
@pytest.mark.parametrize("page", [1, 2, 100])
async def test_what_is_chosen_is_listed_and_replayed_and_the_rest_stays(
    *,
    settings: Callable[..., Settings],
    bury: Bury,
    emptied: Callable[[], None],
    redis_client: redis.Redis,
    prefix: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    page: int,
    choice: Choice,
    expected: str,
) -> None:
    monkeypatch.setattr(module, "PAGE", page)
    dead_ids = dict(zip(await bury_several(bury), "abcd", strict=True))

    await module.list_all(settings(), choice, as_json=True)
    rows = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert "".join(dead_ids[row["id"]] for row in rows) == expected

    await module.replay(settings(), choice, dry_run=True)
    await module.drop(settings(), choice, dry_run=True)
    await module.replay(settings(), choice)

    assert capsys.readouterr().out == (
        f"would replay {len(expected)}\nwould drop {len(expected)}\n"
        f"replayed {len(expected)} of {len(expected)}\n"
    )
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


async def test_times_choose_by_when_they_died(
    settings: Callable[..., Settings],
    emptied: Callable[[], None],
    redis_client: redis.Redis,
    prefix: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for dead_id in ("1000-0", "1999-5", "2000-0", "3000-0"):
        fields: dict[Any, Any] = {**message(id=dead_id).to_fields(), b"owner": b"9-9"}
        redis_client.xadd(f"{prefix}:{{0}}:main:dead", fields, id=dead_id)

    await module.list_all(settings(), Choice(after_ms=1500, before_ms=2000), as_json=False)
    await module.list_all(settings(), Choice(after_ms=2000, before_ms=3001), as_json=False)

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1999-5", "2000-0", "3000-0"]
    emptied()


async def test_a_dry_run_counts_of_the_ids_given_those_that_are_there(
    settings: Callable[..., Settings],
    bury: Bury,
    stream: Producer,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (dead_id,) = await bury(message())

    await module.replay(settings(), [dead_id, "5-1"], dry_run=True)
    await module.drop(settings(), [dead_id, dead_id], dry_run=True)

    assert capsys.readouterr().out == "would replay 1\nwould drop 1\n"
    assert await DeadLetters(stream.client, "main").count() == 1
    emptied()


async def test_a_replay_of_all_does_not_chase_what_dies_again_meanwhile(
    settings: Callable[..., Settings],
    bury: Bury,
    stream: Producer,
    open_group: OpenGroup,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    redis_client: redis.Redis,
) -> None:
    monkeypatch.setattr(module, "PAGE", 1)
    await bury(*(message(id=f"msg_{number}") for number in range(3)))
    group = await open_group("c2")
    replay = DeadLetters.replay

    async def and_die_again(self: DeadLetters, dead_ids: list[str]) -> int:
        replayed = await replay(self, dead_ids)
        for entry in (await group.take(10)).entries:
            await group.settle([_buried(entry, {}, {})])
        return replayed

    monkeypatch.setattr(DeadLetters, "replay", and_die_again)
    await module.replay(settings(), EVERYTHING)

    assert capsys.readouterr().out == "replayed 3 of 3\n"
    assert await DeadLetters(stream.client, "main").count() == 3
    redis_client.delete(group.partitions[0].dead)


async def test_how_many_were_done_is_said_even_when_redis_goes_away_in_between(
    settings: Callable[..., Settings],
    bury: Bury,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PAGE", 1)
    await bury(*(message() for _ in range(3)))
    replay, calls = DeadLetters.replay, []

    async def once(self: DeadLetters, dead_ids: list[str]) -> int:
        calls.append(dead_ids)
        if len(calls) == 2:
            raise StreamUnavailableError("gone")
        return await replay(self, dead_ids)

    monkeypatch.setattr(DeadLetters, "replay", once)
    with pytest.raises(StreamUnavailableError):
        await module.replay(settings(), EVERYTHING)

    assert capsys.readouterr().out == "replayed 1 of 2\n"
    emptied()


async def test_large_dead_letters_come_in_small_pages_without_their_bodies(
    bury: Bury, stream: Producer, emptied: Callable[[], None]
) -> None:
    await bury(*(message(b"x" * 3_000_000, id=f"m{number}") for number in range(4)))
    dead_letters = DeadLetters(stream.client, "main")

    page = await dead_letters.survey("0-0", "+", 100)

    assert [letter.fields[b"id"] for letter in page] == [b"m0", b"m1"]
    assert {letter.fields[b"body"] for letter in page} == {b""}
    assert len(await dead_letters.survey(f"({page[-1].id}", "+", 100)) == 2
    emptied()


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("rate", "step", "seconds"),
    [(50.0, 5, 9.9), (5.0, 1, 99.8), (0.5, 1, 998.0), (5000.0, 100, 0.08), (None, 100, 0.0)],
)
async def test_a_rate_spreads_a_replay_evenly(
    rate: float | None, step: int, seconds: float
) -> None:
    clock = Time()
    pace = Pace(rate, clock=clock, sleep=clock.sleep)

    assert pace.step == step
    for _ in range(500 // step):
        await pace.wait(step)
    assert clock.now - 100.0 == pytest.approx(seconds)


async def test_what_a_slow_redis_held_up_is_not_made_good_by_a_burst() -> None:
    clock = Time()
    pace = Pace(10.0, clock=clock, sleep=clock.sleep)
    await pace.wait(1)
    clock.now += 60.0

    await pace.wait(1)
    assert clock.now == 160.0
    await pace.wait(1)
    assert clock.now == pytest.approx(160.1)


async def test_a_replay_keeps_to_its_rate(
    settings: Callable[..., Settings],
    bury: Bury,
    emptied: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await bury(*(message() for _ in range(5)))
    steps: list[int] = []
    replay = DeadLetters.replay

    async def noted(self: DeadLetters, dead_ids: list[str]) -> int:
        steps.append(len(dead_ids))
        return await replay(self, dead_ids)

    monkeypatch.setattr(DeadLetters, "replay", noted)
    before = time.monotonic()
    await module.replay(settings(), EVERYTHING, rate=20)

    assert steps == [2, 2, 1]
    assert time.monotonic() - before >= 0.2  # a lower bound: no machine is too slow for it
    emptied()


async def test_dropping_what_was_chosen_is_confirmed_with_its_number_first(
    settings: Callable[..., Settings],
    bury: Bury,
    stream: Producer,
    capsys: pytest.CaptureFixture[str],
    redis_client: redis.Redis,
) -> None:
    await bury(*(message(type="post.published") for _ in range(3)), message(type="order.paid"))
    asked: list[int] = []
    dead, letters = stream.partitions[0].of_group("main").dead, DeadLetters(stream.client, "main")

    def answer(number: int) -> bool:
        asked.append(number)
        # Dies while the person thinks: it is not what they were asked about.
        late: dict[Any, Any] = {**message(type="post.late").to_fields(), b"owner": b"9-9"}
        redis_client.xadd(dead, late)
        return len(asked) > 1

    await module.drop(settings(), Choice(type="post.*"), confirm=answer)
    assert (capsys.readouterr().out, await letters.count()) == ("dropped none\n", 5)
    await module.drop(settings(), Choice(type="post.*"), confirm=answer)
    assert (capsys.readouterr().out, await letters.count()) == ("dropped 4 of 4\n", 2)
    await module.drop(settings(), Choice(type="none.*"), confirm=answer)

    assert asked == [3, 4]
    left = await dead_letters(stream)
    assert [about_of(letter.fields).type for letter in left] == ["order.paid", "post.late"]
    redis_client.delete(dead)


async def delivered(stream: Producer, group: Consumer, sent: Message) -> str:
    """Deliver a message; return whether it would run, and settle it."""
    await stream.append([sent])
    taken = await group.take(10)
    await group.settle(Settlement(entry.ref) for entry in taken.entries)
    assert len(taken.entries) + len(taken.duplicates) == 1
    return "runs" if taken.entries else "repeat"


async def test_a_dropped_dead_letter_releases_its_id(
    settings: Callable[..., Settings],
    bury: Bury,
    stream: Producer,
    open_group: OpenGroup,
) -> None:
    dropped, other = message(id="msg_1"), message(id="msg_2")
    group = await open_group()
    assert await delivered(stream, group, other) == "runs"
    (dead_id,) = await bury(dropped)
    assert await delivered(stream, group, dropped) == "repeat"

    # Another window than the workers were told must not keep it from being found.
    await module.drop(settings(dedup_window=7), [dead_id])

    assert await delivered(stream, group, dropped) == "runs"
    assert await delivered(stream, group, dropped) == "repeat"
    assert await delivered(stream, group, other) == "repeat"


async def test_an_id_that_another_entry_has_come_to_own_stays_with_it(
    settings: Callable[..., Settings],
    bury: Bury,
    stream: Producer,
    open_group: OpenGroup,
) -> None:
    sent = message(id="msg_1")
    (dead_id,) = await bury(sent, changed={b"owner": b"1-1"})

    await module.drop(settings(), [dead_id])

    assert await delivered(stream, await open_group(), sent) == "repeat"


async def test_an_id_is_released_from_the_generation_before_as_well(
    settings: Callable[..., Settings],
    bury: Bury,
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
) -> None:
    group = await open_group()  # a window of an hour
    sent = message(id="msg_1")
    (dead_id,) = await bury(sent)
    moved = as_of_the_last_generation(redis_client, group.partitions[0].owners, 3600)
    assert moved == 1
    assert await delivered(stream, group, sent) == "repeat"

    await module.drop(settings(), [dead_id])

    assert await delivered(stream, group, sent) == "runs"


def as_of_the_last_generation(client: redis.Redis, owners: str, window: int) -> int:
    """Rename what was recorded in this generation to the one before; return how many buckets."""
    now: Any = client.time()
    number, buckets = now[0] // window, 0
    for what in ("buckets", "size"):
        value: Any = client.hget(owners, f"{number}:{what}")
        client.hset(owners, f"{number - 1}:{what}", value)
        client.hdel(owners, f"{number}:{what}")
    for key in client.scan_iter(f"{owners}:{number}:*"):
        client.rename(key, key.decode().replace(f":{number}:", f":{number - 1}:"))
        buckets += 1
    return buckets


@pytest.mark.parametrize(
    "changed", [{b"digest": b""}, {b"digest": b"abc"}, {b"owner": b""}, {b"owner": b"no token"}]
)
async def test_a_dead_letter_that_owns_nothing_can_be_dropped(
    settings: Callable[..., Settings],
    bury: Bury,
    capsys: pytest.CaptureFixture[str],
    changed: dict[bytes, bytes],
) -> None:
    (dead_id,) = await bury(message(), changed=changed)

    await module.drop(settings(), [dead_id])

    assert capsys.readouterr().out == "dropped 1 of 1\n"


async def test_a_replay_keeps_the_ids_owner(
    settings: Callable[..., Settings], bury: Bury, stream: Producer, open_group: OpenGroup
) -> None:
    sent = message(id="msg_1")
    group = await open_group()
    (dead_id,) = await bury(sent)

    await module.replay(settings(), [dead_id])

    assert [entry.fields[b"id"] for entry in (await finished(group))] == [b"msg_1"]
    assert await delivered(stream, group, sent) == "repeat"


async def finished(group: Consumer) -> list[Entry]:
    entries = (await group.take(10)).entries
    await group.settle(Settlement(entry.ref) for entry in entries)
    return entries


@pytest.mark.parametrize("binary", ["valkey", pytest.param("redis", marks=pytest.mark.external)])
async def test_on_a_full_redis_dead_letters_can_be_listed_replayed_and_dropped(
    own_server: Callable[..., Server], capsys: pytest.CaptureFixture[str], binary: str
) -> None:
    server = own_server(binary=binary)
    full = Settings(redis_url=server.url, prefix="full")
    stream = Stream(server.url, "full")
    group = Consumer(stream.client, "main", "c1", dedup_window=60)
    await group.open()
    await stream.append([message(), message()])
    await group.settle([_buried(entry, {}, {}) for entry in (await group.take(2)).entries])
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1mb")
        assert not await accepts(stream)

        await module.list_all(full, as_json=True)
        replayed, dropped = (json.loads(row)["id"] for row in capsys.readouterr().out.splitlines())
        await module.replay(full, [replayed])
        await module.drop(full, [dropped])

        assert capsys.readouterr().out == "replayed 1 of 1\ndropped 1 of 1\n"
        assert client.xlen("full:{0}:main:again") == 1
    await group.close()
    await stream.close()


async def accepts(stream: Producer) -> bool:
    try:
        await stream.append([message()])
    except StreamUnavailableError:
        return False
    return True


async def test_another_groups_dead_letters_are_another_matter(
    settings: Callable[..., Settings],
    bury: Bury,
    emptied: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (dead_id,) = await bury(message())

    await module.list_all(settings(group="other"), as_json=False)
    with pytest.raises(NoSuchDeadLetterError, match="in group other"):
        await module.show(settings(group="other"), dead_id, as_json=False)

    assert capsys.readouterr().out == "no dead letters\n"
    emptied()


async def test_where_redis_is_away_the_error_is_one_of_ours() -> None:
    away = Settings(redis_url="redis://127.0.0.1:1")

    with pytest.raises(HookmillError):
        await module.list_all(away, as_json=False)
