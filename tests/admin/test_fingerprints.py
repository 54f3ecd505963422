"""Errors that differ only in what differs each time have the same fingerprint."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.admin.fingerprints import is_fingerprint, kind_of, normalised

TRACEBACK = """Traceback (most recent call last):
  File "/usr/lib/python3.11/asyncio/tasks.py", line 442, in wait_for
    return await fut
  File "/app/{release}/shop/orders.py", line {line}, in {function}
    raise ValueError
  File "/app/.venv/lib/python3.11/site-packages/httpx/_client.py", line 9, in send
    raise
{last}
"""


def error(last: str, line: int = 7, function: str = "pay", release: str = "r1") -> str:
    return TRACEBACK.format(last=last, line=line, function=function, release=release)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ValueError: no order 12", "ValueError: no order 9"),
        ("KeyError: 'ord_1f'", "KeyError: 'another'"),
        ("x.Gone: at 0x7f12 in 1.25 s", "x.Gone: at 0xffee in 31,000.5 s"),
        ("x.Gone: 550e8400-e29b-41d4-a716-446655440000", "x.Gone: msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"),
        ("x.Gone: since 2026-11-30T10:00:00Z", "x.Gone: since 2025-01-02T03:04:05.678+01:00"),
        ("x.Gone:  two  spaces", "x.Gone: two spaces"),
        ("x.Gone: [1, 2, 3]", "x.Gone: [4, 5, 6]"),
    ],
)
def test_what_differs_each_time_is_left_out(one: str, other: str) -> None:
    first = kind_of(error(one), "send").fingerprint
    assert first == kind_of(error(other, line=99, release="r2"), "send").fingerprint
    assert is_fingerprint(first)


@pytest.mark.parametrize(
    ("text", "handler"),
    [
        (error("KeyError: no order 12"), "send"),
        (error("ValueError: no account 12"), "send"),
        (error("ValueError: no order 12", function="refund"), "send"),
        (error("ValueError: no order 12"), "other"),
        ("ValueError: no order 12", "send"),
    ],
)
def test_another_type_text_handler_or_frame_is_another_error(text: str, handler: str) -> None:
    assert kind_of(error("ValueError: no order 12"), "send") != kind_of(text, handler)


def test_the_frame_is_the_innermost_that_is_the_users_own() -> None:
    kind = kind_of(error("httpx.HTTPError: '404 Not Found' for 'https://x.org/1'"), "send")
    assert kind == ("httpx.HTTPError: '*' for '*'", "send", "httpx.HTTPError", "shop/orders.py:pay")


def test_an_apostrophe_begins_no_quoted_text() -> None:
    assert normalised("can't read, won't write 5") == "can't read, won't write #"


@given(st.text(max_size=300), st.text(max_size=20))
def test_any_text_has_a_fingerprint_and_always_the_same(text: str, handler: str) -> None:
    kind = kind_of(text, handler)
    assert is_fingerprint(kind.fingerprint)
    assert kind == kind_of(text, handler)


LINES = st.lists(st.sampled_from(["a", "7", "0x", "#", "*", "-", ".", ":", " ", "é", "_"]))


@given(LINES.map("".join))
def test_a_line_without_what_differs_stays_as_it_is(line: str) -> None:
    once = normalised(line)
    assert normalised(once) == once


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=5), st.text("abc ", max_size=9))
def test_whatever_the_numbers_are_the_fingerprint_is_the_same(
    numbers: list[int], text: str
) -> None:
    said = [f"{text} {number} {text}" for number in numbers]
    assert len({kind_of(f"ValueError: {one}", "send").fingerprint for one in said}) == 1


@pytest.mark.parametrize(
    "text", ["'" * 16_384, "a-" * 8_192, "1." * 8_192, 'File "' * 4_000, "\n" * 9_999]
)
def test_the_work_for_a_hostile_text_is_bounded(text: str) -> None:
    began = time.process_time()
    kind_of(text, "send")
    assert time.process_time() - began < 1
