"""Finds a value in a delivery, at a place that is written as text.

A place is `header:NAME`, `json:PATH` or `form:NAME`. A path leads through objects and arrays of the
JSON body (`data.id`, `0.eventId`). No lookup raises an exception, whatever the body is, and none
decodes more of it than it needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import astuple
from multidict import istr

from hookmill.signatures.forms import form_reader
from hookmill.signatures.scheme import Refused, Signed, only_header

Found = bytes | Refused
Find = Callable[[Signed], Found]

MAX_STEPS = 32
"""The most steps of a path in a JSON body."""

MAX_POSITION = 999
"""The last position in an array that a path may name."""

_INTEGER = re.compile(rb"-?[0-9]+")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_text = msgspec.json.Decoder(str)
_ARRAY_BEGINS = re.compile(rb"[ \t\r\n]{0,1000}\[")


@cache
def finder(place: str) -> Find:
    """Return a function that finds the value at a place. Raises `ValueError` if it is no place."""
    kind, _, name = place.partition(":")
    if kind == "header" and _TOKEN.fullmatch(name):
        key = istr(name)  # an istr computes its lower case only once
        return lambda delivery: only_header(delivery.headers, key)
    if kind == "json" and is_path(name):
        return _json(name)
    if kind == "form" and name:
        return _form(name)
    raise ValueError(f"{place!r} is no place: write header:NAME, json:PATH or form:NAME")


def value_at(path: str) -> Callable[[bytes], str | None]:
    """Return a function that finds the text or integer at a path in a JSON body, None if there is
    none.

    An integer is returned as it is written, because Python limits the size of one that it reads.
    """
    steps = [_step(name) for name in path.split(".")]

    def find(body: bytes) -> str | None:
        try:
            value: bytes | Raw = body
            for step in steps:
                inner = step(value)
                if inner is UNSET:
                    return None
                value = inner
            return text_of(bytes(value))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    return find


def text_of(written: bytes) -> str | None:
    """Return the text or integer that JSON stands for, None if it is neither.

    Raises what `msgspec` raises for JSON that cannot be read.
    """
    if written.startswith(b'"'):
        return _text.decode(written)
    if not _INTEGER.fullmatch(written):
        return None
    digits = written.decode()
    return "0" if digits == "-0" else digits


def is_path(path: str) -> bool:
    """Return whether a text can lead through a JSON body: names, and positions in arrays."""
    steps = path.split(".")
    return (
        all(steps)
        and len(steps) <= MAX_STEPS
        and all(int(step) <= MAX_POSITION for step in steps if step.isdecimal())
    )


def is_array(value: bytes | Raw) -> bool:
    """Return whether JSON begins as an array does."""
    return _ARRAY_BEGINS.match(memoryview(value)) is not None


def texts_at(paths: Sequence[str]) -> Callable[[bytes], tuple[bytes, ...]]:
    """Return a function that reads the texts at several paths of a JSON body in one pass.

    It returns an empty tuple if the paths do not lead into one object, or if a value is no text.
    Then use `value_at` for each path.
    """
    if len({path.rpartition(".")[0] for path in paths}) != 1:
        return lambda _: ()
    *above, _ = paths[0].split(".")
    names = {f"text{number}": path.rpartition(".")[2] for number, path in enumerate(paths)}
    struct = msgspec.defstruct("Texts", [(field, str) for field in names], rename=names)
    for name in reversed(above):
        struct = msgspec.defstruct("Step", [("inner", struct)], rename={"inner": name})
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(struct)

    def read(body: bytes) -> tuple[bytes, ...]:
        try:
            texts = decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ()
        for _ in above:
            texts = texts.inner
        return tuple([text.encode() for text in astuple(texts)])

    return read


def _json(path: str) -> Find:
    find = value_at(path)

    def found(delivery: Signed) -> Found:
        value = find(delivery.body)
        if value is None:
            return Refused("field_missing", f"the body has no text or integer at {path}")
        return value.encode("utf-8", "surrogatepass")

    return found


def _step(name: str) -> Callable[[Any], Any]:
    """Return a function that takes one field out of an object, or one element out of an array."""
    fields = [("found", Raw | UnsetType, UNSET)]
    struct = msgspec.defstruct("Step", fields, rename={"found": name})
    decoder = msgspec.json.Decoder(struct)
    if not name.isdecimal():
        return lambda value: decoder.decode(value).found  # type: ignore[attr-defined] # made above
    # A type with an element for each position up to this one: those behind it are not built.
    elements = [(f"at{position}", Raw | UnsetType, UNSET) for position in range(int(name) + 1)]
    row = msgspec.defstruct("Row", elements, array_like=True)
    last, in_array = elements[-1][0], msgspec.json.Decoder(row)

    def element(value: bytes | Raw) -> Raw | UnsetType:
        found: Raw | UnsetType
        if is_array(value):
            found = getattr(in_array.decode(value), last)
        else:
            found = decoder.decode(value).found  # type: ignore[attr-defined] # made above
        return found

    return element


def _form(name: str) -> Find:
    read = form_reader([name])

    def found(delivery: Signed) -> Found:
        values = read(delivery.body)
        return values if isinstance(values, Refused) else values[0]

    return found
