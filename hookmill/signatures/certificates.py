"""The certificates that senders sign with: parsed, judged and remembered. No I/O.

Needs the extra `asymmetric`; importing it without raises `NotInstalledError`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from hookmill.errors import NotInstalledError, SettingsError
from hookmill.signatures import times
from hookmill.signatures.scheme import Refused, Secret, secret_bytes

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

LONGEST = 86_400.0
"""Seconds a certificate is remembered, so that one that was withdrawn does not count for ever."""

AHEAD = 300.0
"""Seconds a signed time may be ahead of our clock."""

MOST = 32
"""Certificates remembered of one source."""

Tell = Callable[[str], None]
"""Takes a line that explains a step."""

_DIGESTS: dict[str, HashAlgorithm] = {
    "sha1": SHA1(),  # noqa: S303 - SNS' default
    "sha256": SHA256(),
}
_SHORTEST_KEY = 2048
_END = b"-----END CERTIFICATE-----"


class _Known(NamedTuple):
    key: RSAPublicKey
    until: float


class Keyring:
    """The keys of certificates that were found good, by URL; few, and each for a while."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, url: str, now: float) -> RSAPublicKey | None:
        """Return the key from there, unless it is forgotten."""
        known = self._known.get(url)
        return known.key if known is not None and now < known.until else None

    def remember(self, url: str, key: RSAPublicKey, ends: float, now: float) -> None:
        """Remember a key until its certificate ends, or a day; the oldest makes room for it."""
        self._known.pop(url, None)
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[url] = _Known(key, min(ends, now + LONGEST))


class Authorities:
    """Those that are trusted, as PEM. Raises `SettingsError` where there is none."""

    def __init__(self, pem: bytes) -> None:
        trusted = certificates_in(pem)
        if not trusted:
            raise SettingsError(["there is no certificate of an authority to trust"])
        self._policy = PolicyBuilder().store(Store(trusted))

    def vouch_for(
        self, leaf: Certificate, name: str, between: Sequence[Certificate], now: float
    ) -> bool:
        """Say whether one of them made a leaf with this name, itself or through others."""
        policy = self._policy.time(datetime.fromtimestamp(now, UTC).replace(tzinfo=None))
        try:
            policy.build_server_verifier(x509.DNSName(name)).verify(leaf, list(between))
        except (VerificationError, ValueError):
            return False
        return True


class Allowed:
    """What an operator gives such a source as its secrets: names to be found, not keys."""

    def __init__(self, secrets: Sequence[str | Secret]) -> None:
        self.secrets = [Secret(one) if isinstance(one, str) else one for one in secrets]
        self._texts = [secret_bytes(one.text) for one in self.secrets]
        if not self.secrets:
            raise SettingsError(["nothing is allowed: give at least one"])

    @property
    def labels(self) -> list[str]:
        """What they are called, by position."""
        return [one.called(position) for position, one in enumerate(self.secrets)]

    def that_count(self, now: float) -> list[tuple[int, bytes]]:
        """Return those that count at a time, with their positions."""
        return [(n, self._texts[n]) for n, one in enumerate(self.secrets) if one.counts_at(now)]


def signed_time(
    text: bytes, name: str, now: float, tolerance: float, tell: Tell | None
) -> float | Refused:
    """Return the Unix time (seconds) that a sender signed, if it is near: these senders try for
    long with the time of the first attempt, so that it may be older than it may be ahead.
    """
    moment = times.read(text, "rfc3339")
    if moment is None:
        return Refused("timestamp_malformed", f"{name} is not {times.NAMES['rfc3339']}")
    age = now - moment
    side = "old" if age > 0 else "ahead"
    if tell:
        tell(
            f"signed time: {text.decode('ascii')}, {abs(age):.0f} s {side}; "
            f"{tolerance:g} s old and {AHEAD:g} s ahead are tolerated"
        )
    if not -AHEAD <= age <= tolerance:
        return Refused("timestamp_too_far", f"the signed time is {abs(age):.0f} s {side}")
    return moment


def certificates_in(pem: bytes) -> list[Certificate]:
    """Return the certificates that can be read there, in their order: all of them that is asked
    for later, for much of one is only read when it is asked for.
    """
    found = []
    for piece in pem.split(_END)[:-1]:
        # Exception: on broken bytes the parser raises more than it names (TypeError, for one).
        with warnings.catch_warnings(), suppress(Exception):
            # Old authorities have serial numbers that a later rule forbids.
            warnings.simplefilter("ignore")
            one = x509.load_pem_x509_certificate(piece + _END)
            _ = one.issuer, one.subject, one.extensions
            _ = one.not_valid_before_utc, one.not_valid_after_utc
            found.append(one)
    return found


def names_of(certificate: Certificate) -> set[str]:
    """Return the DNS names that a certificate is made out to."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    return set(extension.value.get_values_for_type(x509.DNSName))


def judge_dates(certificate: Certificate, now: float) -> Refused | None:
    """Refuse a certificate that does not count yet, or no longer."""
    if now < certificate.not_valid_before_utc.timestamp():
        return Refused("certificate_not_yet_valid", "the sender's certificate is not valid yet")
    if now >= certificate.not_valid_after_utc.timestamp():
        return Refused("certificate_expired", "the sender's certificate has expired")
    return None


def rsa_key_of(certificate: Certificate) -> RSAPublicKey | Refused:
    """Return its key, if it is an RSA key that is long enough."""
    with suppress(ValueError, UnsupportedAlgorithm):
        key = certificate.public_key()
        if isinstance(key, RSAPublicKey) and key.key_size >= _SHORTEST_KEY:
            return key
    return Refused(
        "certificate_weak", f"the certificate has no RSA key of {_SHORTEST_KEY} bits or more"
    )


def ends_of(certificate: Certificate) -> float:
    """Return the Unix time (seconds) when it ends."""
    return math.floor(certificate.not_valid_after_utc.timestamp())


def has_signed(key: RSAPublicKey, content: bytes, signature: bytes, digest: str) -> bool:
    """Say whether a signature (PKCS #1 v1.5 over sha1 or sha256) is that of a content."""
    try:
        key.verify(signature, content, PKCS1v15(), _DIGESTS[digest])
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
