"""Marble's scheme: an HMAC-SHA256 in hex over the raw body, in `x-marble-signature`.

The timestamped form signs `{unix seconds}.{body}` and sends the seconds in `x-marble-timestamp`;
a source that asks for it refuses the plain form, since a replay could otherwise drop the time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence

from hookmill.signatures.scheme import (
    Refused,
    Signed,
    Verdict,
    Verified,
    only_header,
    secret_bytes,
)

HEADER = "x-marble-signature"
TIMESTAMP_HEADER = "x-marble-timestamp"
TOLERANCE = 300.0
"""How many seconds a signed timestamp may be off, in either direction."""

DEVELOPMENT_SECRET = "marble_development_secret"  # noqa: S105 - public on purpose
"""The secret `hookmill dev` uses where none is set; refused outside development."""

_PREFIX = b"sha256="
_SECONDS = re.compile(rb"[0-9]{1,16}")


class Marble:
    """Verifies and signs as Marble does. The key is the secret's text as it stands.

    Raises `SettingsError` where a secret is not usable.
    """

    def __init__(
        self, secrets: Sequence[str], *, timestamped: bool = False, tolerance: float = TOLERANCE
    ) -> None:
        self._secrets = [secret_bytes(secret) for secret in secrets]
        self._timestamped = timestamped
        self._tolerance = tolerance

    def verify(self, delivery: Signed, now: float) -> Verdict:
        """Judge a delivery; with `timestamped` also whether it is fresh."""
        signature = only_header(delivery.headers, HEADER)
        if isinstance(signature, Refused):
            return signature
        signed = delivery.body
        if self._timestamped:
            timestamp = self._timestamp(delivery, now)
            if isinstance(timestamp, Refused):
                return timestamp
            signed = timestamp + b"." + signed
        given = signature.removeprefix(_PREFIX)
        for position, secret in enumerate(self._secrets):
            if hmac.compare_digest(_hex(secret, signed), given):
                return Verified(position)
        form = "{timestamp}.{body}" if self._timestamped else "the body"
        return Refused(
            "signature_mismatch",
            f"{HEADER} is not the HMAC-SHA256 (lower-case hex) of {form} under "
            f"any of the {len(self._secrets)} secrets",
        )

    def sign(self, delivery: Signed, now: float) -> dict[str, str]:
        """Sign with the first secret, in the form this source asks for."""
        headers, signed = {}, delivery.body
        if self._timestamped:
            headers[TIMESTAMP_HEADER] = str(int(now))
            signed = f"{int(now)}.".encode() + signed
        return headers | {HEADER: (_PREFIX + _hex(self._secrets[0], signed)).decode()}

    def _timestamp(self, delivery: Signed, now: float) -> bytes | Refused:
        text = only_header(delivery.headers, TIMESTAMP_HEADER)
        if isinstance(text, Refused):
            return text
        # Strict, because what is not digits could move the border between time and body.
        if not _SECONDS.fullmatch(text):
            return Refused("timestamp_malformed", f"{TIMESTAMP_HEADER} is not Unix seconds")
        age = now - int(text)
        if abs(age) > self._tolerance:
            side = "old" if age > 0 else "ahead"
            return Refused("timestamp_too_far", f"the signed time is {abs(age):.0f} s {side}")
        return text


def _hex(secret: bytes, signed: bytes) -> bytes:
    return hmac.digest(secret, signed, hashlib.sha256).hex().encode()
