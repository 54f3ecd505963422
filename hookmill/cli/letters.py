"""How a dead letter looks on a terminal: its line in the list, and its body laid out."""

from __future__ import annotations

import re
from typing import Any

from hookmill.printable import cell

_LINE = 80
"""A JSON body of at most this many characters is shown in one line."""

_LARGEST, _DEEPEST = 1_048_576, 32
"""A JSON body of more characters or levels than this is shown as it was sent."""


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


def laid_out(body: str) -> str:
    """Lay JSON out for reading, in one line if it fits. Anything else stays as it is, and so does
    JSON that is large or deep: the spaces before its values would take many times its size.
    """
    import msgspec

    if len(body) > _LARGEST or _depth(body) > _DEEPEST:
        return body
    try:
        msgspec.json.decode(body)
        line = msgspec.json.format(body, indent=0)
        return line if len(line) <= _LINE else msgspec.json.format(body, indent=2)
    except (ValueError, RecursionError):
        return body


def _depth(body: str) -> int:
    """Return at least as many levels as the JSON has: brackets inside texts count as well."""
    level = deepest = 0
    for character in body:
        if character in "[{":
            level += 1
            deepest = max(deepest, level)
        elif character in "]}":
            level -= 1
    return deepest
