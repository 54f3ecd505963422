"""Turns the text of a secret into a key, and a key into a function that compares signatures."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable

from hookmill.errors import NotInstalledError, SettingsError
from hookmill.signatures.keyed_hash import keyed_hash
from hookmill.signatures.scheme import secret_bytes
from hookmill.signatures.spec import SignatureSpec

ASYMMETRIC = {"ed25519", "ecdsa-p256"}
"""The algorithms whose key is public: it has the length that the algorithm asks for."""

Matches = Callable[[bytes, list[bytes]], bool]
"""Returns whether one of the given signatures (as they are written) is that of a content."""


def key_of(spec: SignatureSpec, text: str) -> bytes:
    """Return the key that a secret's text stands for. Raises `SettingsError` if it is no key."""
    raw = secret_bytes(text)
    rest = text.removeprefix(spec.key_prefix)
    form = spec.key
    if form == "base64-if-prefixed":
        form = "base64" if rest != text else "text"
    if form == "text":
        return raw
    try:
        # Some senders show base64 without its padding.
        padded = rest + "=" * (-len(rest) % 4)
        key = bytes.fromhex(rest) if form == "hex" else base64.b64decode(padded, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not key:
        raise SettingsError([f"a signing secret is not {form}: give it as the sender shows it"])
    return key


def matcher(spec: SignatureSpec, key: bytes) -> Matches:
    """Return a function that compares signatures with those of this key, in constant time."""
    if spec.algorithm == "token":
        return lambda _, given: _is_among(key, given)
    if spec.algorithm in ASYMMETRIC:
        return _asymmetric_matcher(spec, key)
    return _hmac_matcher(spec, key)


def _hmac_matcher(spec: SignatureSpec, key: bytes) -> Matches:
    digest = keyed_hash(key, spec.algorithm.removeprefix("hmac-"))
    written = _WRITTEN[spec.encoding]

    def matches(content: bytes, given: list[bytes]) -> bool:
        return _is_among(written(digest(content)), given)

    return matches


def _is_among(expected: bytes, given: list[bytes]) -> bool:
    for one in given:  # noqa: SIM110 - a generator would add 20 % to the time of the HMAC
        if hmac.compare_digest(expected, one):
            return True
    return False


def _asymmetric_matcher(spec: SignatureSpec, key: bytes) -> Matches:
    try:
        from hookmill.signatures import asymmetric  # noqa: PLC0415 - it needs an extra
    except ImportError:
        raise NotInstalledError(
            "this sender signs with a public key: install hookmill[asymmetric]"
        ) from None
    make = asymmetric.ed25519 if spec.algorithm == "ed25519" else asymmetric.ecdsa_p256
    check = make(key)

    def matches(content: bytes, given: list[bytes]) -> bool:
        signatures = [decode(one, spec.encoding) for one in given]
        return check(content, [one for one in signatures if one is not None])

    return matches


def encode(raw: bytes, encoding: str) -> bytes:
    """Write bytes as hex, base64 or base64url."""
    return _WRITTEN[encoding](raw)


_WRITTEN: dict[str, Callable[[bytes], bytes]] = {
    "hex": binascii.hexlify,
    "base64": base64.b64encode,
    "base64url": lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"="),
}


def decode(text: bytes, encoding: str) -> bytes | None:
    """Return the bytes that a text stands for; None unless it is their one canonical spelling."""
    try:
        if encoding == "hex":
            raw = bytes.fromhex(text.decode("ascii"))
        else:
            altchars = b"-_" if encoding == "base64url" else None
            raw = base64.b64decode(text + b"=" * (-len(text) % 4), altchars, validate=True)
    except (ValueError, binascii.Error):
        return None
    return raw if encode(raw, encoding) == text else None
