"""What Twilio, HubSpot and Contentful sign, because no template can describe it.

A rule returns the contents that may have been signed, or refuses the delivery. To sign a delivery,
`prepare` first adds what the sender would put into it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import string
from collections.abc import Callable
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from multidict import CIMultiDict, istr

from hookmill.signatures.forms import MAX_FIELDS, TOO_MANY_FIELDS
from hookmill.signatures.scheme import Refused, Signed, only_header

Contents = list[bytes] | Refused


class ContentRule(NamedTuple):
    """The rule of one sender. `contents` gets the delivery and the text of the signed time (empty
    if there is none). `prepare` is called before a delivery is signed.
    """

    contents: Callable[[Signed, bytes], Contents]
    prepare: Callable[[Signed], Signed]


NO_URL = Refused(
    "url_unknown",
    "the URL that the sender was given is not known here",
    "set HOOKMILL_PUBLIC_URL, or url in the source's table",
)

# --- Twilio ---

_BODY_HASH = "bodySHA256"
_CONTENT_TYPE = istr("Content-Type")
_FORM = "application/x-www-form-urlencoded"
_PORTS = {"https": 443, "http": 80}

MAX_FORM = 4 * 1024 * 1024
"""The most bytes of a form whose fields are signed. Each field is copied several times, and Twilio
sends a few thousand bytes.
"""

_TOO_LARGE = Refused(
    "value_too_long", f"a form whose fields are signed has at most {MAX_FORM} bytes"
)

_MAX_ESCAPES = 50_000
"""The most characters of a form that may be escaped."""

_TOO_MANY_ESCAPES = Refused(
    "too_many_escapes", f"the form has more than {_MAX_ESCAPES} escaped characters"
)
_NO_FORM = Refused("body_malformed", "the body is no form of names and values")
_ESCAPE = re.compile("%([0-9A-Fa-f]{2})")
_CHARACTERS = {
    first + second: chr(int(first + second, 16))
    for first in string.hexdigits
    for second in string.hexdigits
}
"""The character of each pair of hex digits in an escape."""


def _twilio(delivery: Signed, _: bytes) -> Contents:
    """Return the URL followed by the form's fields, or the URL that holds the body's hash.

    Twilio signs the URL sometimes with the port and sometimes without, so both are returned.
    """
    if not delivery.url:
        return NO_URL
    url, signed = delivery.url, b""
    if _is_form(delivery):
        form = _signed_form(delivery.body)
        if isinstance(form, Refused):
            return form
        signed = form
    else:
        url = _with_query(url, delivery.target)
        claimed = parse_qs(urlsplit(url).query).get(_BODY_HASH, [])
        if len(claimed) != 1:
            return Refused(
                "body_unsigned", f"the URL must hold one {_BODY_HASH}, or the body a form"
            )
        digest = hashlib.sha256(delivery.body).hexdigest()
        if not hmac.compare_digest(digest.encode(), claimed[0].encode("utf-8", "surrogatepass")):
            return Refused("body_mismatch", f"the body does not have the hash in {_BODY_HASH}")
    return [each + signed for each in _with_and_without_port(url)]


def _signed_form(body: bytes) -> bytes | Refused:
    """Return a form's fields as Twilio signs them: unescaped, sorted, and each once."""
    # Counted first, because to split and to unescape a form costs far more than to count.
    if len(body) > MAX_FIELDS:
        if len(body) > MAX_FORM:
            return _TOO_LARGE
        if body.count(b"&") >= MAX_FIELDS:
            return TOO_MANY_FIELDS
        if body.count(b"%") > _MAX_ESCAPES:
            return _TOO_MANY_ESCAPES
    fields = _fields_of(body)
    if fields is None:
        return _NO_FORM
    signed = "".join([text for field in fields for text in field])
    del fields  # they are as large as the body, and so is each of the next copies
    # Otherwise the signature for a URL with a query would fit the URL without it, and a form.
    if signed.startswith(("?", "&")):
        return Refused("body_malformed", "a field's name begins with ? or &, as a query does")
    return signed.encode("latin-1")


def _fields_of(body: bytes) -> list[tuple[str, str]] | None:
    """Return the unescaped fields in their order, each once; None if the body is no form."""
    # In Latin-1 each byte is one character in the same order, and text is faster than bytes here.
    text = body.decode("latin-1").replace("+", " ")
    # Each telephone number begins with a plus: unescaping all of them at once is faster.
    if "%" in text:
        text = text.replace("%2B", "+")
    pieces = text.split("&") if text else []
    fields: list[tuple[str, str]] = []
    for piece in pieces:
        name, separator, value = piece.partition("=")
        if not name or not separator or "=" in value:
            return None
        if "%" in piece:
            name, value = _unescaped(name), _unescaped(value)
        fields.append((name, value))
    return [field for field, _ in groupby(sorted(fields))]


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda escape: _CHARACTERS[escape[1]], text)


def _with_query(url: str, target: str) -> str:
    """Return the configured URL with the rest of the received query added to its own."""
    own, query = url.partition("?")[2], target.partition("?")[2]
    if own and (query == own or query.startswith(f"{own}&")):
        query = query[len(own) + 1 :]
    if _BODY_HASH in own or not query:
        return url
    return f"{url}{'&' if own else '?'}{query}"


def _is_form(delivery: Signed) -> bool:
    if _BODY_HASH in delivery.url:
        return False
    kind = _media_type(delivery.headers.get(_CONTENT_TYPE, ""))
    return kind == _FORM or (not kind and _BODY_HASH not in delivery.target)


@lru_cache(maxsize=16)  # a sender's deliveries have the same one
def _media_type(written: str) -> str:
    return written.partition(";")[0].strip().lower()


@lru_cache(maxsize=16)  # for forms it is always the configured URL
def _with_and_without_port(url: str) -> list[bytes]:
    split = urlsplit(url)
    host = split.netloc
    userinfo, _, address = host.rpartition("@")
    name = re.sub(r":[0-9]+$", "", address)
    before = f"{userinfo}@" if userinfo else ""
    spellings = {host: None, before + name: None}
    if name == address and split.scheme in _PORTS:
        spellings[f"{before}{name}:{_PORTS[split.scheme]}"] = None
    urls = [urlunsplit(split._replace(netloc=each)) for each in spellings]
    return [each.encode("utf-8", "surrogateescape") for each in urls]


def _prepare_twilio(delivery: Signed) -> Signed:
    if _is_form(delivery):
        return delivery
    mark = f"{_BODY_HASH}={hashlib.sha256(delivery.body).hexdigest()}"
    target = f"{delivery.target}{'&' if '?' in delivery.target else '?'}{mark}"
    return delivery._replace(target=target)


# --- HubSpot ---

_UNESCAPED = re.compile("%(3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)


def _hubspot(delivery: Signed, timestamp: bytes) -> Contents:
    """Return method, URL (with some escapes decoded), body and time."""
    if not delivery.url:
        return NO_URL
    url = _UNESCAPED.sub(lambda match: chr(int(match[1], 16)), delivery.url)
    head = (delivery.method + url).encode("utf-8", "surrogateescape")
    return [b"".join((head, delivery.body, timestamp))]


# --- Contentful ---

_SIGNED_HEADERS = istr("x-contentful-signed-headers")
_HEADER = re.compile("[a-z0-9-]{1,100}")
_TIME_HEADER = "x-contentful-timestamp"


def _contentful(delivery: Signed, _: bytes) -> Contents:
    """Return method, path, the headers that are listed as signed, and body, one line each."""
    listed = only_header(delivery.headers, _SIGNED_HEADERS)
    if isinstance(listed, Refused):
        return listed
    names = _contentful_names(listed)
    if isinstance(names, Refused):
        return names
    lines = []
    for name, begin in names:
        value = only_header(delivery.headers, name)
        if isinstance(value, Refused):
            return value
        lines.append(begin + value.strip())
    path = _contentful_path(delivery.target)
    return [b"\n".join([delivery.method.encode(), path, b";".join(lines), delivery.body])]


@lru_cache(maxsize=16)  # a sender's deliveries have the same one
def _contentful_names(listed: bytes) -> list[tuple[istr, bytes]] | Refused:
    """Return the listed headers, each with the beginning of its line."""
    names = {name.strip().lower() for name in listed.decode("latin-1").split(",")}
    # Otherwise anybody could change the time, and the tolerance would be useless.
    if _TIME_HEADER not in names or _SIGNED_HEADERS not in names:
        return Refused("timestamp_unsigned", f"{_TIME_HEADER} is not among the signed headers")
    if not all(_HEADER.fullmatch(name) for name in names):
        return Refused("header_malformed", f"{_SIGNED_HEADERS} holds a text that is no header name")
    return [(istr(name), name.encode() + b":") for name in sorted(names)]


@lru_cache(maxsize=16)
def _contentful_path(target: str) -> bytes:
    path, mark, query = target.partition("?")
    encoded = quote(query, safe="-_.!~*'()", errors="surrogateescape") if query else ""
    safe = ";,/?:@&=+$-_.!~*'()#"
    whole = path + (mark + encoded if query else "")
    return quote(whole, safe=safe, errors="surrogateescape").encode()


def _prepare_contentful(delivery: Signed) -> Signed:
    headers = CIMultiDict(delivery.headers)
    names = [name.lower() for name in headers if name.lower().startswith("x-contentful-")]
    listed = sorted({*names, _SIGNED_HEADERS, _TIME_HEADER})
    headers[_SIGNED_HEADERS] = ",".join(listed)
    return delivery._replace(headers=headers)


RULES = {
    "twilio": ContentRule(_twilio, _prepare_twilio),
    "hubspot": ContentRule(_hubspot, lambda delivery: delivery),
    "contentful": ContentRule(_contentful, _prepare_contentful),
}
