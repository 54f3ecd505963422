"""How a dead letter looks on a terminal: its line in the list."""

from __future__ import annotations

import re
from typing import Any

from hookmill.printable import cell


def summary(seen: dict[str, Any]) -> str:
    """Sum up a dead letter in a line. Its ID comes first, because the other commands take it."""
    from hookmill.error_text import last_line

    error = last_line(seen["error"]) or seen.get("unreadable")
    return "  ".join(
        [
            seen["id"],
            *(short(seen[key]) for key in ("first_failed_at", "died_at")),
            *(cell(seen[key]) for key in ("source", "type", "message_id")),
            f"{cell(seen['handler'])} (attempts: {seen['attempts']})",
            ": ".join(map(cell, filter(None, [seen["reason"], error]))),
        ]
    )


def short(moment: str) -> str:
    """Leave out the fraction of a second: a line has two times."""
    return re.sub(r"\.[0-9]+\+00:00$", "Z", moment) or "-"
