"""Messages: found by their IDs, and the story of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hookmill.admin import recent
from hookmill.admin.bodies import laid_out
from hookmill.admin.messages import Messages, NoSuchMessageError
from hookmill.admin.redactions import shown_by
from hookmill.admin.replay_filter import ReplayFilter
from hookmill.admin.typed_bodies import TypedBody, typed_body
from hookmill.console.console import Console
from hookmill.console.filters import moment_of, where_of
from hookmill.console.pages import Moved, PageRefusedError, Request, Shown, written
from hookmill.console.replay_pages import replayable
from hookmill.errors import WireVersionError
from hookmill.message import Message
from hookmill.stream.whereabouts import Whereabouts

FILTERS = ("from", "type", "key", "where", "after", "before", "state", "group")

MAX_ID = 1000
"""Characters of what is searched for."""


async def messages(console: Console, request: Request) -> Shown | Moved:
    """Find messages by a message ID, or by the ID of an entry or of a dead letter."""
    text, source = (request.query.get(name, "").strip() for name in ("id", "source"))
    given = {name: request.query.get(name, "").strip() for name in FILTERS}
    values: dict[str, Any] = {
        "id": text[:MAX_ID], "source": source, "found": None, "fault": "",
        "page": None, "given": given, "in_state": None,
    }  # fmt: skip
    if text:
        try:
            found = await (await _opened(console)).find(text[:MAX_ID], source or None)
        except NoSuchMessageError as error:
            return Shown("messages.html", values | {"fault": str(error)}, status=404)
        if len(found.matches) == 1:
            return Moved(f"/messages/{found.matches[0].entry}")
        values["found"] = found
        return Shown("messages.html", values)
    client = await console.backend.client()
    shown = await shown_by(client, console.settings)
    cursor = request.query.get("older", "")
    group, groups = await console.group_of(request)
    in_state = None
    if given["state"] and group is not None:
        in_state = recent.InState(group.name, given["state"])
    found_page = await recent.page(client, _filter(given), shown, in_state=in_state, cursor=cursor)
    older = given | {"older": found_page.cursor}
    values |= {"page": found_page, "states": recent.STATES, "groups": groups, "in_state": in_state}
    values["older"] = written({name: value for name, value in older.items() if value})
    return Shown("messages.html", values)


async def story(console: Console, request: Request) -> Shown:
    """Tell the story of the message with this entry."""
    opened = await _opened(console)
    try:
        found = await opened.find(request.named["entry"][:MAX_ID])
    except NoSuchMessageError as error:
        raise PageRefusedError(404, str(error)) from None
    told = await opened.story(found.matches[0])
    body, typed = await _body(console, told.entry)
    values = {"story": told, "body": body, "typed": typed, "replayable": replayable(told)}
    return Shown("message.html", values, "overview")


async def _body(console: Console, entry: str) -> tuple[str | None, TypedBody | None]:
    """Return as much of a message's body as may be shown, laid out (None where it is gone), and how
    it decodes as a typed event.
    """
    client = await console.backend.client()
    token, _, number = entry.partition("@")
    fields = await Whereabouts(client).entry(int(number or 0), token)
    try:
        message = None if fields is None else Message.from_fields(fields)
    except WireVersionError:
        message = None
    if message is None:
        return None, None
    shown = await shown_by(client, console.settings)
    body = laid_out(shown.body(message).decode("utf-8", "backslashreplace"))
    return body, typed_body(message, shown, console.classes)


def _filter(given: Mapping[str, str]) -> ReplayFilter:
    return ReplayFilter(
        source=given["from"] or None,
        type=given["type"] or None,
        key=given["key"] or None,
        where=where_of(given["where"]),
        since_ms=moment_of(given, "after"),
        before_ms=moment_of(given, "before"),
    )


async def _opened(console: Console) -> Messages:
    client = await console.backend.client()
    return Messages(client, console.settings, tuple(await Whereabouts(client).groups()))
