"""Messages: found by their IDs, and the story of one."""

from __future__ import annotations

from typing import Any

from hookmill.admin.messages import Messages, NoSuchMessageError
from hookmill.console.console import Console
from hookmill.console.pages import Moved, PageRefusedError, Request, Shown
from hookmill.stream.whereabouts import Whereabouts

MAX_ID = 1000
"""Characters of what is searched for."""


async def messages(console: Console, request: Request) -> Shown | Moved:
    """Find messages by a message ID, or by the ID of an entry or of a dead letter."""
    text, source = (request.query.get(name, "").strip() for name in ("id", "source"))
    values: dict[str, Any] = {
        "id": text[:MAX_ID], "source": source, "found": None, "fault": "",
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


async def story(console: Console, request: Request) -> Shown:
    """Tell the story of the message with this entry."""
    opened = await _opened(console)
    try:
        found = await opened.find(request.named["entry"][:MAX_ID])
    except NoSuchMessageError as error:
        raise PageRefusedError(404, str(error)) from None
    told = await opened.story(found.matches[0])
    return Shown("message.html", {"story": told}, "overview")


async def _opened(console: Console) -> Messages:
    client = await console.backend.client()
    return Messages(client, console.settings, tuple(await Whereabouts(client).groups()))
