"""A sender in words: what it signs, where its IDs and types come from, and what somebody who
captures a delivery could do with it.

No I/O. docs/sources.md and `hookmill check` say it with these words.
"""

from __future__ import annotations

from collections.abc import Sequence

from hookmill.signatures.shape import Shape, as_template, parts

_ALGORITHMS = {"ed25519": "Ed25519", "ecdsa-p256": "ECDSA on P-256"}
_RULES = {
    "twilio": "the URL and the form's fields, or the URL that holds the body's hash",
    "hubspot": "method, URL, body and time",
    "contentful": "method, path, the headers that are listed as signed, and the body",
}


def span(seconds: float) -> str:
    """Write seconds as people do."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"


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


def signed(shape: Shape) -> str:
    """Say what is signed, how, and where the signature stands."""
    if shape.algorithm == "token":
        return f"nothing: {place(shape.signature)} holds the secret itself"
    rules = [_RULES[field] for _, field in parts(shape.content) if field in _RULES]
    what = rules[0] if rules else "the body" if shape.content == "{body}" else shape.content
    algorithm = _ALGORITHMS.get(shape.algorithm, shape.algorithm.upper())
    return f"{what}; {algorithm} in {shape.encoding}, in {place(shape.signature)}"


def timed(shape: Shape) -> str:
    """Say what a delivery's age may be."""
    if not shape.timestamp:
        return "none is signed: a delivery never gets too old"
    where = place(shape.timestamp)
    return f"{where}, up to {span(shape.tolerance)} off in either direction"


def identified(shape: Shape) -> str:
    """Say where the message ID comes from, and whether it is signed."""
    if not shape.id:
        return (
            "none: a digest of what is signed (signed)"
            if shape.timestamp
            else "none: the receiver gives each delivery another"
        )
    return ", else ".join(_identified(shape, template) for template in shape.id)


def _identified(shape: Shape, template: str) -> str:
    if template == "body":
        return "a digest of the body (signed)"
    signs = shape.algorithm != "token" and shape.is_signed(template)
    return f"{_template(template)} ({'signed' if signs else 'not signed'})"


def typed(shape: Shape) -> str:
    """Say where the event type comes from."""
    return ", else ".join(map(_template, shape.type)) or "none"


def _template(template: str) -> str:
    pieces = list(parts(as_template(template)))
    if [text for text, _ in pieces] == [""] and pieces[0][1]:
        return place(pieces[0][1])
    return template


def ids_are_signed(shape: Shape) -> Sequence[bool]:
    """Say of each of a shape's IDs whether it is signed."""
    return [shape.algorithm != "token" and shape.is_signed(one) for one in shape.id]


def replayed(shape: Shape) -> str:
    """Say what a captured delivery allows; "" where it allows nothing."""
    are_signed = ids_are_signed(shape)
    # Without an ID, yet with a signed time, a message is named after what was signed.
    if all(are_signed) and (are_signed or shape.timestamp):
        return ""
    if shape.timestamp:
        return (
            "a delivery that was stored cannot be sent again under another ID: its signature is "
            "remembered for as long as its time is near enough. Whoever captures one that is not "
            "stored can send it under another ID once, until its signed time is "
            f"{span(shape.tolerance)} old; the sender's own repeat may then run as well"
        )
    until = "for as long as the secret stays the same"
    if not are_signed:
        return (
            "deliveries have no ID and no signed time: whoever captures one can send it again, "
            f"{until}, and each runs; so does each repeat of the sender's own"
        )
    where = ", where the body has no signed one" if any(are_signed) else ""
    whoever = f"whoever captures a delivery can send it again under another ID{where}"
    return f"{whoever}, {until}, and each runs"
