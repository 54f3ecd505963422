"""How commands write: text for people, JSON, errors, and text that a stranger chose."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hookmill.cli.output import console, fail, say, say_document, say_error, say_json, say_value
from tests.hostile import HOSTILE, is_clean

ANY_TEXT = st.text(st.characters(exclude_categories=()))


def test_what_is_said_goes_to_stdout_and_json_is_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say("a line")
    say_document(b'{\n  "a": 1\n}')
    say_json({"id": "msg_1", "text": "ä\n"})
    said = 'a line\n{\n  "a": 1\n}\n{"id":"msg_1","text":"ä\\n"}\n'
    assert capsys.readouterr() == (said, "")


def test_a_failure_says_why_on_stderr_and_ends_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit) as ended:
        fail("there is no such group")
    with pytest.raises(typer.Exit) as ended_in_2:
        fail("this is no group", 2)
    assert (ended.value.exit_code, ended_in_2.value.exit_code) == (1, 2)
    said = "hookmill: there is no such group\nhookmill: this is no group\n"
    assert capsys.readouterr() == ("", said)


def test_the_console_takes_text_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("[red]order[/red] :smile: 12")
    console(stderr=True).print("to stderr")
    assert capsys.readouterr() == ("[red]order[/red] :smile: 12\n", "to stderr\n")


def test_a_value_of_several_lines_is_indented_below_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_value("body", "one line")
    say_value("error", "first\nreason: forged\n\n  last\n")
    said = "body: one line\nerror:\n  first\n  reason: forged\n\n    last\n\n"
    assert capsys.readouterr() == (said, "")


def test_further_lines_of_an_error_cannot_pass_for_the_program_s_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_error("no such file: a\nhookmill: all is well")
    assert capsys.readouterr() == ("", "hookmill: no such file: a\n  hookmill: all is well\n")


@pytest.mark.parametrize(
    "write",
    [say, say_error, say_json, lambda text: say_value("body", text), lambda text: say_json([text])],
)
@given(text=ANY_TEXT | st.just(HOSTILE))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_written_neither_steers_a_terminal_nor_looks_like_another_line(
    write: Callable[[str], None], capsys: pytest.CaptureFixture[str], text: str
) -> None:
    write(text)

    written = "".join(capsys.readouterr())
    assert is_clean(written)
    assert all(line.startswith("  ") for line in written.splitlines()[1:] if line)


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_json_keeps_its_values(capsys: pytest.CaptureFixture[str], value: object) -> None:
    say_json(value)
    assert json.loads(capsys.readouterr().out) == value


def test_half_of_a_surrogate_pair_becomes_its_escape(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({"a\udcff": ["\udcff", 1]})
    assert json.loads(capsys.readouterr().out) == {"a\\udcff": ["\\udcff", 1]}
