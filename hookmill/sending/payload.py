"""What the subscriber gets: an event as bytes, encoded once, and what proves who sent it. No I/O.

Two forms of body. The scheme `marble` has `{"event", "data"}`; every other, and what is not signed,
has `{"type", "timestamp", "data"}`, as Standard Webhooks recommends. `timestamp` is when it was
sent, in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from multidict import CIMultiDict

from hookmill.events import Event, check_tag
from hookmill.sending.outgoing import Body
from hookmill.signatures import Secret, Signed
from hookmill.signatures.presets import ALIASES, PRESETS
from hookmill.signatures.signing import put
from hookmill.signatures.spec import SignatureSpec, as_template, parts
from hookmill.signatures.spec_verifier import SpecVerifier

_MARBLE = PRESETS["marble"].spec.signature
_ASYMMETRIC = {"ed25519", "ecdsa-p256"}
_PLACED = ("{url}", "{twilio}", "{hubspot}", "{contentful}")


class Payload(NamedTuple):
    """A body and what it is. `is_timed`: it says when it was sent, so that no two are the same."""

    body: bytes
    content_type: str
    is_timed: bool = False


class Letter(NamedTuple):
    """A payload as it is to reach the subscriber: the request that is made there in the end.

    `url` is as it was written. `headers` has the content type.
    """

    url: str
    method: str
    headers: CIMultiDict[str]
    body: bytes

    def __repr__(self) -> str:
        return f"Letter({self.method})"  # its headers and its URL may hold secrets


# --- the body ---


def encode(event: Body, spec: SignatureSpec | None, now: float, *, timed: bool = True) -> Payload:
    """Write an event in the form that its scheme's subscribers expect; `now` is in Unix seconds.

    Raises `ValueError` for what JSON cannot say, `EncodeError` for an event whose fields hold what
    its class does not say, `HandlersError` for one without a name.
    """
    if isinstance(event, bytes | bytearray | memoryview):
        return Payload(bytes(event), "application/octet-stream")
    if isinstance(event, Mapping):
        return Payload(_json(event), "application/json")
    if not isinstance(event, Event):
        raise ValueError(f"{type(event).__name__} cannot be sent: give an Event, bytes, or a dict")
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
    """Return a way to sign by its name. Raises `ValueError` where there is none to sign with."""
    if isinstance(scheme, SignatureSpec):
        name, spec = "this Shape", scheme
    elif not isinstance(scheme, str):
        raise ValueError("scheme: give a name or a Shape")
    else:
        name = ALIASES.get(scheme, scheme)
        if name not in PRESETS:
            usable = (one for one in PRESETS if PRESETS[one].spec.algorithm not in _ASYMMETRIC)
            raise ValueError(f"scheme: there is no {scheme!r}; there are {', '.join(usable)}")
        spec = PRESETS[name].spec
    if spec.algorithm in _ASYMMETRIC:
        raise ValueError(f"scheme: {name} signs with a private key, which only its sender has")
    return spec


def signer_of(
    scheme: str | SignatureSpec | None, secret: str | Secret | None
) -> SpecVerifier | None:
    """Return what signs; None where nothing is said of it.

    Raises `ValueError`, or `SettingsError` where the secret is not usable.
    """
    if scheme is None and secret is None:
        return None
    if scheme is None:
        raise ValueError('scheme: say how the secret signs: scheme="marble", for instance')
    spec = spec_of(scheme)
    if secret is None:
        raise ValueError("secret: give the subscriber's signing secret, or no scheme")
    if not isinstance(secret, str | Secret):
        raise ValueError("secret: give it as text")
    return SpecVerifier(spec, [secret])


def signs_time(spec: SignatureSpec) -> bool:
    """Whether a signature is good for a while only."""
    return bool(spec.timestamp)


def signs_id(spec: SignatureSpec) -> bool:
    """Whether the message's ID is under the signature."""
    return "{id}" in spec.content


def signs_place(spec: SignatureSpec) -> bool:
    """Whether the signature holds where the message goes."""
    return any(field in spec.content for field in _PLACED)


def writes_body(spec: SignatureSpec) -> bool:
    """Whether the signature, or what it is made with, stands in the body."""
    places = [spec.signature, spec.timestamp, spec.single_use]
    return any(place.startswith(("json:", "form:")) for place in places)


def seal(letter: Letter, signer: SpecVerifier | None, message_id: str, now: float) -> Letter:
    """Sign a letter as of the Unix time `now`: the bytes that were signed are those it holds.

    The ID ("": none) stands where the scheme's subscribers look for it. Raises `ValueError` where
    the letter's headers say what the signature has to, `SettingsError` where it cannot be signed.
    """
    if signer is None:
        return letter
    target = target_of(letter.url)
    url = letter.url.partition("#")[0]
    plain = Signed(letter.headers, letter.body, target, letter.method, url)
    signed = signer.sign(_with_id(plain, signer.spec, message_id), now)
    for name, value in letter.headers.items():
        if signed.headers.getall(name) != [value]:
            raise ValueError(f"headers: {name} is made by the signature")
    # Twilio's way puts something behind the URL's query.
    path, hash_, fragment = letter.url.partition("#")
    url = path + signed.target[len(target) :] + hash_ + fragment
    return Letter(url, letter.method, CIMultiDict(signed.headers), signed.body)


def _with_id(letter: Signed, spec: SignatureSpec, message_id: str) -> Signed:
    """Put the ID where subscribers look for it, so that a second copy is known for one."""
    if not message_id:
        return letter
    for template in spec.id:
        place = list(parts(as_template(template)))
        is_signed = signs_id(spec) and template == spec.id[0]
        is_header = len(place) == 1 and place[0][1].startswith("header:")
        if is_signed or is_header:
            place_of_id = place[0][1]
            name = place_of_id.partition(":")[2]
            if is_header and name in letter.headers:
                raise ValueError(f"headers: {name} is the message's ID: give deduplication_id")
            return put(letter, place_of_id, message_id)
    return letter


def target_of(url: str) -> str:
    """Return path and query of a URL, exactly as they stand there."""
    rest = url.partition("#")[0].partition("://")[2]
    start = min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest))
    target = rest[start:]
    return target if target.startswith("/") else f"/{target}"
