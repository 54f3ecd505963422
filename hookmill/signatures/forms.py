"""Reads forms (`application/x-www-form-urlencoded`), with work that is bounded for any body.

A form has at most `MAX_FIELDS` fields. They are counted before the form is split. Only the fields
that are looked for are unescaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote, unquote_to_bytes

from hookmill.signatures.scheme import MAX_VALUE, ReadTexts, Refused, Texts, too_long

MAX_FIELDS = 1000
"""The most fields of a form. A form with more is refused."""

TOO_MANY_FIELDS = Refused("too_many_fields", f"the form has more than {MAX_FIELDS} fields")


def form_reader(names: Sequence[str]) -> ReadTexts:
    """Return a function that reads the fields of these names, each of which has to be there once.
    A value is returned as the bytes that it stands for.
    """
    wanted = [name.encode("utf-8", "surrogateescape") for name in names]
    longest_name = 3 * max(map(len, wanted))  # if each byte of it is escaped

    def read(body: bytes) -> Texts | Refused:
        if body.count(b"&") >= MAX_FIELDS:
            return TOO_MANY_FIELDS
        found: dict[bytes, list[bytes]] = {name: [] for name in wanted}
        for piece in body.split(b"&"):
            end = piece.find(b"=")
            if end < 0:
                end = len(piece)
            if piece and end <= longest_name and (name := _unquoted(piece[:end])) in found:
                found[name].append(piece[end + 1 :])
        return _each_once(found)

    return read


def _each_once(found: dict[bytes, list[bytes]]) -> Texts | Refused:
    texts = []
    for name, values in found.items():
        shown = name.decode("utf-8", "replace")
        if len(values) != 1:
            return Refused("field_missing", f"the form has {len(values)} fields named {shown}")
        if len(values[0]) > MAX_VALUE:
            return too_long(f"the field {shown}")
        texts.append(_unquoted(values[0]))
    return tuple(texts)


def _unquoted(raw: bytes) -> bytes:
    if b"+" in raw:
        raw = raw.replace(b"+", b" ")
    return unquote_to_bytes(raw) if b"%" in raw else raw


def form_fields(body: bytes) -> list[tuple[str, str]]:
    """Return the fields of a form in their order; an empty list if there are too many."""
    if body.count(b"&") >= MAX_FIELDS:
        return []
    pieces = body.decode("utf-8", "surrogateescape").split("&")
    return [
        (_unquoted_text(name), _unquoted_text(value))
        for name, _, value in [piece.partition("=") for piece in pieces if piece]
    ]


def _unquoted_text(text: str) -> str:
    # Like `parse_qsl`, but faster, because only escaped pieces are unescaped.
    if "+" in text:
        text = text.replace("+", " ")
    return unquote(text, errors="surrogateescape") if "%" in text else text
