"""Public-key signatures: Ed25519 and ECDSA on P-256.

Imported only if a source uses one, because it needs the extra `asymmetric`.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from hookmill.errors import SettingsError

Check = Callable[[bytes, bytes], bool]
"""Returns whether a signature (raw bytes) is that of a content."""


def ed25519(key: bytes) -> Check:
    """Return a function that checks signatures of a key (32 bytes). Raises `SettingsError`."""
    try:
        public = Ed25519PublicKey.from_public_bytes(key)
    except ValueError:
        raise SettingsError([f"an Ed25519 public key has 32 bytes, not {len(key)}"]) from None

    def check(content: bytes, signature: bytes) -> bool:
        try:
            public.verify(signature, content)
        except InvalidSignature:
            return False
        return True

    return check


def ecdsa_p256(key: bytes) -> Check:
    """Return a function that checks DER signatures of a key (DER). Raises `SettingsError`."""
    try:
        public = load_der_public_key(key)
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsError(["the key is not a public key as DER in base64"]) from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise SettingsError(["the key is not one on the curve P-256"])
    algorithm = ec.ECDSA(SHA256())

    def check(content: bytes, signature: bytes) -> bool:
        try:
            public.verify(signature, content, algorithm)
        except InvalidSignature:
            return False
        return True

    return check
