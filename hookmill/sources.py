"""A source: a sender as configured. Its path, its scheme, and where its ID and event type are.

No I/O. Everything found here is read only after the signature has been verified.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType
from multidict import MultiMapping

from hookmill.settings import Settings
from hookmill.signatures import Refused, Scheme
from hookmill.signatures.marble import Marble
from hookmill.signatures.qstash import QStash
from hookmill.signatures.scheme import only_header

MAX_NAME = 255
"""Characters of a message ID or an event type; what is longer counts as not given."""


class Identity(NamedTuple):
    """A message's ID (None: the sender gave none) and its event type ("" for none)."""

    id: str | None
    type: str


Identify = Callable[[MultiMapping[str], bytes], Identity | Refused]


class Source(NamedTuple):
    """A sender whose deliveries are accepted at `path`."""

    name: str
    path: str
    scheme: Scheme
    identify: Identify


class _Envelope(msgspec.Struct):
    """What a body of any shape may say of itself; other fields are skipped, not built."""

    id: Raw | UnsetType = UNSET
    event: Raw | UnsetType = UNSET
    type: Raw | UnsetType = UNSET


_envelope = msgspec.json.Decoder(_Envelope)
_name = msgspec.json.Decoder(str)


def sources_of(settings: Settings) -> list[Source]:
    """Return the sources that the settings switch on."""
    sources = []
    if keys := settings.qstash_keys:
        scheme = QStash(keys, public_url=settings.public_url, tolerance=settings.clock_tolerance)
        sources.append(Source("qstash", settings.path_of("qstash"), scheme, identify_qstash))
    if secrets := settings.marble_secrets:
        marble = Marble(secrets, timestamped=settings.options_of("marble").timestamped)
        sources.append(Source("marble", settings.path_of("marble"), marble, identify_marble))
    return sources


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
        return Identity(signed_id, event_type)
    message_id = _message_id_header(headers)
    return message_id if isinstance(message_id, Refused) else Identity(message_id, event_type)


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
