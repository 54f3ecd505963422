"""The audit: who did what, when and why, and what came of it."""

from __future__ import annotations

import msgspec

from hookmill.admin import audit as records
from hookmill.console.console import Console
from hookmill.console.pages import Request, Shown

PAGE = 100
"""Actions on the page, the newest first."""


async def audit(console: Console, request: Request) -> Shown:
    """Show the newest actions, or the newest of some kind."""
    pattern = request.query.get("action", "").strip()
    found = records.listed(console.settings, action=pattern or None, limit=PAGE)
    seen = [records.describe(one) async for one in found]
    rows = [{**one, "about": _text(one["details"]), "came": _text(one["result"])} for one in seen]
    return Shown("audit.html", {"rows": rows, "action": pattern})


def _text(values: object) -> str:
    return msgspec.json.encode(values).decode() if values else ""
