"""`hookmill pause` and `hookmill resume` as an operator runs them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from hookmill.cli.pauses import line_of
from hookmill.stream.client import Client
from hookmill.stream.facts import Heartbeat, Pause
from hookmill.stream.groups import Groups
from hookmill.stream.heartbeats import Heartbeats
from tests.cli.running import NO_REDIS, faults, hookmill
from tests.support import Server

NEW = Heartbeat(
    name="w1", lease=60, handlers={"mail": ("a",)}, aliases={"send": "mail"}, can=("pause",)
)


async def beat(server: Server, heartbeat: Heartbeat) -> None:
    async with Client(server.url, "hookmill") as client:
        await Heartbeats(client, "main").write(heartbeat)


@pytest.mark.timeout(300)  # it starts more than a dozen processes, one after another
async def test_what_is_paused_is_listed_until_it_is_resumed(
    own_server: Callable[..., Server],
) -> None:
    server = own_server()
    async with Client(server.url, "hookmill") as client:
        await Groups(client).make("main")
    await beat(server, NEW)
    env = {"REDIS_URL": server.url, "HOOKMILL_OPERATOR": "Ada"}

    def run(*command: str, status: int = 0) -> str:
        done = hookmill(*command, env=env)
        assert done.returncode == status, done
        return done.stdout or done.stderr

    assert run("pause", "--list") == "nothing is paused\n"
    said = run("pause", "--handler", "male", status=1)
    assert "no worker of group main that runs has a handler male; there are: mail." in said
    assert "give a time such as" in run("pause", "--all", "--until", "yesterday", status=2)
    assert run("pause", "--handler", "send", "--why", "it is down") == (
        "paused handler mail of group main\n"
    )
    noted = json.loads(run("pause", "--key", "acme", "k", "--until", "2h", "--json"))
    assert (noted["source"], noted["key"], noted["state"]) == ("acme", "k", "on")
    shown = run("pause", "--list").splitlines()
    assert [line.split("  ")[0] for line in shown] == ["handler mail", "key k of source acme"]
    assert shown[0].endswith("by Ada  holds back 0  why: it is down")
    assert "main: handler mail  paused since" in run("status")
    assert len(json.loads(run("status", "--json"))["groups"][0]["pauses"]) == 2

    assert run("resume", "--handler", "mail") == (
        "resumed handler mail of group main: put back 0\n"
    )
    assert run("resume", "--all", status=1) == faults(
        "everything is not paused in group main; paused are: key k of source acme"
    )
    assert run("resume", "--key", "acme", "k").startswith("resumed key k of source acme")
    await beat(server, Heartbeat(name="w0\x1b", lease=60))
    said = run("pause", "--all", status=1)
    assert said.startswith("hookmill: workers of an older release run, which do not heed a pause: ")
    assert "w0\\x1b" in said
    assert run("pause", "--all", "--anyway") == "paused everything of group main\n"
    actions = [json.loads(line) for line in run("audit", "--json").splitlines()]
    assert [(one["action"], one["details"]["what"]) for one in actions] == [
        ("pause", "everything"),
        ("resume", "key k of source acme"),
        ("resume", "handler mail"),
        ("pause", "key k of source acme"),
        ("pause", "handler mail"),
    ]


def test_exactly_one_thing_is_paused_at_a_time() -> None:
    for words in ([], ["--all", "--handler", "x"]):
        for command in ("pause", "resume"):
            done = hookmill(command, *words, env=NO_REDIS)
            assert done.returncode == 2
            assert "give one of --handler" in " ".join(done.stderr.split())


def test_what_others_wrote_steers_no_terminal_and_is_no_other_column() -> None:
    pause = Pause(kind="key", source="a  b", value="\x1b[1m", who="\u202e", why="\r")
    line = line_of(pause)
    assert line.isprintable()
    assert line.split("  ")[0] == "key \\x1b[1m of source a \\x20b"
