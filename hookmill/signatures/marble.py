"""Marble's scheme: an HMAC-SHA256 in hex over the raw body, in `x-marble-signature`.

The timestamped form signs `{unix seconds}.{body}` and sends the seconds in `x-marble-timestamp`.
A source that asks for it refuses the plain form, because a replay could otherwise omit the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hookmill.signatures.presets import PRESETS
from hookmill.signatures.scheme import Secret
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier

DEVELOPMENT_SECRET = "marble_development_secret"  # noqa: S105 - public on purpose
"""The secret that `hookmill dev` uses if none is set. It is refused outside development."""

PLAIN = PRESETS["marble"].spec


def timestamped(spec: SignatureSpec = PLAIN) -> SignatureSpec:
    """Return a spec that signs the time as well."""
    return msgspec.structs.replace(
        spec, content="{timestamp}.{body}", timestamp="header:x-marble-timestamp"
    )


def marble_scheme(
    secrets: Sequence[str | Secret], *, with_time: bool = False, tolerance: float = PLAIN.tolerance
) -> SpecVerifier:
    """Return what verifies and signs as Marble does. The text of a secret is the key.

    Raises `SettingsError` if a secret is not usable.
    """
    spec = msgspec.structs.replace(PLAIN, tolerance=tolerance)
    return SpecVerifier(timestamped(spec) if with_time else spec, secrets)
