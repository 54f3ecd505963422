"""PayPal's scheme: RSA over a transmission's ID and time, the webhook's ID and the body's CRC32.

A CRC32 is no cryptographic digest. Anybody who has a genuine delivery can change its body, adjust
four bytes, and the signature still fits. So the signed transmission ID is the message ID, and it
counts once: a forged body can replace the genuine one, but never come after it. If money is at
stake, ask PayPal's API before you act on what a body says.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Collection, Sequence

from hookmill.errors import SettingsError
from hookmill.signatures.certificates import (
    AllowedSenders,
    Certificate,
    KnownKeys,
    TrustedAuthorities,
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
    OnStep,
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
"""Seconds that a transmission may be old. PayPal retries for three days, and does not say whether
it signs each attempt again; with a shorter time the last attempts could be refused. A copy within
this time is a duplicate, as long as message IDs are remembered: three days by default.
"""

_ALGORITHM = b"SHA256withRSA"
_ID = re.compile(rb"[!-{}~]{1,128}")  # visible characters but |, which ends it
_URL = re.compile(rb"https://(?:[a-z0-9-]{1,63}\.){1,4}paypal\.com(?:/[A-Za-z0-9_-]{1,128}){1,8}")
_SIGNER = re.compile(r"messageverificationcerts[a-z0-9-]*(\.[a-z0-9-]+)?\.paypal\.com")


class PayPal:
    """Verifies deliveries of the given webhooks (their IDs). `roots` are the certificates of the
    trusted authorities, as PEM; intermediate ones may be among them.

    Raises `SettingsError` if a webhook ID or the authorities are not usable.
    """

    def __init__(
        self,
        webhook_ids: Sequence[str | Secret],
        roots: bytes,
        *,
        tolerance: float = TOLERANCE,
    ) -> None:
        self._allowed = AllowedSenders(webhook_ids)
        if any("|" in one.text for one in self._allowed.secrets):
            raise SettingsError(
                ["a webhook ID of a PayPal source holds a |: copy the ID from PayPal"]
            )
        self._authorities = TrustedAuthorities(roots)
        self._tolerance = tolerance
        self._keys = KnownKeys()
        self.proven_urls: Collection[str] = self._keys.proven

    @property
    def labels(self) -> list[str]:
        """The labels of the webhooks, by position."""
        return self._allowed.labels

    def verify(self, delivery: Signed, now: float) -> NetworkVerdict:
        """Judge a delivery. Asks for a certificate only if everything else is right."""
        return self._judge(delivery, now, None)

    def explain(self, delivery: Signed, now: float, on_step: OnStep) -> NetworkVerdict:
        """Judge a delivery as `verify` does, and explain each step. No webhook ID is shown."""
        return self._judge(delivery, now, on_step)

    def learn(self, url: str, pem: bytes, now: float) -> Refused | None:
        """Remember the certificate that was fetched from `url` if it is PayPal's, is valid now, and
        a trusted authority has issued it.
        """
        found = certificates_in(pem)
        if not found or not _URL.fullmatch(url.encode("utf-8", "surrogatepass")):
            return Refused("certificate_malformed", "there is no certificate of PayPal at its URL")
        leaf, name = _signer_among(found)
        if leaf is None:
            return Refused("certificate_not_theirs", "no certificate there has a name of PayPal")
        key = judge_dates(leaf, now) or rsa_key_of(leaf)
        if isinstance(key, Refused):
            return key
        intermediates = [one for one in found if one != leaf]
        if not self._authorities.have_issued(leaf, name, intermediates, now):
            return Refused(
                "certificate_untrusted",
                "no trusted authority has issued the certificate: if an intermediate certificate "
                "is missing, add it to the trusted ones",
            )
        self._keys.remember(url, key, ends_of(leaf), now)
        return None

    def sign(self, delivery: Signed, now: float) -> Signed:  # noqa: ARG002 - a scheme's signature
        """Raise `SettingsError`: only PayPal has the key."""
        raise SettingsError(["paypal: only the sender has the key to sign with"])

    def _judge(self, delivery: Signed, now: float, on_step: OnStep | None) -> NetworkVerdict:
        found: dict[str, bytes] = {}
        for name in (ID, TIME, SIGNATURE, CERTIFICATE, ALGORITHM):
            value = only_header(delivery.headers, name)
            if isinstance(value, Refused):
                return value
            found[name] = value
        if refusal := _judge_form(found):
            return refusal
        moment = signed_time(found[TIME], TIME, now, self._tolerance, on_step)
        if isinstance(moment, Refused):
            return moment
        url = found[CERTIFICATE].decode("ascii")
        key = self._keys.find(url, now)
        if on_step:
            on_step(f"certificate: {url}, {'not known yet' if key is None else 'known'}")
        if key is None:
            return NeedsCertificate(url)
        signature = decode(found[SIGNATURE], "base64") or b""
        checksum = str(zlib.crc32(delivery.body)).encode()
        if on_step:
            on_step(f"signed content: {ID}|{TIME}|(webhook ID)|{checksum.decode()} (CRC32 of body)")
        for position, webhook_id in self._allowed.valid_at(now):
            content = b"|".join((found[ID], found[TIME], webhook_id, checksum))
            if has_signed(key, content, signature, "sha256"):
                self._keys.prove(url)
                return Verified(position, found[ID], math.ceil(moment + self._tolerance))
        return Refused(
            "signature_mismatch",
            f"{SIGNATURE} is not the RSA signature (SHA256) of transmission, time, body and a "
            "webhook ID of this source under the certificate's key",
        )


def _judge_form(found: dict[str, bytes]) -> Refused | None:
    if found[ALGORITHM] != _ALGORITHM:
        return Refused("algorithm_unsupported", f"{ALGORITHM} is not {_ALGORITHM.decode()}")
    if not _ID.fullmatch(found[ID]):
        return Refused("field_malformed", f"{ID} is empty, too long, or has a | or a space in it")
    if not _URL.fullmatch(found[CERTIFICATE]):
        return Refused("certificate_elsewhere", f"{CERTIFICATE} is not at paypal.com")
    if decode(found[SIGNATURE], "base64") is None:
        return Refused("signature_malformed", f"{SIGNATURE} is not base64")
    return None


def _signer_among(found: list[Certificate]) -> tuple[Certificate | None, str]:
    """Return the certificate with the name of PayPal's signer, and that name."""
    for certificate in found:
        for name in sorted(names_of(certificate)):
            if _SIGNER.fullmatch(name):
                return certificate, name
    return None, ""
