"""Finds the message ID, the event type and the ordering key of a delivery. No I/O.

A delivery is read here only after its signature has been verified.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
from msgspec import UNSET, Raw, UnsetType
from multidict import CIMultiDict, MultiMapping, istr

from hookmill.catalog.qstash import type_of
from hookmill.config.source_options import SourceOptions
from hookmill.signatures import Refused, Signed
from hookmill.signatures.places import finder, value_at
from hookmill.signatures.scheme import only_header
from hookmill.signatures.spec import SignatureSpec, as_template, parts

MAX_NAME = 255
"""Characters of a message ID or an event type; what is longer counts as not given."""


class Identity(msgspec.Struct, frozen=True):
    """A message's ID (None: the sender gave none) and its event type ("" for none).

    `id_is_signed` says whether the ID follows from bytes that the signature covers.
    """

    id: str | None
    type: str
    id_is_signed: bool = False


Identify = Callable[[MultiMapping[str], bytes], Identity | Refused]


KeyOf = Callable[[bytes], str]
"""Finds a body's ordering key; "" for none."""


def no_key(_body: bytes) -> str:
    """Say that a message waits for no other, without a look at its body."""
    return ""


class _Names(msgspec.Struct):
    """What most bodies say of their event; other fields are skipped, not built."""

    event: str = ""
    type: str = ""


class _Envelope(msgspec.Struct):
    """What a body of any shape may say of itself."""

    id: Raw | UnsetType = UNSET
    event: Raw | UnsetType = UNSET
    type: Raw | UnsetType = UNSET


_names = msgspec.json.Decoder(_Names)


_envelope = msgspec.json.Decoder(_Envelope)


_name = msgspec.json.Decoder(str)


_MESSAGE_ID = istr("Upstash-Message-Id")  # its lower case is found once


_NO_HEADERS = CIMultiDict[str]()


def identify_for(preset: str, spec: SignatureSpec | None, options: SourceOptions) -> Identify:
    """Return what finds the names in the deliveries of a sender."""
    own = {
        "qstash": identify_qstash,
        "qstash-callbacks": identify_callback,
        "marble": identify_marble,
        "sns": identify_sns,
        "paypal": identify_paypal,
    }.get(preset)
    if own is None:
        assert spec is not None  # noqa: S101 - only those above may be without
        return identify_by(spec)
    if options.id == ("body",):
        return by_body(own)
    if (options.id is None and options.type is None) or preset in {"sns", "paypal"}:
        return own
    words = spec or SignatureSpec(
        signature="header:Upstash-Signature", type=("json:event", "json:type")
    )
    ids = ("header:Upstash-Message-Id",) if options.id is None else options.id
    types = words.type if options.type is None else options.type
    found = identify_by(msgspec.structs.replace(words, id=ids, type=types))
    return typed_by(type_of, found) if preset == "qstash-callbacks" else found


def identify_by(spec: SignatureSpec) -> Identify:
    """Find names where a shape says they are: the first template whose fields are all there."""
    ids = [(_filled(one), spec.is_signed(one)) for one in spec.id]
    types = [_filled(one) for one in spec.type]

    def identify(headers: MultiMapping[str], body: bytes) -> Identity | Refused:
        delivery = Signed(headers, body)
        event_type = ""
        for fill in types:
            found = fill(delivery)
            if isinstance(found, Refused):
                return found
            if found:
                event_type = found
                break
        for fill, is_signed in ids:
            found = fill(delivery)
            if isinstance(found, Refused):
                return found
            if found:
                return Identity(found, event_type, is_signed)
        return Identity(None, event_type)

    return identify


def _filled(template: str) -> Callable[[Signed], str | Refused]:
    """Return what fills a template from a delivery: "" where a field is not there or too long."""
    if template == "body":
        return lambda delivery: f"hm_{_digest(delivery.body)}"
    pieces = [
        (text, _text_at(field) if field else None) for text, field in parts(as_template(template))
    ]

    def fill(delivery: Signed) -> str | Refused:
        filled = ""
        for text, look in pieces:
            filled += text
            if look is None:
                continue
            value = look(delivery)
            if not value or isinstance(value, Refused):
                return value
            filled += value
        return filled if len(filled) <= MAX_NAME else ""

    return fill


def _text_at(place: str) -> Callable[[Signed], str | Refused]:
    """Return what finds the text at a place: "" where there is none."""
    find, is_header = finder(place), place.startswith("header:")

    def look(delivery: Signed) -> str | Refused:
        found = find(delivery)
        if isinstance(found, Refused):
            return found if found.code == "header_repeated" else ""
        value = found.decode("utf-8", "replace")
        if is_header and not value.isprintable():
            return Refused("header_malformed", f"{place} is not printable text")
        return value

    return look


def identify_qstash(headers: MultiMapping[str], body: bytes) -> Identity | Refused:
    """Find a QStash delivery's names: its ID stands in a header that is not signed."""
    message_id = _message_id_header(headers)
    return message_id if isinstance(message_id, Refused) else Identity(message_id, _type_in(body))


def _type_in(body: bytes) -> str:
    """Return the event type that a body names, as `event` or as `type`."""
    try:
        names = _names.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        envelope = _read(body)  # one of the two may be a text nevertheless
        return _text(envelope.event) or _text(envelope.type) or ""
    event_type = names.event if len(names.event) <= MAX_NAME else ""
    event_type = event_type or names.type
    return event_type if len(event_type) <= MAX_NAME else ""


def identify_callback(headers: MultiMapping[str], body: bytes) -> Identity | Refused:
    """Find the names of a callback of QStash: each is a message of its own, and what it says of the
    one that was published tells its type.
    """
    message_id = _message_id_header(headers)
    return message_id if isinstance(message_id, Refused) else Identity(message_id, type_of(body))


def typed_by(find_type: Callable[[bytes], str], identify: Identify) -> Identify:
    """Have the type follow from the body in a sender's own way, whatever else names a message."""

    def identify_typed(headers: MultiMapping[str], body: bytes) -> Identity | Refused:
        found = identify(headers, body)
        return (
            found
            if isinstance(found, Refused)
            else Identity(found.id, find_type(body), found.id_is_signed)
        )

    return identify_typed


def identify_marble(headers: MultiMapping[str], body: bytes) -> Identity | Refused:
    """Find a Marble delivery's names.

    The current generation signs its ID in the body; the older one came through QStash, whose
    header then tells repeats apart.
    """
    envelope = _read(body)
    event_type = _text(envelope.type) or _text(envelope.event) or ""
    signed_id = _text(envelope.id)
    if signed_id and _text(envelope.type):
        return Identity(signed_id, event_type, id_is_signed=True)
    message_id = _message_id_header(headers)
    return message_id if isinstance(message_id, Refused) else Identity(message_id, event_type)


def identify_sns(_headers: MultiMapping[str], body: bytes) -> Identity | Refused:
    """Find an SNS message's names: its signed ID, and its topic as the type."""
    from hookmill.signatures.sns import names_in  # noqa: PLC0415 - it needs an extra

    names = names_in(body)
    if names is None:
        return Refused("body_malformed", "the body is no message of SNS")
    return Identity(names.id, names.type, id_is_signed=True)


identify_paypal = identify_by(
    SignatureSpec(
        signature="header:PAYPAL-TRANSMISSION-SIG",
        content="{header:PAYPAL-TRANSMISSION-ID}|{body}",
        # Of the body only a CRC32 is signed, so that its own ID proves nothing.
        id=("header:PAYPAL-TRANSMISSION-ID",),
        type=("json:event_type",),
    )
)


def by_body(identify: Identify) -> Identify:
    """Have IDs follow from the body alone, for a sender whose IDs stand in unsigned headers.

    Headers count for nothing. An ID of its own that a body holds stays its ID, for it is signed as
    well; any other message is named after its bytes, so that of two with the same bytes one runs.
    """

    def identify_by_body(_headers: MultiMapping[str], body: bytes) -> Identity | Refused:
        found = identify(_NO_HEADERS, body)
        if isinstance(found, Refused) or found.id is not None:
            return found
        return Identity(f"hm_{_digest(body)}", found.type, id_is_signed=True)

    return identify_by_body


def ordered_by(path: str) -> KeyOf:
    """Return what finds the ordering key at a dotted path in a JSON body.

    A text or an integer there is the key. Where it is longer than `MAX_NAME`, its digest is: cut
    off, it would have messages wait for others that only begin alike. Anything else is no key.
    """
    find = value_at(path)

    def key_at_path(body: bytes) -> str:
        key = find(body) or ""
        return key if len(key) <= MAX_NAME else _digest(key.encode())

    return key_at_path


def _digest(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def _message_id_header(headers: MultiMapping[str]) -> str | Refused | None:
    if _MESSAGE_ID not in headers:
        return None
    found = only_header(headers, _MESSAGE_ID)
    if isinstance(found, Refused):
        return found
    name = found.decode("ascii", "replace")  # what replaces a byte is no ASCII
    if name.isascii() and name.isprintable() and 0 < len(name) <= MAX_NAME:
        return name
    return Refused(
        "message_id_malformed", f"{_MESSAGE_ID} is not 1 to {MAX_NAME} printable characters"
    )


def _read(body: bytes) -> _Envelope:
    try:
        return _envelope.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Envelope()  # any shape is accepted; the worker will say what is wrong with it


def _text(value: Raw | UnsetType) -> str | None:
    if value is UNSET:
        return None
    try:
        text = _name.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return text if 0 < len(text) <= MAX_NAME else None
