"""Finds the signatures in a delivery, and puts together the bytes that were signed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from hookmill.signatures import times
from hookmill.signatures.body_places import reader_of
from hookmill.signatures.content_rules import NO_URL, RULES
from hookmill.signatures.places import Found, finder
from hookmill.signatures.scheme import Refused, Signed, Texts
from hookmill.signatures.spec import SignatureSpec, as_template, parts

MAX_SIGNATURES = 16
"""How many signatures of one delivery are compared. More are ignored."""

MAX_ITEMS = 64
"""The most items of a list of signatures, other items included. A longer list is refused."""

MAX_LIST = 8190
"""The most bytes of a list of signatures in the body: as many as a header may have."""


class FoundSignatures(msgspec.Struct, frozen=True):
    """The signatures of a delivery, and the other items of their list by name.

    `texts` are the texts that were read from the body at the same time, if there are any.
    """

    signatures: list[bytes]
    items: dict[bytes, list[bytes]]
    texts: Texts = ()


FindValue = Callable[[Signed, FoundSignatures, bytes], Found]
"""Finds a value in a delivery, given the text of the signed time (empty if not known yet)."""

CheckValue = Callable[[bytes], Refused | None]
"""Refuses a value that contains the separator after it (or before it, behind the body)."""


class _Piece(NamedTuple):
    """A piece of the content: a text, then the value of a field. `check` may refuse the value."""

    text: bytes
    find: FindValue
    check: CheckValue | None


class SpecReader:
    """Reads deliveries as a spec says. What depends on the spec alone is prepared once, here."""

    def __init__(self, spec: SignatureSpec) -> None:
        self.spec = spec
        self.name = spec.signature.partition(":")[2]
        """The name of the place where the signature stands."""
        self._find_signature = finder(spec.signature)
        self._places_in_body = _places_in_body(spec)
        self._read_body = reader_of(self._places_in_body) if self._places_in_body else None
        self._is_in_body = spec.signature in self._places_in_body
        self._prefix = spec.prefix.encode()
        self._split = _splitter(spec.split.encode())
        self._pair = spec.pair.encode()
        self._item = spec.item.encode()
        self._other_items = _other_items(spec)
        self.find_time = self._finder(spec.timestamp) if spec.timestamp else _nothing
        """Finds the text of the signed time."""
        self.find_single_use = self._finder(spec.single_use) if spec.single_use else None
        """Finds the value that is good for one delivery only; None if the spec names none."""
        pieces = [(text.encode(), field) for text, field in parts(spec.content)]
        self.rule = next((RULES[field] for _, field in pieces if field in RULES), None)
        self._is_body = spec.content == "{body}"
        self._pieces = [] if self.rule else [
            _Piece(text, self._finder_of(field), _boundary_check(pieces, number))
            for number, (text, field) in enumerate(pieces)
        ]  # fmt: skip

    def signatures(self, delivery: Signed) -> FoundSignatures | Refused:
        """Find the signatures, and the other items of their list."""
        texts: Texts = ()
        if self._read_body is None:
            found = self._find_signature(delivery)
        else:
            found, texts = self._with_texts(delivery)
        if isinstance(found, Refused):
            return found
        return self._in_list(found, texts) if self._pair else self._single(found, texts)

    def _with_texts(self, delivery: Signed) -> tuple[Found, Texts]:
        """Find the signature, and read everything in the body that the verdict depends on."""
        assert self._read_body is not None  # noqa: S101 - the caller has looked
        found: Found = b"" if self._is_in_body else self._find_signature(delivery)
        if isinstance(found, Refused):
            return found, ()
        texts = self._read_body(delivery.body)
        if isinstance(texts, Refused):
            return texts, ()
        if self._is_in_body:
            found = texts[0]
            if len(found) > MAX_LIST:
                found = Refused("value_too_long", f"{self.name} has more than {MAX_LIST} bytes")
        return found, texts

    def _single(self, found: bytes, texts: Texts) -> FoundSignatures | Refused:
        prefix = self._prefix
        if found.startswith(prefix):
            return FoundSignatures([found[len(prefix) :]], {}, texts)
        if self.spec.bare:
            return FoundSignatures([found], {}, texts)
        return Refused("signature_malformed", f"{self.name} does not begin with {prefix.decode()}")

    def _in_list(self, found: bytes, texts: Texts) -> FoundSignatures | Refused:
        items: dict[bytes, list[bytes]] = {}
        bare: list[bytes] = []
        named: list[bytes] = []
        pair, wanted = self._pair, self._item
        # One item too many is split off, and no more: it shows that the list is too long.
        listed = self._split(found, MAX_ITEMS)
        if len(listed) > MAX_ITEMS:
            return Refused("too_many_items", f"{self.name} has more than {MAX_ITEMS} items")
        for item in listed:
            name, separator, value = item.partition(pair)
            if not separator:
                bare.append(item)
                continue
            if name == wanted:
                named.append(value)
            if name in self._other_items:
                items.setdefault(name, []).append(value)
        signatures = [one for one in bare if one] + named if self.spec.bare else named
        if not signatures:
            return Refused("signature_malformed", f"{self.name} has no item {self.spec.item}")
        if len(signatures) > MAX_SIGNATURES:
            del signatures[MAX_SIGNATURES:]
        return FoundSignatures(signatures, items, texts)

    def contents(
        self, delivery: Signed, found: FoundSignatures, time: bytes
    ) -> list[bytes] | Refused:
        """Return the contents that may have been signed, given the text of the signed time.

        There is one, unless a rule of `content_rules` allows several spellings.
        """
        if self._is_body:
            return [delivery.body]
        if self.rule is not None:
            return self.rule.contents(delivery, time)
        pieces: list[bytes] = []
        for text, find, check in self._pieces:
            value = find(delivery, found, time)
            if isinstance(value, Refused):
                return value
            if check is not None and (refusal := check(value)):
                return refusal
            pieces += (text, value)
        return [b"".join(pieces)]

    def value(self, place: str, delivery: Signed, found: FoundSignatures) -> Found:
        """Return the value at a place."""
        return self._finder(place)(delivery, found, b"")

    def _finder(self, place: str) -> FindValue:
        kind, _, name = place.partition(":")
        if kind == "item":
            return self._item_finder(name)
        find = finder(place)
        if place not in self._places_in_body:
            return lambda delivery, _, __: find(delivery)
        position = self._places_in_body.index(place)
        return lambda delivery, found, _: found.texts[position] if found.texts else find(delivery)

    def _item_finder(self, name: str) -> FindValue:
        key = name.encode()

        def find(_: Signed, found: FoundSignatures, __: bytes) -> Found:
            values = found.items.get(key, [])
            if len(values) == 1:
                return values[0]
            return Refused(
                "signature_malformed", f"{self.name} has {len(values)} items {name}, not one"
            )

        return find

    def _finder_of(self, field: str) -> FindValue:
        """Return a function that finds the value of a field of the content."""
        if field in _WITHOUT_PLACE:
            return _WITHOUT_PLACE[field]
        if field == "id":
            ((_, field),) = parts(as_template(self.spec.id[0]))
        return self._finder(field)


def _nothing(_: Signed, __: FoundSignatures, ___: bytes) -> Found:
    return b""


_WITHOUT_PLACE: dict[str, FindValue] = {
    "": _nothing,
    "timestamp": lambda _, __, time: time,
    "body": lambda delivery, _, __: delivery.body,
    "method": lambda delivery, _, __: delivery.method.encode(),
    "url": lambda delivery, _, __: delivery.url.encode("utf-8", "surrogateescape") or NO_URL,
}
"""Finds the fields that are no place. None of them needs a separator."""


def _other_items(spec: SignatureSpec) -> frozenset[bytes]:
    """Return the names of the items that a spec needs besides the signatures."""
    fields = [spec.timestamp, *(field for _, field in parts(spec.content))]
    return frozenset(field[5:].encode() for field in fields if field.startswith("item:"))


def _places_in_body(spec: SignatureSpec) -> list[str]:
    """Return the places in the body that are read before the signature is compared, the
    signature's first.

    There are none if neither the signature nor what is signed stands at such a place: then nothing
    reads the body before the signature has matched.
    """
    fields = [field for _, field in parts(spec.content)]
    if "id" in fields:
        fields += [field for _, field in parts(as_template(spec.id[0]))]
    if "timestamp" in fields:
        fields.append(spec.timestamp)
    places = dict.fromkeys([spec.signature, *fields])
    return [place for place in places if place.startswith(("json:", "form:"))]


def _splitter(characters: bytes) -> Callable[[bytes, int], list[bytes]]:
    """Return a function that splits a list at each of these characters, but only so many times."""
    if not characters:
        return lambda text, _: [text]
    if len(characters) == 1:
        return lambda text, most: text.split(characters, most)
    first = characters[:1]
    to_first = bytes.maketrans(characters, first * len(characters))
    return lambda text, most: text.translate(to_first).split(first, most)


def _boundary_check(pieces: list[tuple[bytes, str]], number: int) -> CheckValue | None:
    """Return a function that refuses values which contain their separator: otherwise an attacker
    could move text from one field to the next. None if a field needs no such check.

    Before the body, the separator of a field follows it; behind the body, it precedes it.
    """
    fields = [field for _, field in pieces]
    field = fields[number]
    if field in _WITHOUT_PLACE:
        return None
    if "body" in fields[:number]:
        separator = pieces[number][0]
        refusal = _holds(field, separator)
        return lambda value: refusal if (separator + value).rfind(separator) else None
    separator, following = (*pieces, (b"", ""))[number + 1]
    if not following:  # it ends where the content ends
        return None
    if not separator and following == "timestamp":
        return lambda value: _refuse_time(field, value)
    refusal = _holds(field, separator)
    if len(separator) == 1:
        byte = separator[0]
        return lambda value: refusal if byte in value else None
    return lambda value: refusal if (value + separator).find(separator) < len(value) else None


def _holds(field: str, separator: bytes) -> Refused:
    return Refused("field_malformed", f"{field} holds {separator.decode()!r}, which ends it")


def _refuse_time(field: str, value: bytes) -> Refused | None:
    """Refuse a time in a field that ends where the signed time begins."""
    if times.RFC3339.search(value):
        return Refused("field_malformed", f"{field} holds a time, which ends it")
    return None
