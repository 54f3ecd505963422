"""Texts that strangers chose, as they are shown on a terminal and in a log."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.printable import block, cell, field, printable, printable_json
from tests.hostile import HOSTILE, is_clean

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.just(HOSTILE)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("order.paid, größe 🎈", "order.paid, größe 🎈"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\r\n\tb\x00\x7f", "a\\r\\n\\tb\\x00\\x7f"),
        ("\x9b2J\x85", "\\x9b2J\\x85"),
        ("\u202eright to left\u2069", "\\u202eright to left\\u2069"),
        ("\u2028\u2029\u00a0", "\\u2028\\u2029\\xa0"),
        ("blank \u2800\u3164", "blank \\u2800\\u3164"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_does_not_show_as_itself_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_characters_that_are_to_be_kept_are_kept() -> None:
    assert printable("a\n\tb\r", keep="\n\t") == "a\n\tb\\r"


@given(ANY_TEXT)
def test_any_text_becomes_one_line_that_can_be_written_to_a_terminal(text: str) -> None:
    shown = printable(text)
    assert is_clean(shown)
    assert len((shown + "x").splitlines()) == 1
    assert not {"\n", "\t"} & set(shown)
    shown.encode()  # raises for a half of a surrogate pair
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "-"),
        ("-", "'-'"),
        ("two words", "two words"),
        ("a  b", "a \\x20b"),
        (" a ", "\\x20a\\x20"),
        ("   ", "\\x20\\x20\\x20"),
        ("a\tb\u00a0\u00a0c", "a\\tb\\xa0\\xa0c"),
    ],
)
def test_a_cell_cannot_pass_for_two(text: str, shown: str) -> None:
    assert cell(text) == shown


@given(ANY_TEXT)
def test_any_cell_is_one_column(text: str) -> None:
    shown = cell(text)
    assert is_clean(shown)
    assert "  ".join([shown, shown]).split("  ") == [shown, shown]


@given(ANY_TEXT)
def test_each_line_of_a_block_is_indented(text: str) -> None:
    shown = block(text)
    assert is_clean(shown)
    assert all(line.startswith("  ") for line in shown.splitlines() if line)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("order.paid", "order.paid"),
        ("", "''"),
        ("two words", "'two words'"),
        ("a=1", "'a=1'"),
        ("it's", '"it\'s"'),
        ("a\nid=other", "'a\\nid=other'"),
        ("\x1b", "'\\x1b'"),
        ("\u2800", "'\\u2800'"),
    ],
)
def test_a_field_that_is_no_single_word_is_quoted(text: str, shown: str) -> None:
    assert field(text) == shown


@given(ANY_TEXT)
def test_no_field_can_pass_for_another_one(text: str) -> None:
    shown = field(text)
    assert is_clean(shown)
    assert shown[0] == shown[-1] in {"'", '"'} or not {" ", "=", "\\"} & set(shown)


@pytest.mark.parametrize("text", ["plain", "größe 🎈", "\x7f", HOSTILE])
def test_json_keeps_its_value_and_shows_as_itself(text: str) -> None:
    written = printable_json(msgspec.json.encode({text: [text]}))
    assert json.loads(written) == {text: [text]}
    assert is_clean(written.decode())


@given(st.text())
def test_any_json_keeps_its_value_and_its_lines(text: str) -> None:
    laid_out = msgspec.json.format(msgspec.json.encode([text, {"a": text}]), indent=2)
    written = printable_json(laid_out)
    assert json.loads(written) == [text, {"a": text}]
    assert is_clean(written.decode())
    assert written.count(b"\n") == laid_out.count(b"\n")
