"""A body laid out for reading. No I/O."""

from __future__ import annotations

import msgspec

_LINE = 80
"""A JSON body of at most this many characters is shown in one line."""

_LARGEST, _DEEPEST = 1_048_576, 32
"""A JSON body of more characters or levels than this is shown as it was sent."""


def laid_out(body: str) -> str:
    """Lay JSON out for reading, in one line if it fits. Anything else stays as it is, and so does
    JSON that is large or deep: the spaces before its values would take many times its size.
    """
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
