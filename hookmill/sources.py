"""A source: a sender as configured. Its path, its scheme, and where its ID, event type and
ordering key are.

No I/O. Everything found here is read only after the signature has been verified.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType
from multidict import CIMultiDict, MultiMapping

from hookmill.settings import Settings
from hookmill.signatures import Refused, Scheme
from hookmill.signatures.marble import marble_scheme
from hookmill.signatures.qstash import QStash
from hookmill.signatures.scheme import only_header

MAX_NAME = 255
"""Characters of a message ID or an event type; what is longer counts as not given."""


class Identity(NamedTuple):
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


class Source(NamedTuple):
    """A sender whose deliveries are accepted at `path`."""

    name: str
    path: str
    scheme: Scheme
    identify: Identify
    key_of: KeyOf = no_key


class _Envelope(msgspec.Struct):
    """What a body of any shape may say of itself; other fields are skipped, not built."""

    id: Raw | UnsetType = UNSET
    event: Raw | UnsetType = UNSET
    type: Raw | UnsetType = UNSET


_envelope = msgspec.json.Decoder(_Envelope)
_name = msgspec.json.Decoder(str)
_INTEGER = re.compile(rb"-?[0-9]+")
_NO_HEADERS = CIMultiDict[str]()


def sources_of(settings: Settings) -> list[Source]:
    """Return the sources that the settings switch on."""
    sources = []
    if keys := settings.qstash_keys:
        qstash = QStash(keys, public_url=settings.public_url, tolerance=settings.clock_tolerance)
        sources.append(_source("qstash", qstash, identify_qstash, settings))
    if secrets := settings.marble_secrets:
        marble = marble_scheme(secrets, with_time=settings.options_of("marble").timestamped)
        sources.append(_source("marble", marble, identify_marble, settings))
    return sources


def _source(name: str, scheme: Scheme, identify: Identify, settings: Settings) -> Source:
    options = settings.options_of(name)
    return Source(
        name,
        settings.path_of(name),
        scheme,
        by_body(identify) if options.id == "body" else identify,
        ordered_by(options.ordered_by) if options.ordered_by else no_key,
    )


def identify_qstash(headers: MultiMapping[str], body: bytes) -> Identity | Refused:
    """Find a QStash delivery's names: its ID stands in a header that is not signed."""
    envelope = _read(body)
    event_type = _text(envelope.event) or _text(envelope.type) or ""
    message_id = _message_id_header(headers)
    return message_id if isinstance(message_id, Refused) else Identity(message_id, event_type)


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
    steps = [_step(name) for name in path.split(".")]

    def key_at_path(body: bytes) -> str:
        try:
            value: bytes | Raw = body
            for step in steps:
                found: Raw | UnsetType = step.decode(value).found
                if found is UNSET:
                    return ""
                value = found
            key = _key(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ""  # the worker will say what is wrong with the body
        return key if len(key) <= MAX_NAME else _digest(key.encode())

    return key_at_path


def _step(name: str) -> msgspec.json.Decoder[Any]:
    """Return a decoder that takes one field out of an object and skips the others."""
    fields = [("found", Raw | UnsetType, UNSET)]
    return msgspec.json.Decoder(msgspec.defstruct("Step", fields, rename={"found": name}))


def _key(value: bytes | Raw) -> str:
    """Return a text, or an integer as it is written: one that is read has a limit to its size."""
    if not _INTEGER.fullmatch(value):
        return _name.decode(value)
    digits = bytes(value).decode()
    return "0" if digits == "-0" else digits


def _digest(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def _message_id_header(headers: MultiMapping[str]) -> str | Refused | None:
    name = "Upstash-Message-Id"
    if name not in headers:
        return None
    value = only_header(headers, name)
    if isinstance(value, Refused):
        return value
    if not (value.isascii() and value.decode().isprintable() and 0 < len(value) <= MAX_NAME):
        return Refused(
            "message_id_malformed", f"{name} is not 1 to {MAX_NAME} printable characters"
        )
    return value.decode()


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
