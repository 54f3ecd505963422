"""What a shape says is signed, and the signatures that stand in a delivery."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from hookmill.signatures import times
from hookmill.signatures.content_rules import NO_URL, RULES
from hookmill.signatures.places import Found, finder, texts_at
from hookmill.signatures.scheme import Refused, Signed
from hookmill.signatures.spec import SignatureSpec, as_template, parts

MOST_CANDIDATES = 16
"""Signatures of one delivery that are looked at."""


class Reading(msgspec.Struct, frozen=True):
    """What stands in the signature's place: signatures, and the items beside them. `texts` are what
    was read of the JSON body in the same pass (none: it has yet to be read).
    """

    candidates: list[bytes]
    items: dict[bytes, list[bytes]]
    texts: tuple[bytes, ...] = ()


FindValue = Callable[[Signed, Reading, bytes], Found]
"""Finds a value, given the signed time's text (empty: it is not known yet)."""

Refuse = Callable[[bytes], Refused | None]
"""Refuses a value in which its border stands as well."""


class _Part(NamedTuple):
    """A piece of the content: a text, then a field's value, where that is found, and what it must
    not hold.
    """

    text: bytes
    find: FindValue
    refuse: Refuse | None


class Reader:
    """Reads deliveries as a shape says. What follows from the shape alone is done here, once."""

    def __init__(self, spec: SignatureSpec) -> None:
        self.spec = spec
        self.name = spec.signature.partition(":")[2]
        """What the signature's place is called."""
        self._find_signature = finder(spec.signature)
        self._together = _together(spec)
        self._read_together = texts_at([place.partition(":")[2] for place in self._together])
        self._prefix = spec.prefix.encode()
        self._split = _splitter(spec.split.encode())
        self._pair = spec.pair.encode()
        self._item = spec.item.encode()
        self._beside = _items_in(spec)
        self.find_time = self._finder(spec.timestamp) if spec.timestamp else _nothing
        """Finds the signed time's text."""
        self.find_single_use = self._finder(spec.single_use) if spec.single_use else None
        """Finds what is good for one delivery only, where there is such a thing."""
        pieces = [(text.encode(), field) for text, field in parts(spec.content)]
        self.rule = next((RULES[field] for _, field in pieces if field in RULES), None)
        self._is_body = spec.content == "{body}"
        self._parts = [] if self.rule else [
            _Part(text, self._finder_of(field), _refuser(pieces, number))
            for number, (text, field) in enumerate(pieces)
        ]  # fmt: skip

    def signatures(self, delivery: Signed) -> Reading | Refused:
        """Find the signatures, and the items that stand beside them."""
        texts = self._read_together(delivery.body) if self._together else ()
        found = texts[0] if texts else self._find_signature(delivery)
        if isinstance(found, Refused):
            return found
        return self._listed(found, texts) if self._pair else self._single(found, texts)

    def _single(self, found: bytes, texts: tuple[bytes, ...]) -> Reading | Refused:
        prefix = self._prefix
        if found.startswith(prefix):
            return Reading([found[len(prefix) :]], {}, texts)
        if self.spec.bare:
            return Reading([found], {}, texts)
        return Refused("signature_malformed", f"{self.name} does not begin with {prefix.decode()}")

    def _listed(self, found: bytes, texts: tuple[bytes, ...]) -> Reading | Refused:
        items: dict[bytes, list[bytes]] = {}
        bare: list[bytes] = []
        named: list[bytes] = []
        pair, wanted = self._pair, self._item
        for item in self._split(found):
            name, separator, value = item.partition(pair)
            if not separator:
                bare.append(item)
                continue
            if name == wanted:
                named.append(value)
            if name in self._beside:
                items.setdefault(name, []).append(value)
        candidates = [one for one in bare if one] + named if self.spec.bare else named
        if not candidates:
            return Refused("signature_malformed", f"{self.name} has no item {self.spec.item}")
        if len(candidates) > MOST_CANDIDATES:
            del candidates[MOST_CANDIDATES:]
        return Reading(candidates, items, texts)

    def contents(self, delivery: Signed, reading: Reading, time: bytes) -> list[bytes] | Refused:
        """Return what may have been signed, given the signed time's text: as a rule it is one."""
        if self._is_body:
            return [delivery.body]
        if self.rule is not None:
            return self.rule.contents(delivery, time)
        pieces: list[bytes] = []
        for text, find, refuse in self._parts:
            value = find(delivery, reading, time)
            if isinstance(value, Refused):
                return value
            if refuse is not None and (refusal := refuse(value)):
                return refusal
            pieces += (text, value)
        return [b"".join(pieces)]

    def value(self, place: str, delivery: Signed, reading: Reading) -> Found:
        """Return what stands at a place."""
        return self._finder(place)(delivery, reading, b"")

    def _finder(self, place: str) -> FindValue:
        kind, _, name = place.partition(":")
        if kind == "item":
            return self._item_finder(name)
        find = finder(place)
        if place not in self._together:
            return lambda delivery, _, __: find(delivery)
        position = self._together.index(place)
        return lambda delivery, reading, _: (
            reading.texts[position] if reading.texts else find(delivery)
        )

    def _item_finder(self, name: str) -> FindValue:
        key = name.encode()

        def find(_: Signed, reading: Reading, __: bytes) -> Found:
            values = reading.items.get(key, [])
            if len(values) == 1:
                return values[0]
            return Refused(
                "signature_malformed", f"{self.name} has {len(values)} items {name}, not one"
            )

        return find

    def _finder_of(self, field: str) -> FindValue:
        """Return what finds the value of a content's field."""
        if field in _OF_REQUEST:
            return _OF_REQUEST[field]
        if field == "id":
            ((_, field),) = parts(as_template(self.spec.id[0]))
        return self._finder(field)


def _nothing(_: Signed, __: Reading, ___: bytes) -> Found:
    return b""


_OF_REQUEST: dict[str, FindValue] = {
    "": _nothing,
    "timestamp": lambda _, __, time: time,
    "body": lambda delivery, _, __: delivery.body,
    "method": lambda delivery, _, __: delivery.method.encode(),
    "url": lambda delivery, _, __: delivery.url.encode("utf-8", "surrogateescape") or NO_URL,
}
"""Finds what is no place of its own. None of them needs a border."""


def _items_in(spec: SignatureSpec) -> frozenset[bytes]:
    """Return the names of the items that a shape asks for beside the signatures."""
    fields = [spec.timestamp, *(field for _, field in parts(spec.content))]
    return frozenset(field[5:].encode() for field in fields if field.startswith("item:"))


def _together(spec: SignatureSpec) -> list[str]:
    """Return the places in the JSON body that a verdict needs, the signature's first. There are
    none where the signature stands elsewhere: nothing looks at the body then before it matched.
    """
    if not spec.signature.startswith("json:"):
        return []
    fields = [field for _, field in parts(spec.content)]
    places = dict.fromkeys([spec.signature, spec.timestamp, spec.single_use, *fields])
    return [place for place in places if place.startswith("json:")]


def _splitter(characters: bytes) -> Callable[[bytes], list[bytes]]:
    """Return what takes a list apart where one of these characters stands."""
    if not characters:
        return lambda text: [text]
    if len(characters) == 1:
        return lambda text: text.split(characters)
    first = characters[:1]
    to_first = bytes.maketrans(characters, first * len(characters))
    return lambda text: text.translate(to_first).split(first)


def _refuser(pieces: list[tuple[bytes, str]], number: int) -> Refuse | None:
    """Return what refuses a value in which its border stands as well: another could be made longer
    instead. None where nothing can be moved.

    Before the body a field is bordered by what follows it, behind the body by what precedes it.
    """
    fields = [field for _, field in pieces]
    field = fields[number]
    if field in _OF_REQUEST:
        return None
    if "body" in fields[:number]:
        border = pieces[number][0]
        refusal = _holds(field, border)
        return lambda value: refusal if (border + value).rfind(border) else None
    border, following = (*pieces, (b"", ""))[number + 1]
    if not following:  # the content's end is its end
        return None
    if not border and following == "timestamp":
        return lambda value: _refuse_time(field, value)
    refusal = _holds(field, border)
    if len(border) == 1:
        byte = border[0]
        return lambda value: refusal if byte in value else None
    return lambda value: refusal if (value + border).find(border) < len(value) else None


def _holds(field: str, border: bytes) -> Refused:
    return Refused("field_malformed", f"{field} holds {border.decode()!r}, which ends it")


def _refuse_time(field: str, value: bytes) -> Refused | None:
    """Refuse a time in what ends where the time begins."""
    if times.RFC3339.search(value):
        return Refused("field_malformed", f"{field} holds a time, which ends it")
    return None
