"""How commands write: plain text, JSON, errors, and text that a stranger chose."""

from __future__ import annotations

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from hookmill.cli.output import console, fail, printable, say, say_json


def test_what_is_said_goes_to_stdout_and_json_is_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say("a line")
    say(b"bytes")
    say_json({"id": "msg_1", "text": "ä\n"})
    assert capsys.readouterr() == ('a line\nbytes\n{"id":"msg_1","text":"ä\\n"}\n', "")


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("order.paid, größe 🎈", "order.paid, größe 🎈"),
        ("a\n\tb", "a\n\tb"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\rb\x00", "a\\rb\\x00"),
        ("\u202eright to left", "\\u202eright to left"),
        ("\udcff", "\\udcff"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_text_of_one_line_keeps_no_line_break() -> None:
    assert printable("a\n\tb", keep="") == "a\\n\\tb"


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_becomes_one_that_can_be_written_to_a_terminal(text: str) -> None:
    shown = printable(text)
    assert all(c.isprintable() or c in "\n\t" for c in shown)
    shown.encode()  # raises for a half of a surrogate pair
    assert printable(shown) == shown
