"""The newest messages that the stream still has, by source, type, key, time and body."""

from __future__ import annotations

from typing import Any, NamedTuple

from hookmill.admin.redactions import Showable
from hookmill.admin.replay_filter import ReplayFilter, describe_entry
from hookmill.errors import HookmillError
from hookmill.stream.client import Client
from hookmill.stream.recent import EntryPlace, RecentEntries

MOST_LOOKED_AT = 5_000
"""How many messages are looked at for one page, whatever the filter is."""

_STEP = 250


class RecentPageError(HookmillError):
    """The place where a page of messages is to begin is none."""

    code = "recent_page"


class RecentPage(NamedTuple):
    """Some messages, described; how many were looked at for them; and where the next page begins
    ("": there is none).
    """

    rows: list[dict[str, Any]]
    looked_at: int
    cursor: str


async def page(
    client: Client, wanted: ReplayFilter, shown: Showable, *, cursor: str = "", count: int = 50
) -> RecentPage:
    """Return the newest messages that match, from the cursor on. Raises `RecentPageError`, and
    `SearchRefusedError` where the search could tell what is not `shown`.
    """
    shown.check_where(wanted.where, wanted.source)
    place, entries = _place_of(cursor), RecentEntries(client)
    if place is None and wanted.before_ms is not None:
        place = EntryPlace(wanted.before_ms, 0, 0)
    rows: list[dict[str, Any]] = []
    looked_at, step = 0, count if wanted.is_everything else _STEP
    while looked_at < MOST_LOOKED_AT:
        some = await entries.before(place, wanted.since_ms or 0, step, whole=wanted.reads_bodies)
        if not some:
            return RecentPage(rows, looked_at, "")
        for entry in some:
            looked_at, place = looked_at + 1, EntryPlace.of(entry.id)
            if wanted.matches(entry.fields):
                rows.append(describe_entry(entry))
            if len(rows) == count:
                return RecentPage(rows, looked_at, entry.id)
    return RecentPage(rows, looked_at, str(place))


def _place_of(cursor: str) -> EntryPlace | None:
    if not cursor:
        return None
    try:
        return EntryPlace.of(cursor)
    except ValueError:
        raise RecentPageError(f"{cursor!r} is not the ID of an entry") from None
