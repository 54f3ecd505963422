"""Pages: how one is read, and that a list is read whole page by page."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hookmill.emulator.models import (
    AttemptResult,
    DlqMessage,
    LogEntry,
    QStashMessage,
    Template,
)
from hookmill.emulator.pages import Page, Place, latest_first, oldest_first, read_page
from tests.emulator.refusals import refusal

BARE = QStashMessage("msg_1", "https://example.com/hook", Template(), 1, 1000, 1000)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ([], Page(None, 100)),
        ([("count", "5")], Page(None, 5)),
        ([("count", "5000")], Page(None, 1000)),
        ([("cursor", "")], Page(None, 100)),
        ([("cursor", "0")], Page(None, 100)),
        ([("cursor", "1700000000000")], Page((1_700_000_000_000, ""), 100)),
        ([("cursor", "17-dlq_a-b")], Page((17, "dlq_a-b"), 100)),
    ],
)
def test_a_page_is_read(query: list[tuple[str, str]], expected: Page) -> None:
    assert read_page(query, default=100, most=1000) == expected


@pytest.mark.parametrize(
    "query", [("count", "0"), ("count", "x"), ("cursor", "x"), ("cursor", "-")]
)
def test_an_invalid_page_is_refused(query: tuple[str, str]) -> None:
    refusal(read_page, [query], default=1, most=1)


TIMES = st.lists(st.integers(1, 4), max_size=12)


def entries(times: list[int]) -> list[LogEntry]:
    """A log, the latest entry first; each can be told from the others."""
    found = [LogEntry(at, "CREATED", replace(BARE, number=n)) for n, at in enumerate(sorted(times))]
    return found[::-1]


def place_in(given: dict[str, Any]) -> tuple[int, str] | None:
    cursor = given.get("cursor")
    at, _, which = cursor.partition("-") if cursor else ("", "", "")
    return (int(at), which) if cursor else None


@given(times=TIMES, size=st.integers(1, 5), later=TIMES)
def test_the_pages_of_the_log_are_the_log_even_if_entries_are_added(
    times: list[int], size: int, later: list[int]
) -> None:
    log, cursor, given = entries(times), None, list[LogEntry]()
    newest = max(times, default=1)
    whole = [*entries([max(at, newest) for at in later]), *log]
    for turn in range(len(times) + 1):
        page, more = latest_first(log if turn == 0 else whole, Page(cursor, size))
        given += page
        cursor = place_in(more)
        if cursor is None:
            break
    assert given == log


@given(times=TIMES, size=st.integers(1, 5))
def test_the_pages_of_the_dlq_are_the_dlq_even_if_each_page_is_deleted(
    times: list[int], size: int
) -> None:
    dlq = [DlqMessage(f"dlq_{n}", BARE, AttemptResult(), at) for n, at in enumerate(times)]

    def place_of(one: DlqMessage) -> Place:
        return one.failed_ms, one.id

    dlq.sort(key=place_of)
    left, cursor, given = dlq, None, list[DlqMessage]()
    for _ in range(len(times) + 1):
        page, more = oldest_first(left, Page(cursor, size), place_of)
        given += page
        left = [one for one in left if one not in page]
        cursor = place_in(more)
        if cursor is None:
            break
    assert given == dlq


def test_a_cursor_without_text_means_everything_older() -> None:
    log = entries([1, 2, 2, 3])
    page, more = latest_first(log, Page((3, ""), 10))
    assert ([entry.at_ms for entry in page], more) == ([2, 2, 1], {})
