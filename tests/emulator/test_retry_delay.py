"""The retry-delay expression: arithmetic and nothing else."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.emulator.models import ApiError
from hookmill.emulator.retry_delay import check, milliseconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1000", [1000, 1000, 1000]),
        (" 1000 * (1 + retried)", [1000, 2000, 3000]),
        ("pow(2, retried)", [1, 2, 4]),
        ("max(10, pow(20, retried))", [10, 20, 400]),
        ("min(5, retried * 10, 7)", [0, 5, 5]),
        ("floor(sqrt(10) * 100)", [316, 316, 316]),
        ("ceil(0.2) + round(2.6) + abs(-4)", [8, 8, 8]),
        ("exp(retried) * 100", [100, 272, 739]),
        ("retried % 2", [0, 1, 0]),
        ("0 - 500", [0, 0, 0]),
        ("100 / retried", [None, 100, 50]),
        ("exp(1000 * retried)", [1, None, None]),
    ],
)
def test_it_gives_milliseconds_never_below_zero(text: str, expected: list[int | None]) -> None:
    assert check(text) == text
    assert [milliseconds(text, retried) for retried in range(3)] == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "1 +", "other", "retried.real", "__import__('os')", "'1'", "[1]", "(1, 2)", "lambda: 1",
        "pow(1)", "sqrt(1, 2)", "sqrt(x=1)", "max()", "1 if retried else 2", "9 ** 9 ** 9", "True",
        "1 << 9", "x := 1", "print(1)", "1\n2", "\0", "1 / retried + other", "(" * 200, "1" * 300,
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ApiError, match="retry delay") as caught:
        check(text)
    assert caught.value.status == 400


@given(st.one_of(st.text(), st.text("retid0123456789.+-*/%(), powmaxsq")), st.integers(0, 9))
def test_no_text_does_more_than_that(text: str, retried: int) -> None:
    with contextlib.suppress(ApiError):
        check(text)
        found = milliseconds(text, retried)
        assert found is None or found >= 0
