"""Makes any text safe for a terminal and for a log. No I/O.

Senders choose event types, message IDs, headers and bodies. On a terminal, control characters steer
it, and marks of direction, line separators and odd spaces let a text look like another line or
another column. Everything that is written for people or into a log passes one of these functions.
"""

from __future__ import annotations

import re

_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
"""Characters that Python calls printable, and that show as nothing or as a space."""

_BORDER = re.compile("^ | $|(?<= ) ")
"""Spaces that could pass for the border between two columns: a second one, and one at an end."""

_NOT_IN_A_WORD = frozenset(" =\"'\\")

_DELETE = 0x7F
"""The one control character that an encoder of JSON leaves as it is, among those of ASCII."""


def printable(text: str, keep: str = "") -> str:
    r"""Return a text in one line, with escapes such as `\x1b` for all that does not show as itself.

    That is: control characters, marks of direction, line separators, each space but the usual one,
    invisible characters and halves of a surrogate pair. The characters of `keep` stay as they are.
    """
    if text.isprintable() and (text.isascii() or not _INVISIBLE.search(text)):
        return text
    return "".join(c if c in keep or _shows(c) else _escaped(c) for c in text)


def cell(text: str) -> str:
    """Return a text as one column of a table: "-" if it is empty.

    It cannot pass for two columns, because columns stand two spaces apart, nor for an empty one.
    """
    if text == "-":
        return "'-'"
    return _BORDER.sub(r"\\x20", printable(text)) or "-"


def block(text: str) -> str:
    """Return a text of several lines, each indented by two spaces, so that none can pass for a line
    of the program that shows it. Tabs stay.
    """
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    return "\n".join(f"  {printable(line, keep=chr(9))}".rstrip(" ") for line in lines)


def field(text: str) -> str:
    """Return a text as the value in `name=value`. Where it would not be read as one word, it is
    written as Python writes it, in quotes.
    """
    is_word = text and text == printable(text) and not set(text) & _NOT_IN_A_WORD
    return text if is_word else printable(repr(text))


def encodable(text: str) -> str:
    r"""Return a text that UTF-8 can express: with escapes such as `\udc80` for halves of surrogate
    pairs, which stand where bytes were not UTF-8.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def printable_json(data: bytes) -> bytes:
    r"""Return JSON with escapes such as `\u202e` for all that does not show as itself. Its values
    stay the same, and so do the line breaks between them.
    """
    if data.isascii():  # an encoder escapes the characters below the space itself
        return data if _DELETE not in data else data.replace(b"\x7f", b"\\u007f")
    text = data.decode()
    return "".join(c if c == "\n" or _shows(c) else _json_escaped(c) for c in text).encode()


def _shows(character: str) -> bool:
    return character.isprintable() and not _INVISIBLE.match(character)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _json_escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
