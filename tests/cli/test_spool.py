"""`hookmill spool` as an operator runs it, also while a receiver has the file open."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from hookmill.runtime.spool_file import SpoolFile, Unreadable
from hookmill.stream.arrival import Row, row_of
from tests.cli.running import NO_REDIS, at_a_terminal, faults, hookmill
from tests.ports import free_port
from tests.support import CURRENT_KEY, Program, Server, eventually, message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A spool with one message that waits (1) and two that were set aside (2 and 3)."""
    file = SpoolFile(tmp_path / "spool", 2**30)
    file.open()
    row = Row({b"id": b"m\x1b[1m", b"body": b"caf\xe9"})
    torn = b"\xc1" + b"x" * 9
    file.put([msgspec.msgpack.encode(row), torn, msgspec.msgpack.encode([1, row])], [0])
    file.set_aside([Unreadable(2, "torn"), Unreadable(3, "Expected `object`, got `array`")])
    file.close()
    return tmp_path / "spool"


def spool(path: Path, *command: str, status: int = 0) -> str:
    env = {"HOOKMILL_SPOOL": str(path), **NO_REDIS}  # it needs no Redis
    done = hookmill("spool", *command, env=env)
    assert done.returncode == status, done
    return done.stdout or done.stderr


def left(path: Path) -> tuple[list[int], list[int]]:
    """Return the positions of what waits, and of what is set aside."""
    with closing(sqlite3.connect(path)) as db:
        tables = ("messages", "set_aside")
        waiting, aside = ([n for (n,) in db.execute(f"SELECT position FROM {t}")] for t in tables)
    return waiting, aside


def test_what_was_set_aside_is_listed_with_its_reason(path: Path) -> None:
    lines = spool(path, "list").splitlines()
    assert [line.split("  ")[0] for line in lines] == ["2", "3"]
    assert lines[0].endswith("+00:00  10 bytes  torn")
    seen = [json.loads(line) for line in spool(path, "list", "--json").splitlines()]
    assert [(one["id"], one["bytes"], one["reason"]) for one in seen] == [
        (2, 10, "torn"),
        (3, seen[1]["bytes"], "Expected `object`, got `array`"),
    ]


def test_one_is_shown_as_far_as_it_can_be_read_and_steers_no_terminal(path: Path) -> None:
    assert "content: \\xc1xxxxxxxxx" in spool(path, "show", "2")
    shown = spool(path, "show", "3")
    assert '"id": "m\\u001b[1m"' in shown
    assert "\x1b" not in shown
    seen = json.loads(spool(path, "show", "3", "--json"))
    assert seen["content"][1]["fields"]["body"] == "caf\\xe9"
    assert spool(path, "show", "1", status=1) == f"hookmill: no message 1 is set aside in {path}\n"


def test_retry_puts_messages_back_behind_the_others(path: Path) -> None:
    assert spool(path, "retry", "3") == "put back 1\n"
    assert left(path) == ([1, 4], [2])
    assert path.with_name("spool.active").exists()
    assert spool(path, "retry", "--all") == "put back 1\n"
    assert left(path) == ([1, 4, 5], [])
    assert spool(path, "list") == "nothing is set aside\n"


def test_drop_wants_a_yes(path: Path) -> None:
    assert spool(path, "drop", "2", status=1) == (
        "hookmill: drop 1 spooled message for good? There is nobody to ask: give --yes\n"
    )
    env = {"HOOKMILL_SPOOL": str(path)}
    assert "dropped none" in at_a_terminal(["spool", "drop", "--all"], env, "n\n")
    assert left(path) == ([1], [2, 3])
    assert "dropped 1" in at_a_terminal(["spool", "drop", "2"], env, "y\n")
    assert spool(path, "drop", "--all", "--yes") == "dropped 1\n"
    assert left(path) == ([1], [])


def test_nothing_is_done_where_an_id_is_not_there(path: Path) -> None:
    for command in (["retry", "2", "7"], ["drop", "2", "7", "--yes"]):
        expected = f"hookmill: not set aside in {path}: 7\n"
        assert spool(path, *command, status=1) == expected
    assert left(path) == ([1], [2, 3])


def test_what_is_meant_has_to_be_said(path: Path) -> None:
    assert "give IDs, or --all" in spool(path, "drop", "--yes", status=2)
    assert "give IDs, or --all" in spool(path, "retry", "2", "--all", status=2)


@pytest.mark.parametrize("command", [["list"], ["show", "1"], ["retry", "1"], ["drop", "1"]])
def test_without_a_spool_the_setting_is_named(command: list[str]) -> None:
    done = hookmill("spool", *command)
    assert (done.returncode, done.stderr) == (
        2,
        faults("HOOKMILL_SPOOL is not set: give the spool file of the receivers"),
    )


def test_a_path_without_a_file_is_an_error_and_stays_without_one(tmp_path: Path) -> None:
    said = spool(tmp_path / "none", "list", status=1)
    assert said.endswith("none: there is no such file, so no receiver has used it yet\n")
    assert not (tmp_path / "none").exists()


async def test_it_works_while_a_receiver_runs_which_drains_what_was_put_back(
    own_server: Callable[..., Server], start_program: Callable[..., Program], tmp_path: Path
) -> None:
    server, path = own_server(), tmp_path / "spool"
    file = SpoolFile(path, 2**30)
    file.open()
    file.put([msgspec.msgpack.encode(row_of(message(id="m1")))], [0])
    file.set_aside([Unreadable(1, "as an older release saw it")])
    file.close()
    env = {"REDIS_URL": server.url, "HOOKMILL_SPOOL": str(path), "PORT": str(free_port())}
    program = start_program("receiver", env=env | {"QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY})
    program.wait_for('"receiving"')
    assert "as an older release saw it" in spool(path, "list")
    assert spool(path, "retry", "--all") == "put back 1\n"
    with redis.Redis.from_url(server.url) as client:
        await eventually(lambda: client.xlen("hookmill:{0}:stream") == 1)
        found: Any = client.xrange("hookmill:{0}:stream")
    assert found[0][1][b"id"] == b"m1"
    assert program.stop() == 0
