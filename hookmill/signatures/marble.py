"""Marble's scheme: an HMAC-SHA256 in hex over the raw body, in `x-marble-signature`.

The timestamped form signs `{unix seconds}.{body}` and sends the seconds in `x-marble-timestamp`;
a source that asks for it refuses the plain form, since a replay could otherwise drop the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hookmill.signatures.presets import PRESETS
from hookmill.signatures.scheme import Secret
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier

DEVELOPMENT_SECRET = "marble_development_secret"  # noqa: S105 - public on purpose
"""The secret `hookmill dev` uses where none is set; refused outside development."""

PLAIN = PRESETS["marble"].spec


def timestamped(spec: SignatureSpec = PLAIN) -> SignatureSpec:
    """Return the form that signs the time as well."""
    return msgspec.structs.replace(
        spec, content="{timestamp}.{body}", timestamp="header:x-marble-timestamp"
    )


def marble_scheme(
    secrets: Sequence[str | Secret], *, with_time: bool = False, tolerance: float = PLAIN.tolerance
) -> SpecVerifier:
    """Verify and sign as Marble does. The key is the secret's text as it stands.

    Raises `SettingsError` where a secret is not usable.
    """
    spec = msgspec.structs.replace(PLAIN, tolerance=tolerance)
    return SpecVerifier(timestamped(spec) if with_time else spec, secrets)
