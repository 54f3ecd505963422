"""A sender in words: what it signs, where its IDs and types come from, and what somebody who
captures a delivery could do with it.

No I/O. The documentation's page of sources and `hookmill check` use these words.
"""

from __future__ import annotations

from collections.abc import Sequence

from hookmill.admin.units import span
from hookmill.signatures.spec import SignatureSpec, as_template, parts

_ALGORITHMS = {"ed25519": "Ed25519", "ecdsa-p256": "ECDSA on P-256"}
_RULES = {
    "twilio": "the URL and the form's fields, or the URL that holds the body's hash",
    "hubspot": "method, URL, body and time",
    "contentful": "method, path, the headers that are listed as signed, and the body",
}


def place(where: str) -> str:
    """Say where a value stands."""
    kind, _, name = where.partition(":")
    match kind:
        case "header":
            return name
        case "json":
            return f"{name} in the body"
        case "form":
            return f"{name} in the form"
        case "item":
            return f"{name} in the signature's header"
        case _:
            return where


def signed(spec: SignatureSpec) -> str:
    """Say what is signed, how, and where the signature stands."""
    if spec.algorithm == "token":
        return f"nothing: {place(spec.signature)} holds the secret itself"
    rules = [_RULES[field] for _, field in parts(spec.content) if field in _RULES]
    what = rules[0] if rules else "the body" if spec.content == "{body}" else spec.content
    algorithm = _ALGORITHMS.get(spec.algorithm, spec.algorithm.upper())
    return f"{what}; {algorithm} in {spec.encoding}, in {place(spec.signature)}"


def timed(spec: SignatureSpec) -> str:
    """Say how old a delivery may be."""
    if not spec.timestamp:
        return "none is signed: a delivery never gets too old"
    where = place(spec.timestamp)
    return f"{where}, at most {span(spec.tolerance)} in the past or in the future"


def identified(spec: SignatureSpec) -> str:
    """Say where the message ID comes from, and whether it is signed."""
    if not spec.id:
        return (
            "none: a digest of what is signed (signed)"
            if spec.timestamp
            else "none: the receiver makes a new one for each delivery"
        )
    return ", else ".join(_identified(spec, one) for one in spec.id)


def _identified(spec: SignatureSpec, written: str) -> str:
    if written == "body":
        return "a digest of the body (signed)"
    signs = spec.algorithm != "token" and spec.is_signed(written)
    return f"{template(written)} ({'signed' if signs else 'not signed'})"


def typed(spec: SignatureSpec) -> str:
    """Say where the event type comes from."""
    return ", else ".join(map(template, spec.type)) or "none"


def template(written: str) -> str:
    """Say where a template's value stands: in words if it is one place, else as it is written."""
    pieces = list(parts(as_template(written)))
    if [text for text, _ in pieces] == [""] and pieces[0][1]:
        return place(pieces[0][1])
    return written


def ids_are_signed(spec: SignatureSpec) -> Sequence[bool]:
    """Return for each of a spec's ID templates whether what it names is signed."""
    return [spec.algorithm != "token" and spec.is_signed(one) for one in spec.id]


def replayed(spec: SignatureSpec) -> str:
    """Say what somebody can do with a captured delivery; "" where they can do nothing."""
    are_signed = ids_are_signed(spec)
    # Without an ID but with a signed time, the ID of a message is a digest of what was signed.
    if all(are_signed) and (are_signed or spec.timestamp):
        return ""
    if spec.timestamp:
        return (
            "a delivery that was stored cannot be sent again under another ID, because its "
            "signature is remembered while its signed time is valid. Anyone who captures one that "
            "was not stored can send it under another ID once, until its signed time is "
            f"{span(spec.tolerance)} old; the sender's own second try may then run as well"
        )
    until = "for as long as the secret stays the same"
    if not are_signed:
        return (
            "deliveries have no ID and no signed time: anyone who captures one can send it again, "
            f"{until}, and each runs; when the sender sends one again, that runs as well"
        )
    where = ", if the body has no signed ID" if any(are_signed) else ""
    who_captures = f"anyone who captures a delivery can send it again under another ID{where}"
    return f"{who_captures}, {until}, and each runs"
