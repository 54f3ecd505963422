"""Hides the fields of a delivery that `redact` in its source's table names. No I/O.

It fails closed. Of a body that cannot be read for certain, nothing is shown; where a path leads
through a text, the whole text is hidden. All other bytes stay as they came.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import unquote_to_bytes

import msgspec

HIDDEN = "[redacted]"
"""What stands in the place of a value that is hidden."""

_HIDDEN_JSON = json.dumps(HIDDEN).encode()

LARGEST = 256 * 1024
"""A body of more bytes is hidden whole, because to look through it would take too long."""

MAX_FIELDS = 10_000
"""A form of more fields is hidden whole."""

HEADER = "header:"
"""What a path begins with that names a header."""

EVERYTHING = ("*",)
"""Paths for a source of which it is not known what has to be hidden."""

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
"""The tokens of JSON that is known to be well-formed."""

_FORM = re.compile(rb"[A-Za-z0-9*._~+%&=\[\]-]*")
"""A form as programs write it. Anything else could be read in another way."""

_Steps = tuple[str, ...]


def redacted(body: bytes, content_type: str, paths: Iterable[str]) -> bytes:
    """Return a body in which the values at these paths are hidden.

    JSON is recognised by itself, a form by its `content_type` as well. Names are compared without
    regard to case. A path leads through the items of lists, and `*` stands for any name.
    """
    steps = _steps_of(paths)
    if not steps or not body:
        return body
    if len(body) > LARGEST:
        return _whole(body, f"it has more than {LARGEST} bytes")
    try:
        msgspec.json.decode(body)
    except (ValueError, RecursionError):
        kind = content_type.partition(";")[0].strip().lower()
        if kind == "application/x-www-form-urlencoded" and _is_form(body):
            return b"&".join(_field(piece, steps) for piece in body.split(b"&"))
        return _whole(body, "it is neither JSON nor a form")
    return _json(body, steps)


def redacted_headers(block: bytes, paths: Iterable[str]) -> bytes:
    """Return the headers of a message in which those are hidden that the paths name."""
    names = {
        path.removeprefix(HEADER).lower().encode() for path in paths if path.startswith(HEADER)
    }
    if not names:
        return block
    lines = [line.partition(b": ") for line in block.split(b"\r\n")]
    return b"\r\n".join(
        name + separator + (HIDDEN.encode() if name.strip().lower() in names else value)
        for name, separator, value in lines
    )


def is_redacted(names: Sequence[str], paths: Iterable[str]) -> bool:
    """Return whether a search for the value behind these names could tell what is hidden: if they
    lead to a hidden value, into one or through a part of one.

    Positions in lists are left out on both sides, because a path leads through every item. A name
    with dots or brackets is looked at both in its parts and as one name, for which `*` can stand.
    """
    hidden = [_without_positions(path) for path in _bodies(paths)]
    asked = _without_positions(".".join(names))
    return any(all(map(_matches, one, asked)) for one in hidden) or _leads_into(names, hidden)


def _leads_into(names: Iterable[str], hidden: list[_Steps]) -> bool:
    for name in names:
        if not name.isdecimal():
            hidden = _behind(name.casefold(), hidden)
        if () in hidden:
            return True
    return bool(hidden)


def fault_of_path(path: str) -> str:
    """Return what is wrong with a path of `redact`, "" if nothing is."""
    if path.startswith(HEADER):
        name = path.removeprefix(HEADER)
        is_name = re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name)
        return "" if is_name else f"{path!r} is no header: write header: and its name"
    names = path.split(".")
    if not all(names) or any(name != name.strip() or not name.isprintable() for name in names):
        return (
            f"{path!r} is no path: write the names that lead to the value in the body with one dot "
            "between them, such as data.email, or header: and the name of a header"
        )
    return ""


def _bodies(paths: Iterable[str]) -> Iterator[str]:
    return (path for path in paths if not path.startswith(HEADER))


def _steps_of(paths: Iterable[str]) -> list[_Steps]:
    return [tuple(path.casefold().split(".")) for path in _bodies(paths)]


def _without_positions(path: str) -> _Steps:
    """Return the steps of a path, or of the name of a form's field: `data[email]` is `data.email`,
    and empty brackets are left out as positions are.
    """
    steps = path.casefold().replace("[", ".").replace("]", ".").split(".")
    return tuple(step for step in steps if step and not step.isdecimal())


def _matches(hidden: str, asked: str) -> bool:
    return hidden == asked or "*" in (hidden, asked)


def _whole(body: bytes, why: str) -> bytes:
    return f"[redacted: {len(body)} bytes, {why}]".encode()


# --- JSON ---


class _Level:
    """An object or a list that is being read, and the steps that are left inside of it."""

    def __init__(self, steps: list[_Steps], *, is_list: bool) -> None:
        self.steps = steps
        self.is_list = is_list
        self.position = 0
        self.name: str | None = None
        """The name whose value comes next; None: a name comes next."""

    def left(self) -> list[_Steps]:
        """Return the steps that are left for the value that comes next; an empty one hides it."""
        if self.is_list:
            at = str(self.position)
            return self.steps + [steps[1:] for steps in self.steps if steps[0] == at]
        return _behind(self.name or "", self.steps)

    def go_on(self) -> None:
        """Go on behind a comma."""
        self.position += 1
        self.name = None


def _behind(name: str, steps: Iterable[_Steps]) -> list[_Steps]:
    """Return what is left of the steps behind a name. A name may have dots of its own."""
    return [
        one[length:]
        for one in steps
        for length in range(1, len(one) + 1)
        if (length == 1 and one[0] == "*") or name == ".".join(one[:length])
    ]


def _json(body: bytes, steps: list[_Steps]) -> bytes:
    """Hide values in well-formed JSON. Where a name is there twice, both values are looked at."""
    pieces: list[bytes] = []
    shown_to = 0
    for start, end in _hidden_spans(body, steps):
        pieces += (body[shown_to:start], _HIDDEN_JSON)
        shown_to = end
    return b"".join([*pieces, body[shown_to:]])


def _hidden_spans(body: bytes, steps: list[_Steps]) -> Iterator[tuple[int, int]]:
    """Yield where the values begin and end that are hidden."""
    top = _Level(steps, is_list=True)  # a body is read as the only item of a list
    levels = [top]
    tokens = _TOKEN.finditer(body)
    for token in tokens:
        first, level = token[0][:1], levels[-1]
        if first in b"}]":
            levels.pop()
        elif first == b",":
            level.go_on()
        elif first == b":":
            continue
        elif not level.is_list and level.name is None:
            level.name = _name_of(token[0])
        else:
            left = steps if level is top else level.left()
            is_hidden = () in left
            if first in b"{[" and (is_hidden or not left):
                end = _end_of_value(tokens)
                if is_hidden:
                    yield token.start(), end
            elif first in b"{[":
                levels.append(_Level(left, is_list=first == b"["))
            elif is_hidden or (left and first == b'"'):
                yield token.span()


def _end_of_value(tokens: Iterator[re.Match[bytes]]) -> int:
    """Go to the end of an object or a list that has just begun, and return where that is."""
    depth = 1
    for token in tokens:
        first = token[0][:1]
        depth += (first in b"{[") - (first in b"}]")
        if not depth:
            return token.end()
    raise AssertionError("the body is well-formed")


def _name_of(token: bytes) -> str:
    text = json.loads(token, strict=False) if b"\\" in token else token[1:-1].decode()
    return str(text).casefold()


# --- forms ---


def _is_form(body: bytes) -> bool:
    return body.count(b"&") < MAX_FIELDS and _FORM.fullmatch(body) is not None


def _field(piece: bytes, steps: Sequence[_Steps]) -> bytes:
    """Return a field of a form, with its value hidden if a path leads to it, into it or through it.

    `data[email]` and `data.email` are the same path; positions and empty brackets are left out.
    """
    name, equals, _ = piece.partition(b"=")
    asked = _without_positions(
        unquote_to_bytes(name.replace(b"+", b" ")).decode("utf-8", "replace")
    )
    for one in steps:
        if all(map(_matches, _without_positions(".".join(one)), asked)):
            return name + equals + HIDDEN.encode() if equals else HIDDEN.encode()
    return piece
