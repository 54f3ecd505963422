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
from hookmill.signatures.scheme import header_repeated
from hookmill.signatures.spec import SignatureSpec, as_template, parts

MAX_NAME = 255
"""The most characters of a message ID or an event type. A longer one counts as not given."""


class Identity(msgspec.Struct, frozen=True):
    """A message's ID (None if the sender gave none) and its event type ("" if it has none).

    `id_is_signed` is true if the signature covers the bytes that the ID is made from.
    """

    id: str | None
    type: str
    id_is_signed: bool = False


Identify = Callable[[MultiMapping[str], bytes], Identity | Refused]
"""Finds the ID and type of a delivery, given its headers and its body."""

KeyOf = Callable[[bytes], str]
"""Finds the ordering key in a body; "" if there is none."""


def identifier_for(preset: str, spec: SignatureSpec | None, options: SourceOptions) -> Identify:
    """Return the function that finds ID and type in a source's deliveries.

    `spec` may be None only for a preset whose scheme is code; `options` is the source's table.
    """
    own = _OF_PRESET.get(preset)
    if own is None:
        assert spec is not None  # noqa: S101 - only the presets of that table come without a spec
        return identify_by(spec)
    if options.id == ("body",):
        return id_from_body(own)
    if (options.id is None and options.type is None) or preset in {"sns", "paypal"}:
        return own
    words = spec or SignatureSpec(
        signature="header:Upstash-Signature", type=("json:event", "json:type")
    )
    ids = ("header:Upstash-Message-Id",) if options.id is None else options.id
    types = words.type if options.type is None else options.type
    found = identify_by(msgspec.structs.replace(words, id=ids, type=types))
    return _with_type_of_callback(found) if preset == "qstash-callbacks" else found


# --- where a signature spec says that ID and type stand ---


def identify_by(spec: SignatureSpec) -> Identify:
    """Return a function that fills the templates `id` and `type` of a spec.

    Of each, the first template whose fields are all in the delivery counts.
    """
    ids = [(_filler(template), spec.is_signed(template)) for template in spec.id]
    types = [_filler(template) for template in spec.type]

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


def _filler(template: str) -> Callable[[Signed], str | Refused]:
    """Return a function that fills a template from a delivery. It gives "" if a field is missing,
    or if the text is too long.
    """
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
    """Return a function that finds the text at a place; "" if there is none."""
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


def id_from_body(identify: Identify) -> Identify:
    """Change a sender's function so that it ignores headers, because anybody can change those.

    An ID that is in the body stays the ID, because it is signed like the rest of the body. Any
    other message gets a digest of its body as the ID, so that of two equal bodies only one runs.
    """

    def identify_from_body(_headers: MultiMapping[str], body: bytes) -> Identity | Refused:
        found = identify(_NO_HEADERS, body)
        if isinstance(found, Refused) or found.id is not None:
            return found
        return Identity(f"hm_{_digest(body)}", found.type, id_is_signed=True)

    return identify_from_body


_NO_HEADERS = CIMultiDict[str]()


# --- senders whose ID and type need code ---


def identify_qstash(headers: MultiMapping[str], body: bytes) -> Identity | Refused:
    """Find ID and type in a QStash delivery. The ID is in a header that is not signed."""
    message_id = _message_id_header(headers)
    return message_id if isinstance(message_id, Refused) else Identity(message_id, _type_in(body))


def identify_callback(headers: MultiMapping[str], body: bytes) -> Identity | Refused:
    """Find ID and type in a callback of QStash.

    A callback is a message with an ID of its own. Its type follows from what its body says about
    the published message.
    """
    message_id = _message_id_header(headers)
    return message_id if isinstance(message_id, Refused) else Identity(message_id, type_of(body))


def _with_type_of_callback(identify: Identify) -> Identify:
    """Change a function so that the type is always the one of QStash's callbacks."""

    def identify_typed(headers: MultiMapping[str], body: bytes) -> Identity | Refused:
        found = identify(headers, body)
        if isinstance(found, Refused):
            return found
        return Identity(found.id, type_of(body), found.id_is_signed)

    return identify_typed


def identify_marble(headers: MultiMapping[str], body: bytes) -> Identity | Refused:
    """Find ID and type in a Marble delivery.

    Marble's current generation has a signed ID in the body. The older generation came through
    QStash, so the ID is in QStash's header.
    """
    names = _raw_names_in(body)
    event_type = _text(names.type) or _text(names.event) or ""
    signed_id = _text(names.id)
    if signed_id and _text(names.type):
        return Identity(signed_id, event_type, id_is_signed=True)
    message_id = _message_id_header(headers)
    return message_id if isinstance(message_id, Refused) else Identity(message_id, event_type)


def _identify_sns(_headers: MultiMapping[str], body: bytes) -> Identity | Refused:
    """Find the signed ID in an SNS message; the type is the name of its topic."""
    from hookmill.signatures.sns import names_in  # noqa: PLC0415 - it needs the extra `asymmetric`

    names = names_in(body)
    if names is None:
        return Refused("body_malformed", "the body is no message of SNS")
    return Identity(names.id, names.type, id_is_signed=True)


_identify_paypal = identify_by(
    SignatureSpec(
        signature="header:PAYPAL-TRANSMISSION-SIG",
        content="{header:PAYPAL-TRANSMISSION-ID}|{body}",
        # Not the ID in the body: only a CRC32 of the body is signed, which anybody can reproduce.
        id=("header:PAYPAL-TRANSMISSION-ID",),
        type=("json:event_type",),
    )
)

_OF_PRESET: dict[str, Identify] = {
    "qstash": identify_qstash,
    "qstash-callbacks": identify_callback,
    "marble": identify_marble,
    "sns": _identify_sns,
    "paypal": _identify_paypal,
}


# --- the ordering key ---


def ordered_by(path: str) -> KeyOf:
    """Return a function that finds the ordering key at a dotted path in a JSON body.

    A text or an integer there is the key; any other value is no key. If it has more than `MAX_NAME`
    characters, its digest is the key. (A key that is cut off would make messages wait for others
    whose keys only begin alike.)
    """
    find = value_at(path)

    def key_at_path(body: bytes) -> str:
        key = find(body) or ""
        return key if len(key) <= MAX_NAME else _digest(key.encode())

    return key_at_path


def no_key(_body: bytes) -> str:
    """Return "": the messages of this source wait for no other."""
    return ""


# --- reading bodies and headers ---


class _PlainNames(msgspec.Struct):
    """The fields that most bodies name their event with. Others are skipped, which saves time."""

    event: str = ""
    type: str = ""


class _RawNames(msgspec.Struct):
    """The same fields and the ID, for a body in which they may be of any type."""

    id: Raw | UnsetType = UNSET
    event: Raw | UnsetType = UNSET
    type: Raw | UnsetType = UNSET


_plain_names = msgspec.json.Decoder(_PlainNames)
_raw_names = msgspec.json.Decoder(_RawNames)
_json_text = msgspec.json.Decoder(str)
_MESSAGE_ID = istr("Upstash-Message-Id")  # an istr computes its lower case only once


def _type_in(body: bytes) -> str:
    """Return the event type that a body has as `event` or as `type`."""
    try:
        names = _plain_names.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raw_names = _raw_names_in(body)  # one of the two may still be a text
        return _text(raw_names.event) or _text(raw_names.type) or ""
    event_type = names.event or names.type
    if len(event_type) > MAX_NAME:
        event_type = names.type
    return event_type if len(event_type) <= MAX_NAME else ""


def _raw_names_in(body: bytes) -> _RawNames:
    try:
        return _raw_names.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _RawNames()  # any body is accepted: the worker says what is wrong with it


def _text(value: Raw | UnsetType) -> str | None:
    if value is UNSET:
        return None
    try:
        text = _json_text.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return text if 0 < len(text) <= MAX_NAME else None


def _message_id_header(headers: MultiMapping[str]) -> str | Refused | None:
    values = headers.getall(_MESSAGE_ID, ())
    if not values:
        return None
    if len(values) > 1:
        return header_repeated(_MESSAGE_ID, len(values))
    message_id = values[0]
    if message_id.isascii() and message_id.isprintable() and 0 < len(message_id) <= MAX_NAME:
        return message_id
    return Refused(
        "message_id_malformed", f"{_MESSAGE_ID} is not 1 to {MAX_NAME} printable characters"
    )


def _digest(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=16).hexdigest()
