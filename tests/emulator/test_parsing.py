"""The values of a request: what is read, and what is refused with its place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.emulator import parsing
from tests.emulator.refusals import is_fine, outcome, refusal


@pytest.mark.parametrize("text", ["a", "A-b_c.9", "n" * 256])
def test_a_name_has_letters_digits_hyphens_periods_and_underscores(text: str) -> None:
    assert parsing.name_of("queue", text) == text


@pytest.mark.parametrize("text", ["", "a b", "ä", "a/b", "a\n", "n" * 257])
def test_another_name_is_refused(text: str) -> None:
    assert refusal(parsing.name_of, "queue", text).startswith("queue ")


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), (" TRUE ", True), ("1", True), ("false", False), ("0", False)],
)
def test_a_flag_is_true_or_false_in_either_case(text: str, value: bool) -> None:
    assert parsing.flag_of(text, "flag") is value


def test_another_flag_is_refused() -> None:
    assert refusal(parsing.flag_of, "yes", "flag") == "flag: 'yes' is neither true nor false"


def test_a_value_without_control_characters_is_printable() -> None:
    assert parsing.printable("ä\t🎈", "X-A") == "ä\t🎈"
    assert refusal(parsing.printable, "a\x00", "X-A") == "'X-A' contains a control character"
    assert refusal(parsing.printable, "\udcff", "X-A") == "'X-A' is not UTF-8"


@pytest.mark.parametrize(("text", "number"), [("0", 0), (" 7 ", 7), ("007", 7), ("1000000", 10**6)])
def test_a_whole_number_has_ascii_digits(text: str, number: int) -> None:
    assert parsing.whole_number(text, "retries") == number


@pytest.mark.parametrize("text", ["", "-1", "+1", "1_0", "1.0", "\u0667", "1000001", "9" * 30])
def test_another_number_is_refused_with_its_limits(text: str) -> None:
    said = refusal(parsing.whole_number, text, "retries")
    assert said.startswith("retries: ")
    assert said.endswith("is not a whole number from 0 to 1000000")


@pytest.mark.parametrize(
    ("text", "seconds"), [("50s", 50), ("1d10h30m", 124_200), ("1m1m", 120), ("3650d", 315_360_000)]
)
def test_a_duration_is_the_sum_of_its_parts(text: str, seconds: float) -> None:
    assert parsing.seconds_of(text, "delay") == seconds


@pytest.mark.parametrize("text", ["", "50", "s", "-1s", "1.5s", "1 s", "1w", "3651d"])
def test_another_duration_is_refused(text: str) -> None:
    assert refusal(parsing.seconds_of, text, "delay").startswith("delay: ")


@pytest.mark.parametrize(
    ("text", "seconds"), [("1", 1), ("90", 90), ("1m30s", 90), ("7d", 604_800)]
)
def test_a_period_is_a_duration_or_a_number_of_seconds(text: str, seconds: float) -> None:
    assert parsing.period_of(text, "period") == seconds


@pytest.mark.parametrize("text", ["0", "0s", "604801", "8d"])
def test_a_period_is_at_least_a_second_and_at_most_a_week(text: str) -> None:
    assert "between a second and a week" in refusal(parsing.period_of, text, "period")


@pytest.mark.parametrize(
    "text",
    [
        "http://a.example",
        "HTTPS://a.example:8443/x?y=%20&z[]={1}",
        "http://user:pw@[::1]:1/",
        "name.of-a_group",
    ],
)
def test_a_destination_is_a_url_or_a_name(text: str) -> None:
    parsing.check_url_or_name(text, "the destination")


@pytest.mark.parametrize(
    "text",
    [
        "http://",
        "http://a.example:0/",
        "http://a.example:99999/",
        "http://a.example/#part",
        "http://a.example\\@b.example/",
        "http://a.example/a b",
        "http://a.example/ä",
        "http://[::1/",
    ],
)
def test_a_url_that_cannot_be_requested_as_it_is_written_is_refused(text: str) -> None:
    assert refusal(parsing.check_url_or_name, text, "the destination").startswith(
        "the destination is not a URL"
    )


@pytest.mark.parametrize("text", ["", "ftp://a.example/?token=shh", "http%3A%2F%2Fa.example/shh"])
def test_neither_a_url_nor_a_name_is_refused_without_being_shown(text: str) -> None:
    said = refusal(parsing.check_url_or_name, text, "the destination")
    assert said.startswith("the destination is neither a URL nor the name of a URL group")
    assert "shh" not in said


def test_a_forwarded_header_has_the_name_of_a_header() -> None:
    assert parsing.header_name("X-Tag_1") == "X-Tag_1"
    for name in ("", "X Tag", "X:Tag", "Ä"):
        assert "not a valid name of a header" in refusal(parsing.header_name, name)


def test_json_of_another_form_is_refused_with_what_was_expected() -> None:
    assert parsing.json_of(b'["a"]', list[str], "a list of names") == ["a"]
    for body in (b"", b"[1]", b"{", b"[" * 100_000):
        said = refusal(parsing.json_of, body, list[str], "a list of names")
        assert said.startswith("the body is not a list of names in JSON: ")


def test_a_value_in_an_error_is_short_and_in_ascii() -> None:
    assert parsing.shown("größe\n") == r"'gr??e\n'"
    assert parsing.shown("x" * 61) == f"'{'x' * 60}...'"


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_read_or_refused(text: str) -> None:
    readers: list[tuple[Any, ...]] = [
        (parsing.name_of, "name", text),
        (parsing.flag_of, text, "flag"),
        (parsing.printable, text, text),
        (parsing.whole_number, text, "number"),
        (parsing.seconds_of, text, "duration"),
        (parsing.period_of, text, "period"),
        (parsing.check_url_or_name, text, "destination"),
        (parsing.check_url, f"http://{text}", "destination"),
        (parsing.header_name, text),
    ]
    assert all(is_fine(outcome(*one)) for one in readers)
