"""What a shape says is signed, and the signatures that stand in a delivery."""

from __future__ import annotations

import re
from typing import NamedTuple

from hookmill.signatures import times
from hookmill.signatures.places import finder
from hookmill.signatures.rules import NO_URL, RULES
from hookmill.signatures.scheme import Refused, Signed
from hookmill.signatures.shape import Shape, as_template, parts

MOST_CANDIDATES = 16
"""Signatures of one delivery that are looked at."""


class Reading(NamedTuple):
    """What stands in the signature's place: signatures, and the items beside them."""

    candidates: list[bytes]
    items: dict[bytes, list[bytes]]


class Reader:
    """Reads deliveries as a shape says."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.name = shape.signature.partition(":")[2]
        """What the signature's place is called."""
        self._find_signature = finder(shape.signature)
        # Where nothing splits it is one item: the end of a text is where this matches.
        splits = "[" + re.escape(shape.split) + "]" if shape.split else r"\Z"
        self._split = re.compile(splits.encode())
        self._parts = [(text.encode(), field) for text, field in parts(shape.content)]
        fields = [field for _, field in self._parts]
        self._body = fields.index("body") if "body" in fields else len(fields)
        self.rule = next((RULES[field] for _, field in self._parts if field in RULES), None)

    def signatures(self, delivery: Signed) -> Reading | Refused:
        """Find the signatures, and the items that stand beside them."""
        found = self._find_signature(delivery)
        if isinstance(found, Refused):
            return found
        return self._listed(found) if self.shape.pair else self._single(found)

    def _single(self, found: bytes) -> Reading | Refused:
        prefix = self.shape.prefix.encode()
        if found.startswith(prefix):
            return Reading([found[len(prefix) :]], {})
        if self.shape.bare:
            return Reading([found], {})
        return Refused("signature_malformed", f"{self.name} does not begin with {prefix.decode()}")

    def _listed(self, found: bytes) -> Reading | Refused:
        shape = self.shape
        items: dict[bytes, list[bytes]] = {}
        candidates: list[bytes] = []
        for item in self._split.split(found):
            name, separator, value = item.partition(shape.pair.encode())
            if separator:
                items.setdefault(name, []).append(value)
            elif item and shape.bare:
                candidates.append(item)
        candidates += items.get(shape.item.encode(), [])
        if not candidates:
            return Refused("signature_malformed", f"{self.name} has no item {shape.item}")
        return Reading(candidates[:MOST_CANDIDATES], items)

    def value(self, place: str, delivery: Signed, reading: Reading) -> bytes | Refused:
        """Return what stands at a place."""
        kind, _, name = place.partition(":")
        if kind != "item":
            return finder(place)(delivery)
        values = reading.items.get(name.encode(), [])
        if len(values) != 1:
            return Refused(
                "signature_malformed", f"{self.name} has {len(values)} items {name}, not one"
            )
        return values[0]

    def contents(self, delivery: Signed, reading: Reading, time: bytes) -> list[bytes] | Refused:
        """Return what may have been signed, given the signed time's text: as a rule it is one."""
        if self.shape.content == "{body}":
            return [delivery.body]
        if self.rule is not None:
            return self.rule.contents(delivery, time)
        pieces: list[bytes] = []
        for number, (text, field) in enumerate(self._parts):
            pieces.append(text)
            if not field:
                continue
            value = self._field(field, delivery, reading, time)
            if isinstance(value, Refused):
                return value
            if refusal := self._refuse_border(number, field, value):
                return refusal
            pieces.append(value)
        return [b"".join(pieces)]

    def _field(
        self, field: str, delivery: Signed, reading: Reading, time: bytes
    ) -> bytes | Refused:
        match field:
            case "body":
                return delivery.body
            case "timestamp":
                return time
            case "method":
                return delivery.method.encode()
            case "url":
                return delivery.url.encode("utf-8", "surrogateescape") or NO_URL
            case "id":
                ((_, place),) = parts(as_template(self.shape.id[0]))
                return self.value(place, delivery, reading)
            case _:
                return self.value(field, delivery, reading)

    def _refuse_border(self, number: int, field: str, value: bytes) -> Refused | None:
        """Refuse a value in which its border stands as well: another could be made longer instead.

        Before the body a field is bordered by what follows it, behind the body by what precedes it.
        """
        if field in {"body", "timestamp", "url", "method"}:
            return None
        if number > self._body:
            border = self._parts[number][0]
            is_once = (border + value).rfind(border) == 0
        else:
            border, following = (*self._parts, (b"", ""))[number + 1]
            if not following:  # the content's end is its end
                return None
            if not border and following == "timestamp":
                return _refuse_time(field, value)
            is_once = (value + border).find(border) == len(value)
        if is_once:
            return None
        return Refused("field_malformed", f"{field} holds {border.decode()!r}, which ends it")


def _refuse_time(field: str, value: bytes) -> Refused | None:
    """Refuse a time in what ends where the time begins."""
    if times.RFC3339.search(value):
        return Refused("field_malformed", f"{field} holds a time, which ends it")
    return None
