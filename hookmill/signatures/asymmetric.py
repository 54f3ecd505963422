"""Public-key signatures: Ed25519 and ECDSA on P-256.

Imported only if a source uses one, because it needs the extra `asymmetric`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from hookmill.errors import SettingsError

Check = Callable[[bytes, Sequence[bytes]], bool]
"""Returns whether one of the signatures (raw bytes) is that of a content."""

_MOST_HASHED = 16 * 1024 * 1024
"""Bytes that are hashed for the Ed25519 signatures of one content."""


def ed25519(key: bytes) -> Check:
    """Return a function that checks signatures of a key (32 bytes). Raises `SettingsError`."""
    try:
        public = Ed25519PublicKey.from_public_bytes(key)
    except ValueError:
        raise SettingsError([f"an Ed25519 public key has 32 bytes, not {len(key)}"]) from None

    def check(content: bytes, signatures: Sequence[bytes]) -> bool:
        # Each signature is hashed with the whole content. Of a large one, only some are compared.
        most = max(2, _MOST_HASHED // (len(content) or 1))
        return any(_is_right(public, one, content) for one in signatures[:most])

    return check


def ecdsa_p256(key: bytes) -> Check:
    """Return a function that checks DER signatures of a key (DER). Raises `SettingsError`."""
    try:
        public = load_der_public_key(key)
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsError(["the key is not a public key as DER in base64"]) from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise SettingsError(["the key is not one on the curve P-256"])
    algorithm = ec.ECDSA(Prehashed(SHA256()))

    def check(content: bytes, signatures: Sequence[bytes]) -> bool:
        digest = hashlib.sha256(content).digest()  # once for all signatures
        return any(_is_right(public, one, digest, algorithm) for one in signatures)

    return check


def _is_right(public: Any, *signed: Any) -> bool:
    try:
        public.verify(*signed)
    except InvalidSignature:
        return False
    return True
