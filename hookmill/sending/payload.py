"""Encodes an event as the subscriber receives it, and signs it. No I/O.

There are two forms of body. The scheme `marble` has `{"event", "data"}`. Every other scheme, and an
event without a signature, has `{"type", "timestamp", "data"}`, as Standard Webhooks recommends;
`timestamp` is the time of sending, in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from multidict import CIMultiDict

from hookmill.events import Event, check_tag
from hookmill.sending.outgoing import Body
from hookmill.sending.urls import target_of
from hookmill.signatures import Secret, Signed
from hookmill.signatures.presets import ALIASES, PRESETS
from hookmill.signatures.signing import put
from hookmill.signatures.spec import SignatureSpec, as_template, parts
from hookmill.signatures.spec_verifier import SpecVerifier

_MARBLE = PRESETS["marble"].spec.signature
_ASYMMETRIC = {"ed25519", "ecdsa-p256"}
_URL_FIELDS = ("{url}", "{twilio}", "{hubspot}", "{contentful}")


class Payload(NamedTuple):
    """An encoded body. `is_timed`: it contains the time of sending, so no two bodies are equal."""

    body: bytes
    content_type: str
    is_timed: bool = False


class DeliveryRequest(NamedTuple):
    """The request that reaches the subscriber in the end, through QStash or directly.

    `url` is exactly as the user wrote it. `headers` includes the content type.
    """

    url: str
    method: str
    headers: CIMultiDict[str]
    body: bytes

    def __repr__(self) -> str:
        return f"DeliveryRequest({self.method})"  # headers and URL may contain secrets


# --- the body ---


def encode(event: Body, spec: SignatureSpec | None, now: float, *, timed: bool = True) -> Payload:
    """Encode an event in the form that the scheme's subscribers expect; `now` is in Unix seconds.

    With `timed` False the body contains no time. Raises `ValueError` if JSON cannot express a
    value, `EncodeError` where an event's field does not match its class, `HandlersError` where the
    event's class has no tag.
    """
    if isinstance(event, bytes | bytearray | memoryview):
        return Payload(bytes(event), "application/octet-stream")
    if isinstance(event, Mapping):
        return Payload(_json(event), "application/json")
    if not isinstance(event, Event):
        raise ValueError(f"{type(event).__name__} cannot be sent: give an Event, bytes or a dict")
    tag, data = check_tag(type(event)), msgspec.Raw(event.to_data())
    if spec is not None and spec.signature == _MARBLE:
        return Payload(_json({"event": tag, "data": data}), "application/json")
    if not timed:
        return Payload(_json({"type": tag, "data": data}), "application/json")
    envelope = {"type": tag, "timestamp": datetime.fromtimestamp(now, UTC), "data": data}
    return Payload(_json(envelope), "application/json", is_timed=True)


def _json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"the body cannot be written as JSON: {error}") from None


# --- the signature ---


def spec_of(scheme: str | SignatureSpec) -> SignatureSpec:
    """Return a scheme's spec. Raises `ValueError` if it is unknown, or cannot sign here."""
    if isinstance(scheme, SignatureSpec):
        name, spec = "this SignatureSpec", scheme
    elif not isinstance(scheme, str):
        raise ValueError("scheme: give a name or a SignatureSpec")
    else:
        name = ALIASES.get(scheme, scheme)
        if name not in PRESETS:
            usable = (one for one in PRESETS if PRESETS[one].spec.algorithm not in _ASYMMETRIC)
            raise ValueError(f"scheme: {scheme!r} is unknown; use one of {', '.join(usable)}")
        spec = PRESETS[name].spec
    if spec.algorithm in _ASYMMETRIC:
        raise ValueError(f"scheme: {name} signs with a private key that only the real sender has")
    return spec


def signer_of(
    scheme: str | SignatureSpec | None, secret: str | Secret | None
) -> SpecVerifier | None:
    """Return the signer; None if neither scheme nor secret is given.

    Raises `ValueError` if only one is given, `SettingsError` where the secret is not usable.
    """
    if scheme is None and secret is None:
        return None
    if scheme is None:
        raise ValueError('scheme: a secret needs one, for example scheme="marble"')
    spec = spec_of(scheme)
    if secret is None:
        raise ValueError("secret: a scheme needs one: give the subscriber's signing secret")
    if not isinstance(secret, str | Secret):
        raise ValueError("secret: give it as text")
    return SpecVerifier(spec, [secret])


def signs_time(spec: SignatureSpec) -> bool:
    """Return whether the signature covers a time, and so expires."""
    return bool(spec.timestamp)


def signs_id(spec: SignatureSpec) -> bool:
    """Return whether the signature covers the message's ID."""
    return "{id}" in spec.content


def signs_url(spec: SignatureSpec) -> bool:
    """Return whether the signature covers the URL."""
    return any(field in spec.content for field in _URL_FIELDS)


def writes_body(spec: SignatureSpec) -> bool:
    """Return whether the signature, or a value that it covers, is written into the body."""
    places = [spec.signature, spec.timestamp, spec.single_use]
    return any(place.startswith(("json:", "form:")) for place in places)


def sign(
    delivery: DeliveryRequest, signer: SpecVerifier | None, message_id: str, now: float
) -> DeliveryRequest:
    """Return a delivery with its signature as of `now` (Unix seconds).

    The result has exactly the bytes that were signed. `message_id` ("": none) is put where the
    scheme's subscribers look for the ID. Raises `ValueError` if a header of the user is one that
    the signature sets, `SettingsError` where the secret cannot sign.
    """
    if signer is None:
        return delivery
    target = target_of(delivery.url)
    url = delivery.url.partition("#")[0]
    plain = Signed(delivery.headers, delivery.body, target, delivery.method, url)
    signed = signer.sign(_with_id(plain, signer.spec, message_id), now)
    for name, value in delivery.headers.items():
        if signed.headers.getall(name) != [value]:
            raise ValueError(f"headers: the signature sets {name} itself")
    # Twilio's scheme adds a parameter to the URL's query.
    path, hash_, fragment = delivery.url.partition("#")
    url = path + signed.target[len(target) :] + hash_ + fragment
    return DeliveryRequest(url, delivery.method, CIMultiDict(signed.headers), signed.body)


def _with_id(delivery: Signed, spec: SignatureSpec, message_id: str) -> Signed:
    """Add the ID where subscribers look for it, so that they recognise a duplicate."""
    if not message_id:
        return delivery
    for template in spec.id:
        place = list(parts(as_template(template)))
        is_signed = signs_id(spec) and template == spec.id[0]
        is_header = len(place) == 1 and place[0][1].startswith("header:")
        if is_signed or is_header:
            place_of_id = place[0][1]
            name = place_of_id.partition(":")[2]
            if is_header and name in delivery.headers:
                raise ValueError(f"headers: {name} is the message's ID: give deduplication_id")
            return put(delivery, place_of_id, message_id)
    return delivery
