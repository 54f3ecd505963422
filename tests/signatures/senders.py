"""Every sender of the table with a secret, and a delivery that it made."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from multidict import CIMultiDict, MultiMapping

from hookmill.signatures import Refused, Signed, Verdict
from hookmill.signatures.content import FoundSignatures, SpecReader
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.scheme import Secret
from hookmill.signatures.signing import put
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier

NOW = 1_779_460_951.0
URL = "https://app.example/hook"
TARGET = "/hook"
ALL = sorted(PRESETS)

_RAW = b"a key of twenty-four bytes; and more"
_TEXT = "a_secret_that_is_long_enough_5b1f0c9a"
_WITH_BASE64 = {"standard-webhooks", "svix", "clerk", "resend", "openai", "gitlab"}

SYMMETRIC = {
    name: f"whsec_{base64.b64encode(_RAW).decode()}" if name in _WITH_BASE64 else _TEXT
    for name, preset in PRESETS.items()
    if preset.spec.algorithm not in {"ed25519", "ecdsa-p256"}
}
"""A secret for each sender that shares it with us."""

_ed25519 = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_ecdsa = ec.derive_private_key(0x5B1F0C9A7D3E2468, ec.SECP256R1())
_ed25519_public = _ed25519.public_key().public_bytes_raw()
_ecdsa_public = _ecdsa.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class KeyPair(NamedTuple):
    """A sender's own key: what we are given of it, and what it signs with."""

    public: str
    sign: Callable[[bytes], bytes]


ASYMMETRIC = {
    "standard-webhooks-v1a": KeyPair(
        "whpk_" + base64.b64encode(_ed25519_public).decode(), _ed25519.sign
    ),
    "discord": KeyPair(_ed25519_public.hex(), _ed25519.sign),
    "sendgrid": KeyPair(
        base64.b64encode(_ecdsa_public).decode(),
        lambda content: _ecdsa.sign(content, ec.ECDSA(SHA256())),
    ),
}
"""A key pair for each sender that alone can sign."""

TOKENS = {"gitlab-token", "strapi"}
"""Senders that send their secret itself."""

BODIES = {
    "twilio": b"CallSid=CA1&Digits=1234&From=%2B14158675309",
    "hubspot": b'[{"eventId":1,"subscriptionType":"contact.creation"}]',
    "sendgrid": b'[{"sg_event_id":"e1","event":"dropped"}]\r\n',
}
"""Bodies of senders that do not send a JSON object."""

BODY = b'{"id":"evt_1","type":"order.paid","data":{"id":"7"}}'


def spec_of(name: str) -> SignatureSpec:
    return PRESETS[name].spec


def scheme_of(name: str, *secrets: str | Secret) -> SpecVerifier:
    """The sender's scheme, with a secret of its kind unless the test has its own."""
    given = SYMMETRIC[name] if name in SYMMETRIC else ASYMMETRIC[name].public
    return SpecVerifier(spec_of(name), secrets or [given])


def delivery(
    body: bytes = BODY,
    headers: MultiMapping[str] | dict[str, str] | None = None,
    target: str = TARGET,
    url: str = URL,
) -> Signed:
    """An unsigned delivery."""
    return Signed(CIMultiDict(headers or {}), body, target, "POST", url)


def genuine(name: str, body: bytes | None = None, now: float = NOW) -> Signed:
    """A delivery of the sender's own making."""
    plain = delivery(BODIES.get(name, BODY) if body is None else body)
    if name == "twilio":
        plain.headers["Content-Type"] = "application/x-www-form-urlencoded"  # type: ignore[index] # ours can be written to
    if name in SYMMETRIC:
        return scheme_of(name).sign(plain, now)
    return signed_by(spec_of(name), ASYMMETRIC[name].sign, plain, now)


def signed_by(
    spec: SignatureSpec, sign: Callable[[bytes], bytes], plain: Signed, now: float = NOW
) -> Signed:
    """Sign as a sender with a key pair does."""
    time = str(int(now))
    given = put(plain, spec.timestamp, time)
    if "{id}" in spec.content:
        given = put(given, spec.id[0], "msg_1")
    contents = SpecReader(spec).contents(given, FoundSignatures([], {}), time.encode())
    assert not isinstance(contents, Refused)
    raw = sign(contents[0])
    text = raw.hex() if spec.encoding == "hex" else base64.b64encode(raw).decode()
    prefix = f"{spec.item}{spec.pair}" if spec.pair else spec.prefix
    return put(given, spec.signature, prefix + text)


def with_headers(signed: Signed, **headers: str) -> Signed:
    """The delivery with other values in some headers (`_` for `-`)."""
    changed = CIMultiDict(signed.headers)
    changed.update({name.replace("_", "-"): value for name, value in headers.items()})
    return signed._replace(headers=changed)


def with_header(signed: Signed, name: str, *values: str) -> Signed:
    """The delivery with these values, or none, in a header."""
    changed = CIMultiDict(signed.headers)
    changed.popall(name, None)
    for value in values:
        changed.add(name, value)
    return signed._replace(headers=changed)


def code_of(verdict: Verdict) -> str:
    return verdict.code if isinstance(verdict, Refused) else "verified"
