"""What a stranger could put into a text, and what must never come out of it."""

from __future__ import annotations

FORGED = "forged by a stranger"
"""A part of `HOSTILE` that begins a line, wherever a line break in it takes effect."""

HOSTILE = (
    "\x1b]0;title\x07\x1b[2J \x00\x08\x0b\x0c\x7f \x85\x9b2J\x9d0;x\x9c "
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e \u2066\u2067\u2068\u2069 "
    "\u2028\u2029\u00a0\u2003\u3000\u2800\u3164\u200b\u2060\ufeff\U000e0041 "
    f"a  column\ta\ttab\r\n{FORGED}\n{FORGED}\r{FORGED}\u2028{FORGED}"
)
"""A text with every kind of character that steers a terminal, or lets a text look like others."""


def is_clean(text: str) -> bool:
    """Return whether a text shows as itself: it has no control characters but line breaks and tabs,
    no marks of direction, no odd spaces, no halves of surrogate pairs, and no invisible characters.
    """
    invisible = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufe0f"
    return all(c in "\n\t" or (c.isprintable() and c not in invisible) for c in text)
