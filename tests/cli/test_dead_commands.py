"""`hookmill dead` as an operator runs it: options, exit codes, a terminal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
import redis

from hookmill.stream.consumer import Consumer
from tests.cli.running import at_a_terminal, faults, give_up_in, hookmill
from tests.given_up import as_dead_letter
from tests.support import Server, Stream, message


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
    for name in "", " ", "a\nb":
        refused = await dead("replay", "--all", "--to", name, status=2)
        assert f"--to {name!r}: give the name of a handler" in " ".join(refused.split())
    assert await dead("replay", "--all", "--to", "mail", "--dry-run") == "would replay 1\n"
    assert await dead("replay", "--all", "--to", "mail") == "replayed 1 of 1\n"
    unknown = await dead("show", third, status=1)
    assert unknown == (
        f"hookmill: no dead letter {third} in group orders, and no message with this ID waits for "
        "a retry there: `hookmill dead list` shows the dead letters\n"
    )
    again = (await group.take(10)).entries
    assert [entry.fields[b"id"] for entry in again] == [b"msg_0", b"msg_2"]
    assert [entry.fields[b"handler"] for entry in again] == [b"send", b"mail"]

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
