"""The newest messages that the stream still has, by source, type, key, time, body and state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from hookmill.admin.places import Subject, states
from hookmill.admin.redactions import Showable
from hookmill.admin.replay_filter import ReplayFilter, describe_entry
from hookmill.errors import HookmillError
from hookmill.message import about_of
from hookmill.stream.client import Client
from hookmill.stream.entries import DeadLetter
from hookmill.stream.recent import EntryPlace, RecentEntries

MOST_LOOKED_AT = 5_000
"""How many messages are looked at for one page, whatever the filter is."""

_STEP = 250


MOST_JUDGED = 100
"""Of how many messages the state is found out for one page, each with some questions to Redis."""

_MOST_AROUND = 1_000
"""Entries of one stream or list that are looked at to find out the state of one message."""

STATES = ("waiting", "held", "delayed", "again", "parked", "paused", "dead", "handled")
"""The states that a page can ask for. A message that was discarded or ignored, or is finished
without a record, is handled, too.
"""

_HANDLED = frozenset({"handled", "discarded", "ignored", "finished"})


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


class InState(NamedTuple):
    """Asks for the messages that are in one of `STATES` in a group, for one of its handlers."""

    group: str
    state: str

    def fits(self, states: Iterable[str]) -> bool:
        """Return whether a message that is in these states is meant."""
        return any(
            one == self.state or (self.state == "handled" and one in _HANDLED) for one in states
        )


async def page(
    client: Client,
    wanted: ReplayFilter,
    shown: Showable,
    *,
    in_state: InState | None = None,
    cursor: str = "",
    count: int = 50,
) -> RecentPage:
    """Return the newest messages that match, from the cursor on. Where a state is asked for, each
    has its `states`. Raises `RecentPageError`, and `SearchRefusedError` where the search could tell
    what is not `shown`.
    """
    if in_state is not None and in_state.state not in STATES:
        raise RecentPageError(f"state: {in_state.state!r} is none of {', '.join(STATES)}")
    shown.check_where(wanted.where, wanted.source)
    place, entries = _place_of(cursor), RecentEntries(client)
    if place is None and wanted.before_ms is not None:
        place = EntryPlace(wanted.before_ms, 0, 0)
    rows: list[dict[str, Any]] = []
    judged = 0
    looked_at, step = 0, count if wanted.is_everything else _STEP
    while looked_at < MOST_LOOKED_AT:
        some = await entries.before(place, wanted.since_ms or 0, step, whole=wanted.reads_bodies)
        if not some:
            return RecentPage(rows, looked_at, "")
        for entry in some:
            looked_at, place = looked_at + 1, EntryPlace.of(entry.id)
            if wanted.matches(entry.fields):
                row = describe_entry(entry)
                if in_state is not None:
                    judged += 1
                    row["states"] = await _states(client, in_state.group, entry)
                if in_state is None or in_state.fits(row["states"]):
                    rows.append(row)
            if len(rows) == count or judged == MOST_JUDGED:
                return RecentPage(rows, looked_at, entry.id)
    return RecentPage(rows, looked_at, str(place))


async def _states(client: Client, group: str, entry: DeadLetter) -> tuple[str, ...]:
    token, _, number = entry.id.partition("@")
    subject = Subject(
        partition=int(number or 0),
        token=token,
        fields=entry.fields,
        digest=entry.fields.get(b"digest", b""),
        received_ms=about_of(entry.fields).received_ms,
    )
    return await states(client, group, subject, _MOST_AROUND)


def _place_of(cursor: str) -> EntryPlace | None:
    if not cursor:
        return None
    try:
        return EntryPlace.of(cursor)
    except ValueError:
        raise RecentPageError(f"{cursor!r} is not the ID of an entry") from None
