"""What strangers wrote, on its way through the programs and commands: nothing that comes out steers
a terminal, or looks like another line or another column.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import redis

from hookmill.printable import cell
from hookmill.runtime.spool_file import SpoolFile, Unreadable
from hookmill.signatures.marble import marble_scheme
from hookmill.stream.keys import Keys
from tests.e2e.line import Line, Post
from tests.hostile import FORGED, HOSTILE, is_clean
from tests.support import MARBLE_SECRET, Program, signed_headers

pytestmark = pytest.mark.one_server  # the server changes no text

ARGUMENT = HOSTILE.replace("\0", "")  # no argument of a program can hold it

BODY = msgspec.json.encode({"type": HOSTILE, "id": ARGUMENT, "data": HOSTILE})
ODD_HEADER = {"X-Odd": "\x9b2J\u202e\u2066\xa0  x"}

COMMANDS = [
    ["status"],
    ["status", "--group", ARGUMENT],
    ["check"],
    ["check", "--group", ARGUMENT],
    ["group", "list"],
    ["group", "add", ARGUMENT, "--from", "now"],
    ["group", "drop", ARGUMENT, "--yes"],
    ["dead", "list"],
    ["dead", "list", "--type", ARGUMENT],
    ["dead", "list", "--after", ARGUMENT],
    ["dead", "show", "DEAD"],
    ["dead", "show", ARGUMENT],
    ["dead", "drop", ARGUMENT, "--yes"],
    ["dead", "drop", "--type", ARGUMENT, "--dry-run"],
    ["dead", "replay", "--type", ARGUMENT, "--dry-run"],
    ["dead", "replay", "DEAD", "--to", ARGUMENT],
    ["spool", "list"],
    ["spool", "show", "1"],
    ["verify", "--source", "marble", "--body-file", "body", "--header", f"X-Odd: {ARGUMENT}"],
    ["verify", "--source", ARGUMENT, "--body-file", "body"],
    ["verify", "--source", "marble", "--body-file", ARGUMENT],
    ["send", "--source", "marble", "--type", ARGUMENT, "--url", "RECEIVER"],
    ["send", "--source", ARGUMENT],
    ["worker", ARGUMENT],
    [ARGUMENT],
]
WITH_JSON = {"status", "check", "group list", "dead list", "dead show", "spool list", "spool show"}


@pytest.fixture
def hostile(line: Line, tmp_path: Path, redis_client: redis.Redis) -> Iterator[Line]:
    """A line whose sender chooses ID, type and ordering key, and a spool with a hostile row."""
    shutil.copy(Path(__file__).with_name("hostile_handlers.py"), tmp_path)
    (tmp_path / "hookmill.toml").write_text('[sources.marble]\nordered_by = "data"\n')
    (tmp_path / "body").write_bytes(BODY)
    spool = SpoolFile(tmp_path / "set-aside", 2**30)
    spool.open()
    spool.put([msgspec.msgpack.encode(HOSTILE)], [0])
    spool.set_aside([Unreadable(1, HOSTILE)])
    spool.close()
    yield line
    for key in redis_client.scan_iter(f"{line.env['HOOKMILL_PREFIX']}:*"):
        redis_client.delete(key)


def genuine() -> Post:
    signed = signed_headers(marble_scheme([MARBLE_SECRET]), BODY, "/marble")
    return Post(HOSTILE, "/marble", signed | ODD_HEADER, BODY)


def assert_harmless(written: str) -> None:
    assert is_clean(written)
    # Where a line break took effect, a line would begin with this.
    assert not any(part.startswith(FORGED) for part in written.splitlines())


def run(line: Line, folder: Path, *command: str) -> str:
    """Run a command to its end, whatever it answers, and return what it wrote."""
    done = subprocess.run(
        [sys.executable, "-m", "hookmill", *command],
        env={"PATH": os.environ["PATH"], **line.env, "HOOKMILL_SPOOL": str(folder / "set-aside")},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return (done.stdout + done.stderr).decode()


async def work_on(
    line: Line, start: Callable[..., Program], *, attempts: int, log_format: str = "json"
) -> str:
    """Have a worker fail with a delivery, and a receiver refuse another. Return their logs."""
    env = line.env | {"HOOKMILL_LOG_FORMAT": log_format, "ATTEMPTS": str(attempts)}
    receiver = start("receiver", env=env)
    worker = start("worker", "hostile_handlers:handlers", env=env)
    receiver.wait_for("receiving")
    forged = genuine()._replace(body=BODY + b" ")
    assert await line.send([genuine(), forged]) == {200: 1, 401: 1}
    worker.wait_for("dead letter" if attempts == 1 else "will run again")
    assert [receiver.stop(), worker.stop()] == [0, 0]
    return receiver.log + worker.log


async def test_no_line_for_people_is_forged_or_steers_a_terminal(
    hostile: Line, start_program: Callable[..., Program]
) -> None:
    log = await work_on(hostile, start_program, attempts=1, log_format="console")

    assert_harmless(log)
    # Each line of the log begins with its time, and all other lines are indented.
    starts = {line[:1] for line in log.splitlines()}
    assert starts <= {*"0123456789", " "}
    assert FORGED in log
    assert "Traceback" in log


async def test_no_line_for_programs_is_forged_or_steers_a_terminal(
    hostile: Line, start_program: Callable[..., Program]
) -> None:
    log = await work_on(hostile, start_program, attempts=1)

    assert_harmless(log)
    lines = [json.loads(line) for line in log.splitlines()]
    assert {line["body"] for line in lines if "body" in line} == {BODY.decode()}
    assert HOSTILE in {line.get("type") for line in lines}


@pytest.mark.timeout(600)  # it starts more than thirty processes, one after another
async def test_no_command_shows_anything_that_steers_a_terminal_or_forges_a_line(
    hostile: Line, start_program: Callable[..., Program], tmp_path: Path, redis_client: redis.Redis
) -> None:
    await work_on(hostile, start_program, attempts=1)
    dead = Keys(hostile.env["HOOKMILL_PREFIX"], 0).of_group("main").dead
    dead_id = str(redis_client.xinfo_stream(dead)["first-entry"][0], "ascii")
    words = {"DEAD": dead_id, "RECEIVER": f"{hostile.base}/marble"}

    for command in COMMANDS:
        given = [words.get(word, word) for word in command]
        assert_harmless(run(hostile, tmp_path, *given))
        if " ".join(command[:2]) in WITH_JSON or command[0] in WITH_JSON:
            assert_harmless(run(hostile, tmp_path, *given, "--json"))

    (row,) = run(hostile, tmp_path, "dead", "list").splitlines()
    columns = row.split("  ")
    assert len(columns) == 8
    assert columns[4:6] == [cell(HOSTILE), cell(ARGUMENT)]
    shown = json.loads(run(hostile, tmp_path, "dead", "show", dead_id, "--json"))
    values = [shown[name] for name in ("type", "message_id", "body")]
    assert values == [HOSTILE, ARGUMENT, BODY.decode()]


async def test_a_message_that_waits_for_its_next_attempt_is_shown_without_harm(
    hostile: Line, start_program: Callable[..., Program], tmp_path: Path
) -> None:
    await work_on(hostile, start_program, attempts=2)

    shown = run(hostile, tmp_path, "dead", "show", ARGUMENT)

    assert_harmless(shown)
    assert "state: not dead" in shown
    assert_harmless(run(hostile, tmp_path, "dead", "show", ARGUMENT, "--json"))
