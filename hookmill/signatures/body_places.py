"""Reads the places in a body that a verdict depends on, before the signature has matched.

Anybody can send such a body, so the work is bounded: a JSON body is parsed once for all places, a
form is split only if it has few fields (`forms`), and no value longer than `MAX_VALUE` is decoded.
What is beyond a bound is refused before it is split, decoded or copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from hookmill.signatures.forms import form_reader
from hookmill.signatures.places import is_array, text_of, texts_at, value_at
from hookmill.signatures.scheme import MAX_VALUE, ReadTexts, Refused, Texts, too_long

MAX_INNER = 2 * 1024 * 1024
"""The most bytes of arrays inside a JSON body that are parsed once more, for a position in them."""

MAX_NAMES = 500_000
"""The most names in a large JSON body. Each is compared with those that are looked for."""

_PARSED_AGAIN = 4 * 1024 * 1024
"""The most bytes that are parsed in the usual way: the body again for each step of each path."""

_Tree = dict[str, Any]
"""Paths by their steps: a step leads to the tree behind it, or to the number of its place."""


class _Search:
    """What one search in a body has found, and how many bytes of arrays it may still parse."""

    def __init__(self, places: int) -> None:
        self.found = [Raw()] * places
        self.left = MAX_INNER


_Take = Callable[[Any, _Search], bool]
"""Takes the places out of a decoded value. False if one is missing."""


def reader_of(places: Sequence[str]) -> ReadTexts:
    """Return a function that reads the texts at these places, all of them `json:` or `form:`."""
    paths = [place[5:] for place in places if place.startswith("json:")]
    names = [place[5:] for place in places if place.startswith("form:")]
    if not names:
        return _json_reader(paths)
    if not paths:
        return form_reader(names)
    read_json, read_form = _json_reader(paths), form_reader(names)
    order = [
        paths.index(place[5:]) if place.startswith("json:") else len(paths) + names.index(place[5:])
        for place in places
    ]

    def read(body: bytes) -> Texts | Refused:
        texts = read_json(body)
        if isinstance(texts, Refused):
            return texts
        fields = read_form(body)
        if isinstance(fields, Refused):
            return fields
        both = (*texts, *fields)
        return tuple([both[number] for number in order])

    return read


# --- JSON ---

_TOO_MANY_NAMES = Refused("too_many_fields", f"the JSON body has more than {MAX_NAMES} names")


def _json_reader(paths: list[str]) -> ReadTexts:
    missing = Refused(
        "field_missing", f"the body has no text or integer at {' or at '.join(paths)}"
    )
    at_once, one_by_one = texts_at(paths), [value_at(path) for path in paths]
    steps = sum(path.count(".") + 1 for path in paths) + 1
    search_in = _searcher(paths)

    def read(body: bytes) -> Texts | Refused:
        if len(body) * steps > _PARSED_AGAIN:
            # Colons in texts count as well, but to count is quick, and no such body has as many.
            return _TOO_MANY_NAMES if body.count(b":") > MAX_NAMES else search_in(body) or missing
        if texts := at_once(body):
            return texts
        found = [find(body) for find in one_by_one]
        if None in found:
            return missing
        return tuple([text.encode("utf-8", "surrogatepass") for text in found if text is not None])

    return read


def _searcher(paths: list[str]) -> Callable[[bytes], Texts | Refused | None]:
    """Return a function that parses a body once for all paths. It gives None if a text is missing,
    or if a value of another kind stands where a path leads.
    """
    tree = _tree_of(paths)
    if tree is None:  # one path leads through the text of another
        return lambda _: None
    search_in = _pass_over(tree)

    def read(body: bytes) -> Texts | Refused | None:
        search = _Search(len(paths))
        try:
            if search_in(body, search):
                return _texts_in(search.found, paths)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return too_long("an array") if search.left < 0 else None

    return read


def _texts_in(found: list[Raw], paths: list[str]) -> Texts | Refused | None:
    texts = []
    for path, value in zip(paths, found, strict=True):
        if memoryview(value).nbytes > MAX_VALUE:
            return too_long(path)
        text = text_of(bytes(value))
        if text is None:
            return None
        texts.append(text.encode("utf-8", "surrogatepass"))
    return tuple(texts)


def _tree_of(paths: list[str]) -> _Tree | None:
    """Return the paths as a tree; None if one of them is the beginning of another."""
    tree: _Tree = {}
    for number, path in enumerate(paths):
        *above, last = path.split(".")
        inner: Any = tree
        for step in above:
            inner = inner.setdefault(step, {})
            if isinstance(inner, int):
                return None
        if last in inner:
            return None
        inner[last] = number
    return tree


def _pass_over(tree: _Tree) -> _Take:
    """Return a function that parses a value once and takes the places of a tree out of it."""
    of_object, from_object = _struct_of(tree)
    as_object = msgspec.json.Decoder(of_object)
    positions = {int(step): inner for step, inner in tree.items() if step.isdecimal()}
    if not positions:
        return lambda value, search: from_object(as_object.decode(value), search)
    of_array, from_array = _array_of(positions)
    as_array = msgspec.json.Decoder(of_array)
    is_whole = len(positions) == len(tree)

    def take(value: Any, search: _Search) -> bool:
        if not is_array(value):
            return from_object(as_object.decode(value), search)
        return is_whole and from_array(as_array.decode(value), search)

    return take


def _shape_of(tree: _Tree | int) -> tuple[Any, _Take]:
    """Return the type that a value is decoded as, and how to take the places out of it."""
    if isinstance(tree, int):

        def keep(value: Raw, search: _Search) -> bool:
            search.found[tree] = value
            return True

        return Raw, keep
    if not any(step.isdecimal() for step in tree):
        return _struct_of(tree)
    search_in = _pass_over(tree)  # it may be an array or an object: only the value tells

    def parse(value: Raw, search: _Search) -> bool:
        search.left -= memoryview(value).nbytes
        return search.left >= 0 and search_in(value, search)

    return Raw, parse


def _struct_of(tree: _Tree) -> tuple[Any, _Take]:
    """Return the type of an object with the fields of a tree."""
    shapes = {f"field{n}": _shape_of(inner) for n, inner in enumerate(tree.values())}
    names = dict(zip(shapes, tree, strict=True))
    fields = [(field, kind | UnsetType, UNSET) for field, (kind, _) in shapes.items()]
    struct = msgspec.defstruct("Object", fields, rename=names, gc=False)
    return struct, _taker({field: take for field, (_, take) in shapes.items()})


def _array_of(positions: dict[int, Any]) -> tuple[Any, _Take]:
    """Return the type of an array with the elements of a tree. Those behind them are not read."""
    takes: dict[str, _Take] = {}
    fields: list[tuple[str, Any, Any]] = []
    for position in range(max(positions) + 1):
        kind: Any = Raw
        if position in positions:
            kind, takes[f"at{position}"] = _shape_of(positions[position])
        fields.append((f"at{position}", kind | UnsetType, UNSET))
    return msgspec.defstruct("Array", fields, array_like=True, gc=False), _taker(takes)


def _taker(takes: dict[str, _Take]) -> _Take:
    def take(value: Any, search: _Search) -> bool:
        for field, inner in takes.items():
            found = getattr(value, field)
            if found is UNSET or not inner(found, search):
                return False
        return True

    return take
