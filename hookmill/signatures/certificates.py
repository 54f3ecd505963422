"""Parses, judges and remembers the certificates that senders sign with. No I/O.

Needs the extra `asymmetric`; importing it without raises `NotInstalledError`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from hookmill.errors import NotInstalledError, SettingsError
from hookmill.signatures import times
from hookmill.signatures.scheme import OnStep, Refused, Secret, secret_bytes

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
    from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
except ImportError:
    raise NotInstalledError(
        "this sender signs with a certificate: install hookmill[asymmetric]"
    ) from None

Certificate = x509.Certificate

MAX_AGE = 86_400.0
"""Seconds that a certificate is remembered at most, so that a revoked one is not used forever."""

MAX_AHEAD = 300.0
"""Seconds that a signed time may be ahead of our clock."""

MAX_CERTIFICATES = 32
"""How many certificates of one source are remembered."""

_DIGESTS: dict[str, HashAlgorithm] = {
    "sha1": SHA1(),  # noqa: S303 - the default of SNS
    "sha256": SHA256(),
}
_MIN_KEY_BITS = 2048
_END = b"-----END CERTIFICATE-----"


class _KnownKey(NamedTuple):
    key: RSAPublicKey
    until: float


class KnownKeys:
    """The keys of good certificates, by the URL they came from. Bounded in number and in age."""

    def __init__(self) -> None:
        self._known: dict[str, _KnownKey] = {}
        self.proven: dict[str, None] = {}
        """The URLs whose keys have verified a delivery, the one that did so last at the end."""

    def prove(self, url: str) -> None:
        """Note that the key from a URL has verified a delivery."""
        self.proven.pop(url, None)
        if len(self.proven) >= MAX_CERTIFICATES:
            del self.proven[next(iter(self.proven))]
        self.proven[url] = None

    def __len__(self) -> int:
        return len(self._known)

    def find(self, url: str, now: float) -> RSAPublicKey | None:
        """Return the key that came from a URL; None if it is not known or too old."""
        known = self._known.get(url)
        return known.key if known is not None and now < known.until else None

    def remember(self, url: str, key: RSAPublicKey, ends: float, now: float) -> None:
        """Remember a key until its certificate ends, at most for a day. May replace the oldest."""
        self._known.pop(url, None)
        if len(self._known) >= MAX_CERTIFICATES:
            del self._known[next(iter(self._known))]
        self._known[url] = _KnownKey(key, min(ends, now + MAX_AGE))


class TrustedAuthorities:
    """The certificate authorities that are trusted, given as PEM. Raises `SettingsError` if there
    is none.
    """

    def __init__(self, pem: bytes) -> None:
        trusted = certificates_in(pem)
        if not trusted:
            raise SettingsError(
                ["no certificate of a trusted authority was found: install ca-certificates"]
            )
        self._policy = PolicyBuilder().store(Store(trusted))

    def have_issued(
        self, leaf: Certificate, name: str, intermediates: Sequence[Certificate], now: float
    ) -> bool:
        """Return whether a chain leads from one of them to a leaf with this name."""
        policy = self._policy.time(datetime.fromtimestamp(now, UTC).replace(tzinfo=None))
        try:
            policy.build_server_verifier(x509.DNSName(name)).verify(leaf, list(intermediates))
        except (VerificationError, ValueError):
            return False
        return True


class AllowedSenders:
    """What the operator allows to send, in place of secrets: topic ARNs, or IDs of webhooks."""

    def __init__(self, secrets: Sequence[str | Secret]) -> None:
        self.secrets = [Secret(one) if isinstance(one, str) else one for one in secrets]
        self._texts = [secret_bytes(one.text) for one in self.secrets]
        if not self.secrets:
            raise SettingsError(["nothing is allowed to send: name at least one topic or webhook"])

    @property
    def labels(self) -> list[str]:
        """Their labels, by position."""
        return [one.label_at(position) for position, one in enumerate(self.secrets)]

    def valid_at(self, now: float) -> list[tuple[int, bytes]]:
        """Return those that are valid at a Unix time, with their positions."""
        return [(n, self._texts[n]) for n, one in enumerate(self.secrets) if one.counts_at(now)]


def signed_time(
    text: bytes, name: str, now: float, tolerance: float, on_step: OnStep | None
) -> float | Refused:
    """Return the Unix time (seconds) that a sender signed. Refuses one that is too far from `now`.

    These senders retry for a long time with the time of the first attempt, so it may be
    `tolerance` seconds old, but only a little ahead.
    """
    moment = times.read(text, "rfc3339")
    if moment is None:
        return Refused("timestamp_malformed", f"{name} is not {times.NAMES['rfc3339']}")
    age = now - moment
    side = "old" if age > 0 else "ahead"
    if on_step:
        on_step(
            f"signed time: {text.decode('ascii')}, {abs(age):.0f} s {side}; "
            f"{tolerance:g} s old and {MAX_AHEAD:g} s ahead are tolerated"
        )
    if not -MAX_AHEAD <= age <= tolerance:
        return Refused("timestamp_too_far", f"the signed time is {abs(age):.0f} s {side}")
    return moment


def certificates_in(pem: bytes) -> list[Certificate]:
    """Return the certificates in a PEM text that can be read, in their order.

    Each field that is used later is read here once, because the parser reads a field only when it
    is asked for, and may fail only then.
    """
    found = []
    for piece in pem.split(_END)[:-1]:
        # Exception: for broken bytes the parser raises undocumented errors too, such as TypeError.
        with warnings.catch_warnings(), suppress(Exception):
            # Old authorities have serial numbers that are forbidden today.
            warnings.simplefilter("ignore")
            one = x509.load_pem_x509_certificate(piece + _END)
            _ = one.issuer, one.subject, one.extensions
            _ = one.not_valid_before_utc, one.not_valid_after_utc
            found.append(one)
    return found


def names_of(certificate: Certificate) -> set[str]:
    """Return the DNS names in a certificate."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    return set(extension.value.get_values_for_type(x509.DNSName))


def judge_dates(certificate: Certificate, now: float) -> Refused | None:
    """Refuse a certificate that is not valid yet, or has expired."""
    if now < certificate.not_valid_before_utc.timestamp():
        return Refused("certificate_not_yet_valid", "the sender's certificate is not valid yet")
    if now >= certificate.not_valid_after_utc.timestamp():
        return Refused("certificate_expired", "the sender's certificate has expired")
    return None


def rsa_key_of(certificate: Certificate) -> RSAPublicKey | Refused:
    """Return the certificate's key. Refuses one that is no RSA key, or is too short."""
    with suppress(ValueError, UnsupportedAlgorithm):
        key = certificate.public_key()
        if isinstance(key, RSAPublicKey) and key.key_size >= _MIN_KEY_BITS:
            return key
    return Refused(
        "certificate_weak", f"the certificate has no RSA key of {_MIN_KEY_BITS} bits or more"
    )


def ends_of(certificate: Certificate) -> float:
    """Return the Unix time (seconds) when a certificate ends."""
    return math.floor(certificate.not_valid_after_utc.timestamp())


def has_signed(key: RSAPublicKey, content: bytes, signature: bytes, digest: str) -> bool:
    """Return whether a signature (PKCS #1 v1.5 over sha1 or sha256) is that of a content."""
    try:
        key.verify(signature, content, PKCS1v15(), _DIGESTS[digest])
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
