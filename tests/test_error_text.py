"""The full text of an error ends with a line that sums it up, whatever the error is."""

from __future__ import annotations

import traceback

import pytest

from hookmill.error_text import MAX_ERROR, MAX_SUMMARY, last_line, summary_of, text_of


def noted(error: Exception, *notes: str) -> Exception:
    for note in notes:
        error.add_note(note)
    return error


class Shy(Exception):  # noqa: N818 - its name is in the expected text
    def __str__(self) -> str:
        raise SystemExit


class OddNotes(Exception):  # noqa: N818 - its name is in the expected text
    __notes__ = 5  # type: ignore[assignment] # a user can do so


HERE = __name__


@pytest.mark.parametrize(
    ("error", "summary"),
    [
        (ValueError("no such account"), "ValueError: no such account"),
        (ValueError("a  b"), "ValueError: a  b"),
        (ValueError(), "ValueError"),
        (ValueError("two\n  lines\n"), "ValueError: two lines"),
        (KeyError("o1"), "KeyError: 'o1'"),
        (Shy(), f"{HERE}.Shy: <its text cannot be shown>"),
        (OddNotes("x"), f"{HERE}.OddNotes: x"),
        (
            noted(ValueError("x"), "for o1", "at\nnight"),
            "ValueError: x; note: for o1; note: at night",
        ),
        (ExceptionGroup("g", [ValueError("x")]), "ValueError: x"),
        (
            ExceptionGroup(
                "g", [ValueError("x"), ExceptionGroup("h", [KeyError(1), OSError("y")])]
            ),
            "ValueError: x; KeyError: 1; OSError: y",
        ),
        (ExceptionGroup("g", [ValueError("x")] * 3), "ValueError: x (3 times)"),
        (
            noted(
                ExceptionGroup(
                    "g",
                    [
                        noted(ValueError("x"), "leaf"),
                        noted(ExceptionGroup("h", [OSError("y")]), "inner"),
                    ],
                ),
                "outer",
            ),
            "ValueError: x; OSError: y; note: outer; note: inner; note: leaf",
        ),
        (
            ExceptionGroup("g", [ValueError("x" * 500), OSError("y")]),
            f"ValueError: {'x' * 88}; OSError: y",
        ),
    ],
)
def test_an_error_is_summed_up_in_one_line(error: Exception, summary: str) -> None:
    assert summary_of(error) == summary
    text = text_of(error)
    assert text.splitlines()[-1] == last_line(text) == summary
    assert text.startswith("".join(traceback.format_exception(error)))


def test_the_summary_is_not_said_twice() -> None:
    assert text_of(ValueError("no")) == "ValueError: no\n"
    assert text_of(ValueError("no\nno")) == "ValueError: no\nno\nValueError: no no\n"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x" * 1_000_000),
        ValueError("x\n" * 1_000_000),
        noted(ValueError(), "x" * 1_000_000),
        ExceptionGroup("g", [ValueError(n) for n in range(10_000)]),
        ExceptionGroup("g", [ExceptionGroup("h", [ValueError(n)]) for n in range(10_000)]),
    ],
)
def test_both_are_bounded(error: Exception) -> None:
    assert 100 < len(text_of(error)) <= MAX_ERROR
    assert len(summary_of(error)) <= MAX_SUMMARY
    assert "\n" not in summary_of(error)


def test_a_deep_group_is_summed_up() -> None:
    error: Exception = ValueError("deep")
    for _ in range(2000):
        error = ExceptionGroup("g", [error])
    assert summary_of(error) == "ValueError: deep"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("Traceback\n  in book\nValueError: no\n", "ValueError: no"),
        ("  | g (1 sub-exception)\n    | ValueError: no\n    +-----\n", "ValueError: no"),
        ("    | KeyError: 1\n      +----\n    +-----\n", "KeyError: 1"),
        ("---", ""),
    ],
)
def test_what_an_earlier_release_stored_is_summed_up_too(text: str, line: str) -> None:
    assert last_line(text) == line


def test_the_text_of_a_group_of_an_earlier_release_has_its_last_error() -> None:
    group = ExceptionGroup("g", [ValueError("one"), KeyError("two")])
    stored = "".join(traceback.format_exception(group))
    assert last_line(stored) == "KeyError: 'two'"
