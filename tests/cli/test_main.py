"""The command line as a whole: what it offers, how its commands fail, and what it loads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.running import NO_REDIS, NO_REDIS_URL, faults, hookmill
from tests.ports import free_port
from tests.support import CURRENT_KEY, Server


def test_the_help_names_the_commands() -> None:
    whole, dead, none = hookmill("--help"), hookmill("dead", "--help"), hookmill()

    assert whole.returncode == dead.returncode == 0
    assert none.returncode == 2
    for command in (
        *("receiver", "worker", "dev", "send", "verify", "dead", "status", "check"),
        "schema",
    ):
        assert f" {command} " in whole.stdout, command
    for command in ("list", "show", "replay", "drop"):
        assert f" {command} " in dead.stdout, command
    assert "Usage: " in none.stdout + none.stderr


def test_every_fault_of_the_settings_is_one_line_and_ends_in_2() -> None:
    env = {"PORT": "eighty", "HOOKMILL_LEASE": "0", "MARBLE_WEBHOOK_SECRET": ""}
    answer = hookmill("receiver", env=env)

    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == faults(
        "MARBLE_WEBHOOK_SECRET is empty: anyone could sign with it",
        "PORT: Input should be a valid integer, unable to parse string as an integer "
        "(got 'eighty')",
        "HOOKMILL_LEASE: Input should be greater than or equal to 0.5 (got '0')",
    )


@pytest.mark.parametrize(
    ("command", "env", "said"),
    [
        (
            ["worker", "app:handlers"],
            {},
            NO_REDIS_URL,
        ),
        (
            ["worker"],
            NO_REDIS,
            "no handlers: give MODULE:ATTRIBUTE, or set HOOKMILL_HANDLERS (app.main:handlers)",
        ),
        (
            ["worker", "app"],
            NO_REDIS,
            "'app': name the handlers as MODULE:ATTRIBUTE, app.main:handlers",
        ),
        (
            ["worker", "app:handlers", "--concurrency", "0"],
            NO_REDIS,
            "--concurrency: Input should be greater than or equal to 1 (got 0)",
        ),
        (
            ["receiver"],
            NO_REDIS,
            "there is no source: set QSTASH_CURRENT_SIGNING_KEY or MARBLE_WEBHOOK_SECRET",
        ),
        (
            ["receiver"],
            {"QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY},
            NO_REDIS_URL,
        ),
        (
            ["dead", "list"],
            {},
            NO_REDIS_URL,
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line_and_ends_in_2(
    command: list[str], env: dict[str, str], said: str
) -> None:
    answer = hookmill(*command, env=env)

    assert (answer.returncode, answer.stderr) == (2, faults(said))


@pytest.mark.parametrize(
    "command",
    [["dead", "replay"], ["dead", "replay", "1-1", "--all"], ["dead", "drop"], ["plough"]],
)
def test_a_command_that_is_no_command_ends_in_2_with_the_usage(command: list[str]) -> None:
    answer = hookmill(*command, env=NO_REDIS)

    assert answer.returncode == 2
    assert "Usage: " in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["dead", "replay", "--all", "--type", "a"], "give IDs, or filters, or --all"),
        (["dead", "drop", "1-1", "--source", "a"], "give IDs, or filters, or --all"),
        (["dead", "drop", "1-1", "--limit", "5"], "give IDs, or filters, or --all"),
        (["dead", "replay", "--limit", "5"], "give IDs, or filters, or --all"),
        (["dead", "list", "--after", "yesterday"], "--after yesterday: give a time such as"),
        (["dead", "list", "--limit", "0"], "--limit"),
        (["dead", "replay", "--all", "--rate", "0"], "--rate"),
        (["status", "--watch", "0"], "--watch"),
        (["check", "--rate", "-1"], "--rate"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(command: list[str], said: str) -> None:
    answer = hookmill(*command, env=NO_REDIS)

    assert answer.returncode == 2
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_group_that_could_not_be_a_key_is_a_fault_of_its_option() -> None:
    answer = hookmill("dead", "list", "--group", "a:b", env=NO_REDIS)

    assert answer.returncode == 2
    assert answer.stderr.startswith("hookmill: --group: use ASCII letters, digits, - _ and .")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_encoding_of_the_output_does_not_have_is_shown_as_an_escape(
    encoding: str, tmp_path: Path
) -> None:
    (tmp_path / "hookmill.toml").write_text('group = "Ω"\n', "utf-8")

    answer = hookmill("check", env={"PYTHONIOENCODING": encoding}, folder=tmp_path)

    assert (answer.returncode, answer.stderr) == (2, "")
    assert r"(got '\u03a9')" in answer.stdout


def test_a_redis_that_is_away_ends_in_1_without_a_traceback_or_the_password() -> None:
    url = f"redis://:hunter2@127.0.0.1:{free_port()}"
    answer = hookmill("dead", "list", env={"REDIS_URL": url})

    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("hookmill: Error 111 connecting to 127.0.0.1:")
    assert answer.stderr.count("\n") == 1
    assert "hunter2" not in answer.stderr


def test_a_pipe_that_closes_early_is_no_error_worth_a_traceback(
    own_server: Callable[..., Server],
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    answer = subprocess.run(
        [sys.executable, "-m", "hookmill", "dead", "list"],
        env={"PATH": os.environ["PATH"], "REDIS_URL": own_server().url},
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)

    assert b"Traceback" not in answer.stderr


@pytest.mark.parametrize("program", ["receiver", "worker"])
def test_a_program_does_not_load_what_only_draws_on_terminals(program: str) -> None:
    code = (
        "import sys; from hookmill.cli.start import read_settings;"
        "from hookmill.runtime.loading import load_program;"
        f"read_settings(); load_program({program!r});"
        "print('structlog' in sys.modules, 'rich' in sys.modules); import rich"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PATH": os.environ["PATH"]}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "True False\n"


def test_the_help_loads_no_server_and_draws_nothing() -> None:
    heavy = ("aiohttp", "redis", "rich", "pydantic", "structlog", "asyncio")
    code = (
        "import sys; from hookmill.cli.main import app\n"
        "try: app(['--help'])\n"
        f"finally: print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PATH": os.environ["PATH"]}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("Usage: ")
    assert done.stderr == "[]\n"
