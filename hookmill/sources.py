"""A source: a sender as configured. Its path, its scheme, and where its ID, event type and
ordering key are.

No I/O but the reading of secrets. What is found in a delivery is read only after its signature has
been verified.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType
from multidict import CIMultiDict, MultiMapping, istr

from hookmill.catalog.qstash import type_of
from hookmill.errors import SettingsError
from hookmill.options import QSTASH, SourceOptions, preset_of, shape_of
from hookmill.roots import system_roots
from hookmill.secrets import default_refs, read
from hookmill.settings import Settings
from hookmill.signatures import Refused, Scheme, Secret, Signed
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from hookmill.signatures.places import finder, value_at
from hookmill.signatures.qstash import DEVELOPMENT_KEYS, QStash
from hookmill.signatures.scheme import NetworkScheme, only_header
from hookmill.signatures.shape import Shape, as_template, parts
from hookmill.signatures.shaped import Shaped

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


class Source(NamedTuple):
    """A sender whose deliveries are accepted at `path`.

    `url` is the one the sender was given ("": not known), `handshake` what it asks beside its
    deliveries, `verify_token` what it then repeats, `status` the one it wants to see,
    `secret_header` (in lower case) the header that holds the secret itself.
    """

    name: str
    path: str
    scheme: Scheme | NetworkScheme
    identify: Identify
    key_of: KeyOf = no_key
    url: str = ""
    handshake: str = ""
    verify_token: str = ""
    status: int = 200
    secret_header: bytes = b""


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
_REGION_KEY = re.compile("[A-Z0-9]+(?:_[A-Z0-9]+)*_QSTASH_(CURRENT|NEXT)_SIGNING_KEY")
_PUBLIC = frozenset({*DEVELOPMENT_KEYS, DEVELOPMENT_SECRET})
_MESSAGE_ID = istr("Upstash-Message-Id")  # its lower case is found once
_NO_HEADERS = CIMultiDict[str]()


def sources_of(settings: Settings) -> list[Source]:
    """Return the sources that the settings switch on, their secrets read anew.

    Raises `SettingsError` with every fault: a source without a usable secret does not start.
    """
    sources: list[Source] = []
    faults: list[str] = []
    for name in names_of(settings):
        try:
            sources.append(_source(name, settings.options_of(name), settings))
        except SettingsError as error:
            faults += [_concerning(name, fault) for fault in error.faults]
    if faults:
        raise SettingsError(faults)
    return sources


def names_of(settings: Settings) -> list[str]:
    """Name the sources that are switched on: QStash and Marble by their keys, others by their
    tables.
    """
    by_keys = {"qstash": settings.qstash_keys, "marble": settings.marble_secrets}
    tables = [
        name for name, options in settings.sources.items() if name not in by_keys or options.secrets
    ]
    return [*(name for name, keys in by_keys.items() if keys and name not in tables), *tables]


def secrets_of(name: str, settings: Settings) -> list[Secret]:
    """Read a source's secrets, or what it has in their place. Raises `SettingsError`."""
    options = settings.options_of(name)
    if preset_of(name, options) == "sns":
        if not options.topics:
            raise SettingsError(["topics: name the topics (their ARNs) that may send"])
        return [Secret(topic, topic) for topic in options.topics]
    if preset_of(name, options) == "paypal":
        if not options.webhook_ids:
            raise SettingsError(["webhook_ids: give the IDs of the webhooks, as PayPal shows them"])
        return [Secret(one, f"webhook {one}") for one in options.webhook_ids]
    if refs := options.secrets:
        return read(name, refs)
    if name == "qstash":
        return _keys_of_qstash(settings)
    if preset_of(name, options) == "qstash-callbacks":
        return _keys_of_callbacks(settings)
    if name == "marble":
        return _named(settings.marble_secrets, "MARBLE_WEBHOOK_SECRET")
    return read(name, default_refs(name))


def _source(name: str, options: SourceOptions, settings: Settings) -> Source:
    path = settings.path_of(name)
    url = options.url or (f"{settings.public_url}{path}" if settings.public_url else "")
    shape = shape_of(name, options)
    scheme: Scheme | NetworkScheme
    if shape is None:
        scheme = _coded_scheme(name, options, settings)
    else:
        if shape.needs_url and not url:
            raise SettingsError(["it signs its URL: set HOOKMILL_PUBLIC_URL, or url in its table"])
        if faults := _handshake_faults(shape, options):
            raise SettingsError(faults)
        scheme = Shaped(shape, _private(name, settings))
    token = read(name, [options.verify_token])[0].text if options.verify_token else ""
    return Source(
        name,
        path,
        scheme,
        _identify(preset_of(name, options), shape, options),
        ordered_by(options.ordered_by) if options.ordered_by else no_key,
        url,
        shape.handshake if shape else "sns" if preset_of(name, options) == "sns" else "",
        token,
        shape.acknowledge if shape else 200,
        _secret_header(shape) if shape else b"",
    )


def _private(name: str, settings: Settings) -> list[Secret]:
    """Return a source's secrets; refuse those that anyone knows, wherever they came from."""
    found = secrets_of(name, settings)
    if not settings.development and any(one.text in _PUBLIC for one in found):
        fault = "a secret is a public development key: anyone can sign with it. Set the real one, "
        raise SettingsError([f"{fault}or HOOKMILL_DEVELOPMENT=1 where nobody else can deliver"])
    return found


def _secret_header(shape: Shape) -> bytes:
    kind, _, name = shape.signature.partition(":")
    return name.lower().encode() if shape.algorithm == "token" and kind == "header" else b""


def _coded_scheme(name: str, options: SourceOptions, settings: Settings) -> Scheme | NetworkScheme:
    """Make the scheme of a sender whose scheme is code."""
    preset = preset_of(name, options)
    if preset in QSTASH:
        return QStash(
            _private(name, settings),
            public_url=settings.public_url,
            tolerance=settings.clock_tolerance,
        )
    # They need an extra, and import it.
    if preset == "sns":
        from hookmill.signatures.sns import SNS  # noqa: PLC0415

        return SNS(_private(name, settings))
    from hookmill.signatures.paypal import PayPal  # noqa: PLC0415

    return PayPal(_private(name, settings), system_roots())


def _handshake_faults(shape: Shape, options: SourceOptions) -> list[str]:
    """Return what keeps us from answering what the sender asks."""
    if shape.handshake == "meta" and options.verify_token is None:
        fault = (
            "handshake: Meta asks with a token of your choice: set verify_token to where it "
            'stands (env:NAME or file:PATH), or handshake = "" if Meta is not to ask'
        )
        return [fault]
    if shape.handshake == "zoom" and not shape.algorithm.startswith("hmac-"):
        return [f"handshake: Zoom is answered with an HMAC, and the algorithm is {shape.algorithm}"]
    return []


def _concerning(name: str, fault: str) -> str:
    return fault if fault.startswith("sources.") else f"sources.{name}: {fault}"


def _named(keys: list[str], label: str) -> list[Secret]:
    return [
        Secret(key, f"env:{label}{f' ({number})' if number > 1 else ''}")
        for number, key in enumerate(keys, 1)
    ]


def _keys_of_qstash(settings: Settings) -> list[Secret]:
    return [*_named(settings.qstash_keys, "QSTASH_CURRENT_SIGNING_KEY"), *_region_keys()]


def _keys_of_callbacks(settings: Settings) -> list[Secret]:
    """Return the keys of QStash's messages, wherever those stand: it signs callbacks with them."""
    messages = settings.options_of("qstash")
    if messages.secrets and preset_of("qstash", messages) in QSTASH:
        return read("qstash", messages.secrets)
    if keys := _keys_of_qstash(settings):
        return keys
    raise SettingsError(["QSTASH_CURRENT_SIGNING_KEY is not set: it signs callbacks too"])


def _region_keys() -> list[Secret]:
    """Return QStash's keys of regions: each region has its own."""
    names = sorted(name for name in os.environ if _REGION_KEY.fullmatch(name))
    return [Secret(os.environ[name], f"env:{name}") for name in names if os.environ[name]]


# --- where ID and type are ---


def _identify(preset: str, shape: Shape | None, options: SourceOptions) -> Identify:
    own = {
        "qstash": identify_qstash,
        "qstash-callbacks": identify_callback,
        "marble": identify_marble,
        "sns": identify_sns,
        "paypal": identify_paypal,
    }.get(preset)
    if own is None:
        assert shape is not None  # noqa: S101 - only those above may be without
        return identify_by(shape)
    if options.id == ("body",):
        return by_body(own)
    if (options.id is None and options.type is None) or preset in {"sns", "paypal"}:
        return own
    words = shape or Shape(signature="header:Upstash-Signature", type=("json:event", "json:type"))
    ids = ("header:Upstash-Message-Id",) if options.id is None else options.id
    types = words.type if options.type is None else options.type
    found = identify_by(msgspec.structs.replace(words, id=ids, type=types))
    return typed_by(type_of, found) if preset == "qstash-callbacks" else found


def identify_by(shape: Shape) -> Identify:
    """Find names where a shape says they are: the first template whose fields are all there."""
    ids = [(_filled(one), shape.is_signed(one)) for one in shape.id]
    types = [_filled(one) for one in shape.type]

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
    Shape(
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
