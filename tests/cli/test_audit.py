"""`hookmill audit` as an operator runs it, after commands that act."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from hookmill.admin.audit import Action
from hookmill.cli.audit import line_of
from tests.cli.running import NO_REDIS, give_up_in, hookmill
from tests.support import Server


@pytest.mark.timeout(300)  # it starts nine processes, one after another
async def test_commands_that_act_are_recorded_and_shown(own_server: Callable[..., Server]) -> None:
    server = own_server()
    await give_up_in(server, "order.paid", "order.lost")
    env = {"REDIS_URL": server.url, "HOOKMILL_OPERATOR": "Ada"}

    def run(*command: str, status: int = 0) -> str:
        done = hookmill(*command, env=env)
        assert done.returncode == status, done
        return done.stdout

    assert run("audit") == "nothing is recorded\n"
    run("dead", "replay", "--all", "--dry-run")
    run("dead", "replay", "--type", "*.paid", "--why", "it works\nagain", "--as", "Bo")
    run("dead", "drop", "1-1", status=1)
    run("dead", "drop", "--all", "--yes")
    run("group", "add", "cdn", "--from", "now")
    run("group", "drop", "cdn", "--yes")
    seen = [json.loads(line) for line in run("audit", "--json").splitlines()]
    shown = [(one["action"], one["who"], one["state"], one["result"]) for one in seen]
    assert shown == [
        ("group drop", "Ada", "done", {}),
        ("group add", "Ada", "done", {}),
        ("dead drop", "Ada", "done", {"dropped": 1, "of": 1}),
        ("dead drop", "Ada", "failed", {"dropped": 0, "of": 1}),
        ("dead replay", "Bo", "done", {"replayed": 1, "of": 1}),
    ]
    lines = run("audit", "--action", "dead *", "--since", "1h", "--limit", "3").splitlines()
    assert len(lines) == 3
    assert lines[2].endswith(
        '  Bo  dead replay  replayed=1 of=1  group=main selection={"filter":{"type":"*.paid"}}  '
        "why: it works\\nagain"
    )


def test_a_time_that_cannot_be_read_is_refused() -> None:
    done = hookmill("audit", "--since", "soon", env=NO_REDIS)
    assert done.returncode == 2
    assert "give a time such as" in " ".join(done.stderr.split())


def test_what_an_operator_wrote_steers_no_terminal_and_is_no_other_column() -> None:
    texts = {"who": "a\x1b[1m", "action": "x  y", "why": "\u202e", "error": "\r"}
    action = Action(id="1-1", at_ms=1, details={"\x1b": "\x07"}, state="failed", result={}, **texts)
    line = line_of(action)
    assert line.isprintable()
    assert line.split("  ")[1:3] == ["a\\x1b[1m", "x \\x20y"]
    assert line.endswith("why: \\u202e")
