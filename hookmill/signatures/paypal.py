"""PayPal: RSA over the transmission's ID and time, the webhook's ID and the body's CRC32, with a
certificate that a header says where to find.

Beware: a CRC32 is no cryptographic digest. Whoever has one genuine delivery can change its body at
will and mend four bytes, and the signature still fits. So the signed transmission ID is the message
ID and is good for one message; a forged body can only take the place of the genuine one, never come
after it. Where money moves, ask PayPal for the resource before acting on what the body says of it.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence

from hookmill.errors import SettingsError
from hookmill.signatures.certificates import (
    Allowed,
    Authorities,
    Certificate,
    Keyring,
    Tell,
    certificates_in,
    ends_of,
    has_signed,
    judge_dates,
    names_of,
    rsa_key_of,
    signed_time,
)
from hookmill.signatures.keys import decode
from hookmill.signatures.scheme import (
    NeedsCertificate,
    NetworkVerdict,
    Refused,
    Secret,
    Signed,
    Verified,
    only_header,
)

ID = "PAYPAL-TRANSMISSION-ID"
TIME = "PAYPAL-TRANSMISSION-TIME"
SIGNATURE = "PAYPAL-TRANSMISSION-SIG"
CERTIFICATE = "PAYPAL-CERT-URL"
ALGORITHM = "PAYPAL-AUTH-ALGO"

TOLERANCE = 3 * 86_400.0
"""Seconds a transmission may be old. PayPal goes on trying for three days and does not say whether
it signs anew; a shorter time could refuse the last attempts for good. A copy within it is a repeat
all the same, as long as message IDs are remembered: three days, by default.
"""

_ALGORITHM = b"SHA256withRSA"
_ID = re.compile(rb"[!-{}~]{1,128}")  # visible, and without the bar that ends it
_URL = re.compile(rb"https://(?:[a-z0-9-]{1,63}\.){1,4}paypal\.com(?:/[A-Za-z0-9_-]{1,128}){1,8}")
_SIGNER = re.compile(r"messageverificationcerts[a-z0-9-]*(\.[a-z0-9-]+)?\.paypal\.com")


class PayPal:
    """Verifies deliveries of the given webhooks (their IDs). `roots` are the authorities to trust,
    as PEM; intermediate ones among them count as well.

    Raises `SettingsError` where a webhook ID or the authorities are not usable.
    """

    def __init__(
        self,
        webhook_ids: Sequence[str | Secret],
        roots: bytes,
        *,
        tolerance: float = TOLERANCE,
    ) -> None:
        self._allowed = Allowed(webhook_ids)
        if any("|" in one.text for one in self._allowed.secrets):
            raise SettingsError(["a secret of a PayPal source is no webhook ID: it holds a bar"])
        self._authorities = Authorities(roots)
        self._tolerance = tolerance
        self._keys = Keyring()

    @property
    def labels(self) -> list[str]:
        """What is allowed to send, by position."""
        return self._allowed.labels

    def verify(self, delivery: Signed, now: float) -> NetworkVerdict:
        """Judge a delivery. A certificate is asked for only when all else about it is right."""
        return self._judge(delivery, now, None)

    def explain(self, delivery: Signed, now: float, tell: Tell) -> NetworkVerdict:
        """Judge it in the same way, and tell each step. No webhook ID is told."""
        return self._judge(delivery, now, tell)

    def learn(self, url: str, pem: bytes, now: float) -> Refused | None:
        """Remember the certificate that was fetched from `url`, if it is PayPal's, counts now, and
        an authority vouches for it.
        """
        found = certificates_in(pem)
        if not found or not _URL.fullmatch(url.encode("utf-8", "surrogatepass")):
            return Refused(
                "certificate_malformed", "there is no certificate where PayPal has its own"
            )
        leaf, name = _signer_among(found)
        if leaf is None:
            return Refused("certificate_not_theirs", "no certificate there is made out to PayPal")
        key = judge_dates(leaf, now) or rsa_key_of(leaf)
        if isinstance(key, Refused):
            return key
        between = [one for one in found if one != leaf]
        if not self._authorities.vouch_for(leaf, name, between, now):
            return Refused(
                "certificate_untrusted",
                "no trusted authority vouches for the certificate: if one is missing between "
                "them, add it to those that are trusted",
            )
        self._keys.remember(url, key, ends_of(leaf), now)
        return None

    def sign(self, delivery: Signed, now: float) -> Signed:  # noqa: ARG002 - a scheme's signature
        """Raise `SettingsError`: only PayPal has the key."""
        raise SettingsError(["paypal: only the sender has the key to sign with"])

    def _judge(self, delivery: Signed, now: float, tell: Tell | None) -> NetworkVerdict:
        found: dict[str, bytes] = {}
        for name in (ID, TIME, SIGNATURE, CERTIFICATE, ALGORITHM):
            value = only_header(delivery.headers, name)
            if isinstance(value, Refused):
                return value
            found[name] = value
        if refusal := _judge_form(found):
            return refusal
        moment = signed_time(found[TIME], TIME, now, self._tolerance, tell)
        if isinstance(moment, Refused):
            return moment
        url = found[CERTIFICATE].decode("ascii")
        key = self._keys.find(url, now)
        if tell:
            tell(f"certificate: {url}, {'not known yet' if key is None else 'known'}")
        if key is None:
            return NeedsCertificate(url)
        signature = decode(found[SIGNATURE], "base64") or b""
        checksum = str(zlib.crc32(delivery.body)).encode()
        if tell:
            tell(f"signed content: {ID}|{TIME}|(webhook ID)|{checksum.decode()} (CRC32 of body)")
        for position, webhook_id in self._allowed.that_count(now):
            content = b"|".join((found[ID], found[TIME], webhook_id, checksum))
            if has_signed(key, content, signature, "sha256"):
                return Verified(position, found[ID], math.ceil(moment + self._tolerance))
        return Refused(
            "signature_mismatch",
            f"{SIGNATURE} is not the RSA signature (SHA256) of transmission, time, body and any "
            f"of the {len(self._allowed.secrets)} webhook IDs under the certificate's key",
        )


def _judge_form(found: dict[str, bytes]) -> Refused | None:
    if found[ALGORITHM] != _ALGORITHM:
        return Refused("algorithm_unsupported", f"{ALGORITHM} is not {_ALGORITHM.decode()}")
    if not _ID.fullmatch(found[ID]):
        return Refused("field_malformed", f"{ID} is no plain ID")
    if not _URL.fullmatch(found[CERTIFICATE]):
        return Refused("certificate_elsewhere", f"{CERTIFICATE} is not at paypal.com")
    if decode(found[SIGNATURE], "base64") is None:
        return Refused("signature_malformed", f"{SIGNATURE} is not base64")
    return None


def _signer_among(found: list[Certificate]) -> tuple[Certificate | None, str]:
    """Return the certificate that is made out to PayPal's signing, and the name it has there."""
    for certificate in found:
        for name in sorted(names_of(certificate)):
            if _SIGNER.fullmatch(name):
                return certificate, name
    return None, ""
