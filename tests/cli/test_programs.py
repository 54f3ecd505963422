"""The commands that run a program: which handlers they take, and which options they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import NO_REDIS, hookmill

MODULE = "from hookmill import Handlers\n\nhandlers = Handlers()\n"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["given:handlers"], "given"),
        ([], "set_elsewhere"),
    ],
)
def test_the_handlers_of_the_command_count_before_those_of_the_settings(
    given: list[str], named: str, tmp_path: Path
) -> None:
    env = NO_REDIS | {"HOOKMILL_HANDLERS": "set_elsewhere:handlers"}
    answer = hookmill("worker", *given, env=env, folder=tmp_path)
    assert answer.returncode == 2
    assert f"'{named}:handlers'" in answer.stderr or f"No module named '{named}'" in answer.stderr


def test_an_option_of_the_command_is_checked_as_its_setting_is(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(MODULE)
    answer = hookmill("worker", "app:handlers", "--concurrency", "0", env=NO_REDIS, folder=tmp_path)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "greater than or equal to 1 (got 0)" in answer.stderr


@pytest.mark.parametrize("given", ["0", "many"])
def test_a_number_of_processes_that_cannot_be_is_refused(given: str) -> None:
    answer = hookmill("receiver", "--processes", given, env=NO_REDIS)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "hookmill: --processes: Input should be " in answer.stderr


@pytest.mark.parametrize("option", [("--port", "65536"), ("--time-scale", "-1")])
def test_the_emulator_refuses_numbers_that_cannot_be(option: tuple[str, str]) -> None:
    answer = hookmill("qstash", *option)
    assert answer.returncode == 2
    assert option[0] in answer.stderr
