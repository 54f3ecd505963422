"""A signature scheme as data, and what makes one unsafe.

The words are the same in the table of senders (`presets`) and in a user's `hookmill.toml`. A place
is `header:NAME`, `json:PATH` or `form:NAME`; a timestamp and a content may be `item:NAME` as well,
which stands in the signature header's own list.
A template is text with fields in braces: `{body}`, `{timestamp}`, `{id}`, `{url}`, `{method}`, a
place (`{header:X-Shop}`), or a sender's own rule (`{twilio}`, `{hubspot}`, `{contentful}`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from hookmill.signatures.places import finder

Algorithm = Literal[
    "hmac-sha1", "hmac-sha256", "hmac-sha512", "ed25519", "ecdsa-p256", "token"
]  # fmt: skip
KeyForm = Literal["text", "base64", "hex", "base64-if-prefixed"]
Encoding = Literal["hex", "base64", "base64url"]
Unit = Literal["s", "ms", "rfc3339"]

OWN_RULES = {"twilio", "hubspot", "contentful"}
"""Fields that only code can make; each covers the body, and stands for the whole content."""

LONGEST_TOLERANCE = 366 * 86400
"""Seconds that a signed time may be off at most: far less than a digit more or less makes of it."""

_TIMED_RULES = {"hubspot", "contentful"}
_FIXED = {"url", "method"}

_FIELD = re.compile(r"\{([^{}]*)\}")
_PLAIN_FIELDS = {"body", "timestamp", "id", "url", "method"}


class SignatureSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How a sender signs.

    `signature` is the place of the signature. It is a bare value behind `prefix`, or, with `split`
    (the characters between items) and `pair` (what stands between an item's name and its value),
    a list in which `item` names those that are signatures; `bare` lets it stand without prefix or
    name as well. `encoding` is how it is written; only the one canonical spelling counts.

    `key` says what of the secret is the key: its text, or what that decodes to, after `key_prefix`.
    `content` is the template of what is signed. `timestamp` is the place of a signed time in
    `unit`s, which may be `tolerance` seconds off in either direction.

    `id` and `type` are templates of the message ID and the event type; the first whose fields are
    all there counts; the `id` "body" stands for a digest of the body. `single_use` is the place of
    what is good for one delivery only. `unsigned_body` has to be said where the signature does not
    cover the body. `handshake` names what the sender asks before it sends, `acknowledge` is the
    status it wants to see.
    """

    signature: str
    algorithm: Algorithm = "hmac-sha256"
    key: KeyForm = "text"
    key_prefix: str = ""
    encoding: Encoding = "hex"
    prefix: str = ""
    bare: bool = False
    split: str = ""
    pair: str = ""
    item: str = ""
    content: str = "{body}"
    timestamp: str = ""
    unit: Unit = "s"
    tolerance: float = 300.0
    id: tuple[str, ...] = ()
    type: tuple[str, ...] = ()
    single_use: str = ""
    unsigned_body: bool = False
    handshake: str = ""
    acknowledge: int = 200

    @property
    def covers_body(self) -> bool:
        """Whether the signature says anything about the body."""
        return any(field == "body" or field in OWN_RULES for _, field in parts(self.content))

    @property
    def needs_url(self) -> bool:
        """Whether what is signed holds the URL that the sender was given."""
        return any(field in {"url", "twilio", "hubspot"} for _, field in parts(self.content))

    def is_signed(self, template: str) -> bool:
        """Say whether all that a template is made of is under the signature."""
        signed = {field for _, field in parts(self.content)}
        # Twilio signs what a form stands for; that can be spelled in many ways.
        is_body_signed = self.covers_body and "twilio" not in signed
        if template == "body":
            return is_body_signed
        if "id" in signed and self.id:
            signed |= {field for _, field in parts(as_template(self.id[0]))}
        if signed & {"timestamp", *_TIMED_RULES}:
            signed.add(self.timestamp)
        return all(
            not field
            or field in signed
            or (field.startswith(("json:", "form:")) and is_body_signed)
            for _, field in parts(as_template(template))
        )


def as_template(text: str) -> str:
    """Write a place as the template that is nothing but that place."""
    return text if "{" in text else "{" + text + "}"


def parts(template: str) -> Iterator[tuple[str, str]]:
    """Take a template apart: each field ("": none, at the end) with the text before it."""
    end = 0
    for match in _FIELD.finditer(template):
        yield template[end : match.start()], match[1]
        end = match.end()
    if end < len(template) or not template:
        yield template[end:], ""


def faults_of(spec: SignatureSpec) -> list[str]:
    """Return everything that makes a shape unusable or unsafe, each with the word it concerns."""
    faults = [*_faults_of_places(spec), *_faults_of_list(spec)]
    if faults:
        return faults
    return [
        *_faults_of_content(spec),
        *_faults_of_borders(spec),
        *_faults_of_time(spec),
        *_faults_of_single_use(spec),
    ]


def _faults_of_places(spec: SignatureSpec) -> Iterator[str]:
    single = {"signature": spec.signature, "timestamp": spec.timestamp}
    single["single_use"] = spec.single_use
    for word, place in single.items():
        if place and not (word == "timestamp" and place.startswith("item:")):
            yield from _fault_of(word, place)
    for word, template in (
        ("content", spec.content),
        *(("id", one) for one in spec.id if one != "body"),
        *(("type", one) for one in spec.type),
    ):
        yield from _faults_of_template(word, template)


def _faults_of_template(word: str, template: str) -> Iterator[str]:
    if word != "content":
        template = as_template(template)
    for text, field in parts(template):
        if "{" in text or "}" in text:
            yield f"{word}: a brace in {template!r} stands alone"
        is_content = word == "content"
        is_known = field in _PLAIN_FIELDS | OWN_RULES or field.startswith("item:")
        if field and not (is_content and is_known):
            yield from _fault_of(word, field)


def _fault_of(word: str, place: str) -> Iterator[str]:
    try:
        finder(place)
    except ValueError as error:
        yield f"{word}: {error}"


def _faults_of_list(spec: SignatureSpec) -> Iterator[str]:
    if bool(spec.pair) != bool(spec.item):
        yield "pair and item belong together: what stands between name and value, and which name"
    uses_items = "item:" in spec.timestamp + spec.content
    if uses_items and not spec.pair:
        yield "item: the signature header has no items: give split, pair and item"
    if spec.prefix and spec.item:
        yield "prefix: with items give the name of those that are signatures, not a prefix"


def _faults_of_content(spec: SignatureSpec) -> Iterator[str]:
    if spec.algorithm == "token":
        if spec.content:
            yield 'content: a token signs nothing: give content = ""'
        return
    fields = [field for _, field in parts(spec.content) if field]
    if not fields:
        yield "content: it holds no field, so that every delivery would have the same signature"
    elif not spec.covers_body and not spec.unsigned_body:
        yield (
            "content: it does not hold {body}, so that anybody could put another body behind a "
            "signature that was seen once"
        )
    if OWN_RULES & set(fields) and list(parts(spec.content)) != [("", fields[0])]:
        yield "content: a sender's own rule is all of it: nothing stands beside it"
    if "id" not in fields:
        return
    place = list(parts(as_template(spec.id[0]))) if spec.id else []
    if not place or spec.id[0] == "body":
        yield "content: it holds {id}, and id names no place to find it"
    elif len(place) > 1 or place[0][0]:
        yield "id: what is signed is one place, and the first id is made of more"


def _faults_of_borders(spec: SignatureSpec) -> Iterator[str]:
    """Find fields that could take from one another without changing what is signed.

    Before the body one field after the other is read from the start, behind it from the end: a
    field ends at its separator, which it must not hold (`Reader` sees to that), or by itself.
    """
    pieces = [(text, field) for text, field in parts(spec.content) if field]
    names = [field for _, field in pieces]
    body = names.index("body") if "body" in names else len(names)
    for position in range(1, len(pieces)):
        text, after = pieces[position]
        before = names[position - 1]
        is_anchored = position <= body
        first, second = (before, after) if is_anchored else (after, before)
        if not text and not _ends_by_itself(first, second, spec, is_before_body=is_anchored):
            yield (
                f"content: nothing separates {{{before}}} from {{{after}}}: one could be made "
                "longer at the other's cost without changing what is signed"
            )


def _ends_by_itself(
    field: str, following: str, spec: SignatureSpec, *, is_before_body: bool
) -> bool:
    """Say whether one can tell where a field ends without a separator."""
    # The URL is the configured one, a method is upper-case letters. A full date and time ends where
    # it ends; a digit more or less puts a number of seconds far beyond every tolerance.
    if field in _FIXED or field == "timestamp":
        return True
    # A field may end where the time begins if that is the first time that stands there.
    return is_before_body and following == "timestamp" and spec.unit == "rfc3339"


def _faults_of_time(spec: SignatureSpec) -> Iterator[str]:
    if not spec.timestamp:
        if "{timestamp}" in spec.content:
            yield "content: it holds {timestamp}, and timestamp names no place to find it"
        return
    fields = {field for _, field in parts(spec.content)}
    is_in_body = spec.covers_body and spec.timestamp.startswith(("json:", "form:"))
    if not is_in_body and not fields & {"timestamp", *_TIMED_RULES}:
        yield (
            "timestamp: the signature does not cover it, so that a tolerance would keep nobody "
            "out: put {timestamp} into content if the sender signs it, else leave it away"
        )
    if not 0 < spec.tolerance <= LONGEST_TOLERANCE:  # nor is it "not a number"
        yield (
            "tolerance: give the seconds that a signed time may be off, more than 0 and at most "
            f"{LONGEST_TOLERANCE}"
        )


def _faults_of_single_use(spec: SignatureSpec) -> Iterator[str]:
    if spec.single_use and not spec.is_signed(spec.single_use):
        yield "single_use: the signature does not cover it, so that a replay could change it"
    if spec.single_use and not spec.timestamp:
        yield "single_use: without a signed time it would have to be remembered for ever"
