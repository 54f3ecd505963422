"""Bodies that cost the most before a signature is known to be genuine, and schemes that read them.

Each body has a given size. `bodies_for` makes those that a spec is most likely to stumble over: the
places in the body that it reads are filled with separators, escapes, arrays and repeated names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from hookmill.signatures import times
from hookmill.signatures.content_rules import MAX_FORM
from hookmill.signatures.scheme import Signed
from hookmill.signatures.spec import SignatureSpec, as_template, parts
from hookmill.signatures.spec_verifier import SpecVerifier
from tests.signatures.senders import (
    ALL,
    ASYMMETRIC,
    NOW,
    delivery,
    genuine,
    scheme_of,
    signed_by,
    with_header,
)

LIMIT = 10 * 1024 * 1024
"""The default body limit of the receiver, in bytes."""

SECRET = "a_secret_that_is_long_enough_5b1f0c9a"
MANY = 20
"""How many places in the body the widest of these schemes sign."""


def _body_signed(**words: Any) -> SignatureSpec:
    return SignatureSpec(unsigned_body=True, **words)


_LIST = {"split": ",", "pair": "=", "item": "v1"}

SCHEMES = {
    "form signature": _body_signed(signature="form:sig", content="{form:a}"),
    "form list": _body_signed(signature="form:sig", content="{form:a}.{form:b}", **_LIST),
    "many form fields": _body_signed(
        signature="header:X-Signature", content=".".join(f"{{form:a{n}}}" for n in range(MANY))
    ),
    "json signature": _body_signed(signature="json:sig", content="{json:a}"),
    "json list": _body_signed(signature="json:sig", content="{json:a}", **_LIST),
    "json list, split": _body_signed(
        signature="json:sig", content="{json:a}", **{**_LIST, "split": ", ;|"}
    ),
    "json, deep": _body_signed(
        signature="json:" + ".".join("abcdefghijklmnop"),
        content="{json:" + ".".join("abcdefghijklmnoq") + "}",
    ),
    "json, arrays": _body_signed(signature="json:0.1.2.3", content="{json:0.1.2.4}"),
    "json, an array": _body_signed(signature="json:sig.999", content="{json:sig.0}"),
    "many json texts": _body_signed(
        signature="header:X-Signature", content=".".join(f"{{json:a{n}}}" for n in range(MANY))
    ),
    "json in several objects": _body_signed(
        signature="json:sig", content=".".join(f"{{json:o{n}.a}}" for n in range(MANY))
    ),
    "time in a form": SignatureSpec(
        signature="header:X-Signature", content="{timestamp}.{body}", timestamp="form:t"
    ),
    "time before a text": _body_signed(
        signature="json:sig", content="{json:a}{timestamp}", timestamp="json:t", unit="rfc3339"
    ),
    "twilio, time in the form": SignatureSpec(
        signature="header:X-Signature", content="{twilio}", timestamp="form:t"
    ),
}
"""Schemes that a user's settings can describe, and that read the body before it has verified."""


def scheme_names() -> list[str]:
    """Return the names of the presets and of our own schemes."""
    return [*ALL, *SCHEMES]


def scheme_named(name: str) -> SpecVerifier:
    """Return the scheme of a preset or of one of ours."""
    return SpecVerifier(SCHEMES[name], [SECRET]) if name in SCHEMES else scheme_of(name)


def delivery_to(name: str, body: bytes, now: float = NOW) -> Signed:
    """Return a delivery with the headers of a genuine one, and with this body."""
    if name in SCHEMES:
        return delivery_for(SCHEMES[name], body, now)
    return genuine(name, now=now)._replace(body=body)


def delivery_for(spec: SignatureSpec, body: bytes, now: float = NOW) -> Signed:
    """Return a delivery with this body, and with all headers that a scheme of ours needs."""
    headers = {"X-Signature": f"v1={'0' * 64}" if spec.pair else "0" * 64, "X-Id": "msg_1"}
    headers["X-Time"] = times.write(now, spec.unit)
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    return delivery(body, headers)


def most_signatures(name: str, body: bytes) -> Signed:
    """Return a delivery with sixteen well-formed signatures that do not match, if a list may."""
    signed = delivery_to(name, body)
    spec = scheme_named(name).spec
    kind, _, header = spec.signature.partition(":")
    if kind != "header" or not spec.pair:
        return signed
    if name in ASYMMETRIC:  # well-formed, but of another content
        other = signed_by(spec, ASYMMETRIC[name].sign, delivery(b"another"), NOW)
        one = other.headers[header]
    else:
        one = next(
            item for item in signed.headers[header].split(spec.split[0]) if spec.item in item
        )
    value = spec.split[0].join([signed.headers[header], *[one] * 15])
    return with_header(signed, header, value)


# --- bodies ---


def bodies_for(spec: SignatureSpec, size: int = LIMIT) -> Iterator[tuple[str, bytes]]:
    """Return bodies of nearly `size` bytes, each with its name."""
    return ((name, make()) for name, make in makers_for(spec, size))


def most_for(spec: SignatureSpec) -> int:
    """Return the most bytes of a body that is read: a larger one is refused at once."""
    return MAX_FORM if spec.content == "{twilio}" else LIMIT


def makers_for(
    spec: SignatureSpec, size: int = LIMIT, now: float = NOW
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Return the names of such bodies, and functions that make them. Where a text is asked for they
    have the time `now`, so that a verdict goes as far as it can.
    """
    size = min(size, most_for(spec))
    plain = times.write(now, spec.unit).encode()
    for name, make in ANY_FORMAT.items():
        yield name, partial(make, size)
    places = places_in_body(spec)
    paths = [place[5:] for place in places if place.startswith("json:")]
    for path in paths[:2]:
        for name, make in JSON_VALUES.items():
            yield f"{name} at {path}", partial(_json_with, paths, path, make, size - 4_000, plain)
    if paths:
        yield f"{paths[0]} repeated", partial(_repeated, paths[0].split("."), size)
        yield f"{paths[-1]} repeated", partial(_repeated, paths[-1].split("."), size)
        yield "values that share the body", partial(_json_with, paths, "", _times(b""), size, plain)
    names = [place[5:] for place in places if place.startswith("form:")]
    for field in names[:2]:
        for name, make in FORM_VALUES.items():
            yield f"{name} in {field}", partial(_form_with, names, field, make, size - 4_000, plain)


def places_in_body(spec: SignatureSpec) -> list[str]:
    """Return the places in the body that a spec names for its signature, its time and what it
    signs.
    """
    fields = [spec.signature, spec.timestamp, *(field for _, field in parts(spec.content))]
    if "{id}" in spec.content:
        fields += [field for _, field in parts(as_template(spec.id[0]))]
    return [one for one in dict.fromkeys(fields) if one.startswith(("json:", "form:"))]


def _times(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: unit * (size // len(unit))


def _around(before: bytes, unit: bytes, after: bytes) -> Callable[[int], bytes]:
    return lambda size: before + unit * ((size - len(before) - len(after)) // len(unit)) + after


def _many_long_fields(size: int) -> bytes:
    return b"&".join(b"f%03d=" % n + b"x" * (size // 1_000 - 6) for n in range(1_000))


def _almost_too_many_escapes(size: int) -> bytes:
    field = b"%41a" * 49 + b"x" * (size // 1_000 - 202)
    return b"&".join(b"f%03d=" % n + field for n in range(1_000))


ANY_FORMAT: dict[str, Callable[[int], bytes]] = {
    "zeros": _times(b"\0"),
    "bytes that are no text": _times(b"\xff"),
    "form of a=b&": _times(b"a=b&"),
    "form of &": _times(b"&"),
    "form of %41": _around(b"a=", b"%41", b""),
    "form of %41a in a name": _times(b"%41a"),
    "form of +": _around(b"a=", b"+", b""),
    "form of %2B": _around(b"a=", b"%2B", b""),
    "form of =": _around(b"a", b"=", b""),
    "form of one field": _around(b"a=", b"x", b""),
    "form of 1,000 fields": _many_long_fields,
    "form of 49,000 escapes": _almost_too_many_escapes,
    "json of [": _times(b"["),
    "json of numbers": _around(b"[", b"1,", b"1]"),
    "json of objects": _around(b"[", b"{},", b"1]"),
    "json of names": _around(b"{", b'"a":1,', b'"a":1}'),
    "json of nested arrays": _around(b"[", b"[[[[[[]]]]]],", b"1]"),
    "json of digits": _around(b'{"a":', b"9", b"}"),
    "json of spaces": _around(b"", b" ", b'{"a":1}'),
}
"""Bodies for every scheme."""

JSON_VALUES: dict[str, Callable[[int], bytes]] = {
    "commas": _around(b'"', b",", b'"'),
    "commas as \\u002c": _around(b'"', b"\\u002c", b'"'),
    "line breaks": _around(b'"', b"\\n", b'"'),
    "v1=": _around(b'"', b"v1=00,", b'"'),
    "digits": _around(b"", b"9", b""),
    "text with an emoji": _around(b'"', b"a", b'\xf0\x9f\x98\x80"'),
    "text with an escaped emoji": _around(b'"', b"a", b'\\ud83d\\ude00"'),
    "times": _around(b'"', b"2026-05-22T14:42:31", b'"'),
    "numbers": _around(b"[", b"1,", b"1]"),
    "texts": _around(b"[", b'"",', b'""]'),
    "objects": _around(b"[", b"{},", b"{}]"),
    "names": _around(b"{", b'"":1,', b'"":1}'),
}
"""Values for a place in a JSON body."""

FORM_VALUES: dict[str, Callable[[int], bytes]] = {
    "commas": _times(b","),
    "commas as %2C": _times(b"%2C"),
    "v1=": _times(b"v1=00,"),
    "pluses": _times(b"+"),
    "bytes that are no text": _times(b"\xff"),
}
"""Values for a field of a form."""


_HERE = b"\0"
"""Stands for a value until the rest is written."""


def _json_with(
    paths: list[str], path: str, make: Callable[[int], bytes], size: int, text: bytes
) -> bytes:
    """Write a JSON body with this text at each path, and with a large value at `path`. With "", the
    values at all paths share the body.
    """
    tree: dict[str, Any] = {}
    for one in paths:
        *above, last = one.split(".")
        holder = tree
        for step in above:
            inner = holder.setdefault(step, {})
            if not isinstance(inner, dict):  # a text is here already
                break
            holder = inner
        plain = b'"%b"' % text
        if not path:
            plain = b'"' + b"\\n" * ((size - 4_000) // len(paths) // 2 - 20) + b'"'
        holder[last] = _HERE if one == path else plain
    written = _written(tree)
    return written.replace(_HERE, make(size)) if path else written  # it is large: copied once


def _written(tree: dict[str, Any] | bytes) -> bytes:
    if isinstance(tree, bytes):
        return tree
    if all(name.isdecimal() for name in tree):  # positions of an array
        row = [b"0"] * (max(map(int, tree)) + 1)
        for name, inner in tree.items():
            row[int(name)] = _written(inner)
        return b"[" + b",".join(row) + b"]"
    members = (b'"%b":' % name.encode() + _written(inner) for name, inner in tree.items())
    return b"{" + b",".join(members) + b"}"


def _repeated(path: list[str], size: int) -> bytes:
    """Write an object in which the first step of a path stands again and again."""
    if path[0].isdecimal():
        return _around(b"[", b"[],", b"[]]")(size)
    value = b"{}" if len(path) > 1 else b"1"
    member = b'"%b":' % path[0].encode() + value
    return _around(b"{", member + b",", member + b"}")(size)


def _form_with(
    names: list[str], name: str, make: Callable[[int], bytes], size: int, text: bytes
) -> bytes:
    value = make(size)
    return b"&".join(b"%b=" % one.encode() + (value if one == name else text) for one in names)
