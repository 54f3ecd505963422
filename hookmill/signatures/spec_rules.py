"""What makes a `SignatureSpec` unusable or unsafe, in a preset or in a user's settings."""

from __future__ import annotations

from collections.abc import Iterator

from hookmill.signatures.places import finder
from hookmill.signatures.spec import (
    LONGEST_TOLERANCE,
    OWN_RULES,
    TIMED_RULES,
    SignatureSpec,
    as_template,
    parts,
)

_PLAIN_FIELDS = {"body", "timestamp", "id", "url", "method"}


def faults_of(spec: SignatureSpec) -> list[str]:
    """Return everything that makes a spec unusable or unsafe. Each fault begins with its word."""
    faults = [*_place_faults(spec), *_list_faults(spec)]
    if faults:
        return faults
    return [
        *_content_faults(spec),
        *_boundary_faults(spec),
        *_time_faults(spec),
        *_single_use_faults(spec),
    ]


def _place_faults(spec: SignatureSpec) -> Iterator[str]:
    single = {"signature": spec.signature, "timestamp": spec.timestamp}
    single["single_use"] = spec.single_use
    for word, place in single.items():
        if place and not (word == "timestamp" and place.startswith("item:")):
            yield from _syntax_faults(word, place)
    for word, template in (
        ("content", spec.content),
        *(("id", one) for one in spec.id if one != "body"),
        *(("type", one) for one in spec.type),
    ):
        yield from _template_faults(word, template)


def _template_faults(word: str, template: str) -> Iterator[str]:
    if word != "content":
        template = as_template(template)
    for text, field in parts(template):
        if "{" in text or "}" in text:
            yield f"{word}: a brace in {template!r} has no partner"
        is_content = word == "content"
        is_known = field in _PLAIN_FIELDS | OWN_RULES or field.startswith("item:")
        if field and not (is_content and is_known):
            yield from _syntax_faults(word, field)


def _syntax_faults(word: str, place: str) -> Iterator[str]:
    try:
        finder(place)
    except ValueError as error:
        yield f"{word}: {error}"


def _list_faults(spec: SignatureSpec) -> Iterator[str]:
    if bool(spec.pair) != bool(spec.item):
        yield (
            "pair and item belong together: set both (the text between name and value, and which "
            "name is a signature), or neither"
        )
    uses_items = "item:" in spec.timestamp + spec.content
    if uses_items and not spec.pair:
        yield "item: the signature header has no items: give split, pair and item"
    if spec.prefix and spec.item:
        yield "prefix: with items, remove it: item already says which of them are signatures"


def _content_faults(spec: SignatureSpec) -> Iterator[str]:
    if spec.algorithm == "token":
        if spec.content:
            yield 'content: a token signs nothing: give content = ""'
        return
    fields = [field for _, field in parts(spec.content) if field]
    if not fields:
        yield "content: it holds no field, so every delivery would have the same signature"
    elif not spec.covers_body and not spec.unsigned_body:
        yield (
            "content: it does not hold {body}, so anybody could send another body with a signature "
            "that was seen once"
        )
    if OWN_RULES & set(fields) and list(parts(spec.content)) != [("", fields[0])]:
        yield "content: a rule of one sender, such as {twilio}, must be the whole content"
    yield from _repeated_faults(spec, fields)
    if "id" not in fields:
        return
    place = list(parts(as_template(spec.id[0]))) if spec.id else []
    if not place or spec.id[0] == "body":
        yield "content: it holds {id}, but id names no place to find it"
    elif len(place) > 1 or place[0][0]:
        yield "id: content holds {id}, so the first id must be one place with nothing around it"


def _repeated_faults(spec: SignatureSpec, fields: list[str]) -> Iterator[str]:
    """Find fields of the body that are signed twice: each would be read and hashed twice, before
    it is known who sent it.
    """
    of_id = [field for _, field in parts(as_template(spec.id[0]))] if spec.id else []
    places = [place for field in fields for place in (of_id if field == "id" else [field])]
    for place in dict.fromkeys(places):
        is_large = place in {"body", "timestamp"} or place.startswith(("json:", "form:"))
        if is_large and places.count(place) > 1:
            yield f"content: {{{place}}} is signed twice: no sender does this, so write it once"


def _boundary_faults(spec: SignatureSpec) -> Iterator[str]:
    """Find adjacent fields whose boundary an attacker could shift without changing what is signed.

    Fields before the body are read from the start, fields after the body from the end. A field
    ends at its separator (`SpecReader` refuses a value that contains it), or ends by itself.
    """
    pieces = [(text, field) for text, field in parts(spec.content) if field]
    names = [field for _, field in pieces]
    body = names.index("body") if "body" in names else len(names)
    for position in range(1, len(pieces)):
        text, after = pieces[position]
        before = names[position - 1]
        is_before_body = position <= body
        first, second = (before, after) if is_before_body else (after, before)
        if not text and not _ends_by_itself(first, second, spec, is_before_body=is_before_body):
            yield (
                f"content: nothing separates {{{before}}} from {{{after}}}: anybody could move "
                "text from one to the other without changing what is signed"
            )


def _ends_by_itself(
    field: str, following: str, spec: SignatureSpec, *, is_before_body: bool
) -> bool:
    """Return whether the end of a field can be known without a separator."""
    # The URL is the configured one, and a method has only capital letters. A date and time has a
    # fixed form. One digit more or less puts a number of seconds far beyond every tolerance.
    if field in {"url", "method", "timestamp"}:
        return True
    # A field can end where a date and time begins: `SpecReader` refuses a field that holds one.
    return is_before_body and following == "timestamp" and spec.unit == "rfc3339"


def _time_faults(spec: SignatureSpec) -> Iterator[str]:
    if not spec.timestamp:
        if "{timestamp}" in spec.content:
            yield "content: it holds {timestamp}, but timestamp names no place to find it"
        return
    fields = {field for _, field in parts(spec.content)}
    is_in_body = spec.covers_body and spec.timestamp.startswith(("json:", "form:"))
    if not is_in_body and not fields & {"timestamp", *TIMED_RULES}:
        yield (
            "timestamp: the signature does not cover it, so anybody could change it: put "
            "{timestamp} into content if the sender signs it, otherwise remove timestamp"
        )
    if not 0 < spec.tolerance <= LONGEST_TOLERANCE:  # this is false for NaN as well
        yield (
            "tolerance: give the seconds that a signed time may differ, more than 0 and at most "
            f"{LONGEST_TOLERANCE}"
        )


def _single_use_faults(spec: SignatureSpec) -> Iterator[str]:
    if spec.single_use and not spec.is_signed(spec.single_use):
        yield "single_use: the signature does not cover it, so anybody could change it"
    if spec.single_use and not spec.timestamp:
        yield (
            "single_use: without a signed time it would have to be remembered forever: "
            "set timestamp"
        )
