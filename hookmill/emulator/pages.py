"""Pages of a list: reads which page a request wants, and cuts it out. Pure, no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from hookmill.emulator.models import LogEntry
from hookmill.emulator.parsing import LATEST_SECONDS, whole_number

Place: TypeAlias = tuple[int, str]
"""The position of an item: a time in milliseconds, and text that tells items of that time apart."""

T = TypeVar("T")


class Page(NamedTuple):
    """Which part of a list is wanted: `size` items after the position of `cursor`."""

    cursor: Place | None
    size: int


def read_page(query: Iterable[tuple[str, str]], *, default: int, most: int) -> Page:
    """Read `count` and `cursor`.

    A cursor is a time in milliseconds, a hyphen, and the text that tells items of that time apart.
    Without that text it means everything older.
    """
    given = dict(query)
    count = given.get("count") or str(default)
    cursor = given.get("cursor", "")
    place = None
    if cursor and cursor != "0":
        at, _, which = cursor.partition("-")
        place = (whole_number(at, "cursor", highest=LATEST_SECONDS * 1000), which)
    return Page(place, min(whole_number(count, "count", lowest=1), most))


def oldest_first(
    items: Sequence[T], page: Page, place_of: Callable[[T], Place]
) -> tuple[list[T], dict[str, str]]:
    """Cut a page out of items that are ordered by their position.

    Returns the items, and `{"cursor": ...}` for the next page if there is one. The cursor names
    the last item, so items that are added or removed in between shift nothing.
    """
    start = page.cursor
    left = [one for one in items if start is None or place_of(one) > start]
    return _cut(left, page.size, place_of)


def latest_first(entries: Sequence[LogEntry], page: Page) -> tuple[list[LogEntry], dict[str, str]]:
    """Cut a page out of log entries, the latest of which comes first.

    Entries of the same millisecond are numbered from the oldest, so a later entry does not change
    their numbers.
    """
    in_order: list[tuple[Place, LogEntry]] = []
    seen: Counter[int] = Counter()
    for entry in reversed(entries):
        seen[entry.at_ms] += 1
        in_order.append(((entry.at_ms, f"{seen[entry.at_ms]:06d}"), entry))
    start = page.cursor
    left = [pair for pair in reversed(in_order) if start is None or pair[0] < start]
    given, cursor = _cut(left, page.size, lambda pair: pair[0])
    return [entry for _, entry in given], cursor


def _cut(
    left: list[T], size: int, place_of: Callable[[T], Place]
) -> tuple[list[T], dict[str, str]]:
    given = left[:size]
    if len(left) <= size:
        return given, {}
    at_ms, which = place_of(given[-1])
    return given, {"cursor": f"{at_ms}-{which}"}
