"""Texts of the command line that are not UTF-8 are refused, whichever command gets them."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from hookmill.cli.main import app
from tests.cli.running import NO_REDIS

HALVES = st.characters(categories=["Cs"])
CHOICES = {"start": "now", "level": "info"}
AS_BYTES = {"send": {"body"}, "verify": {"header", "secret", "secret_env"}}


def texts(command: Any, name: str = "") -> Iterator[tuple[Any, str, Any]]:
    """Yield each command, its name, and each of its parameters that takes a text."""
    for child_name, child in getattr(command, "commands", {}).items():
        yield from texts(child, f"{name} {child_name}".strip())
    if not hasattr(command, "commands"):
        signature = inspect.signature(command.callback, eval_str=True)
        for one in command.params:
            if is_text(signature.parameters[one.name].annotation):
                yield command, name, one


def is_text(annotation: Any) -> bool:
    """Return whether texts are among the values of a parameter: `str | None`, `list[str]`."""
    return annotation is str or any(map(is_text, get_args(annotation)[:2]))


ALL = [*texts(typer.main.get_command(app))]


def words_for(command: Any, given: Any, text: str) -> list[str]:
    """Return a command line in which this parameter has the text, and all others that must be given
    have some value.
    """
    words: list[str] = []
    for one in command.params:
        if one is not given and not one.required:
            continue
        values = [text if one is given else CHOICES.get(one.name, "1")] * max(1, one.nargs)
        words += values if one.param_type_name == "argument" else [one.opts[0], *values]
    return words


@pytest.mark.parametrize(
    ("command", "name", "one"), ALL, ids=[f"{name} {one.name}" for _, name, one in ALL]
)
def test_each_text_of_each_command_is_refused_if_it_is_not_utf_8(
    command: Any, name: str, one: Any
) -> None:
    words = words_for(command, one, "caf\udce9")
    if one.name in AS_BYTES.get(name, set()):
        assert "\\udce9" in ascii(command.make_context(name, words).params[one.name])
        return
    with pytest.raises(typer.BadParameter, match="it is not UTF-8") as refused:
        command.make_context(name, words)
    assert refused.value.exit_code == 2
    assert refused.value.param is one
    assert command.make_context(name, words_for(command, one, "caf\u00e9")).params


@given(st.text(), HALVES, st.text())
def test_wherever_half_of_a_surrogate_pair_stands_it_is_found(
    before: str, half: str, behind: str
) -> None:
    pause = next(command for command, name, _ in ALL if name == "pause")
    with pytest.raises(typer.BadParameter, match="it is not UTF-8"):
        pause.make_context("pause", ["--key=acme", f"{before}{half}{behind}"])


def test_the_option_is_named_and_the_exit_status_is_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hookmill", "pause", "--key", "acme", b"\xff"],
        env={"PATH": os.environ["PATH"], **NO_REDIS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "Invalid value for '--key': it is not UTF-8" in done.stderr
