"""The refused deliveries that receivers have kept: why each was refused, and what would match."""

from __future__ import annotations

from hookmill.admin.bodies import laid_out
from hookmill.admin.redactions import shown_by
from hookmill.admin.refused import NoSuchRefusedError, Refusals
from hookmill.console.console import Console
from hookmill.console.pages import PageRefusedError, Request, Shown


async def refused(console: Console, request: Request) -> Shown:
    """Show what is kept, the newest first."""
    source = request.query.get("source", "").strip()
    rows = await (await _opened(console)).newest_first(source or None)
    return Shown("refused.html", {"rows": rows, "source": source})


async def one(console: Console, request: Request) -> Shown:
    """Show one of them, with its explanation."""
    try:
        seen = await (await _opened(console)).find(request.named["id"])
    except NoSuchRefusedError as error:
        raise PageRefusedError(404, str(error)) from None
    return Shown("refused_one.html", {"seen": seen, "body": laid_out(seen["body"])})


async def _opened(console: Console) -> Refusals:
    client = await console.backend.client()
    return Refusals(client, await shown_by(client, console.settings))
