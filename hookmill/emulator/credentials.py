"""The emulator's token and signing keys, and which of them must not go together."""

from __future__ import annotations

import secrets

from hookmill.emulator.models import SigningKeys
from hookmill.errors import SettingsError
from hookmill.signatures.qstash import PUBLIC_KEYS

DEVELOPMENT_TOKEN = "eyJVc2VySUQiOiJkZWZhdWx0VXNlciIsIlBhc3N3b3JkIjoiZGVmYXVsdFBhc3N3b3JkIn0="  # noqa: S105 - published
"""The published token of QStash's own development server, of its first user."""

PUBLIC_TOKENS = frozenset(
    {
        DEVELOPMENT_TOKEN,
        # Its other users.
        "eyJVc2VySUQiOiJ0ZXN0VXNlcjEiLCJQYXNzd29yZCI6InRlc3RQYXNzd29yZCJ9",
        "eyJVc2VySUQiOiJ0ZXN0VXNlcjIiLCJQYXNzd29yZCI6InRlc3RQYXNzd29yZCJ9",
        "eyJVc2VySUQiOiJ0ZXN0VXNlcjMiLCJQYXNzd29yZCI6InRlc3RQYXNzd29yZCJ9",
    }
)

_TOGETHER = (
    "QSTASH_TOKEN is a published token of QStash's development server, and the signing keys are "
    "yours: anyone could have your keys sign. Unset QSTASH_TOKEN (each run makes one), or unset "
    "the signing keys. If none are set, they are those of a rotation, which are in the emulator's "
    "state: use another --data or HOOKMILL_PREFIX"
)


def fresh_token() -> str:
    """Return a token that nobody can guess."""
    return f"dev_{secrets.token_urlsafe(32)}"


def fresh_key() -> str:
    """Return a signing key that nobody can guess."""
    return f"sig_{secrets.token_urlsafe(21)}"


def are_real(keys: SigningKeys) -> bool:
    """Return whether these may be the keys of an account: neither published nor made here."""
    return not keys.made_here and not PUBLIC_KEYS.issuperset((keys.current, keys.next))


def rotated(keys: SigningKeys) -> SigningKeys:
    """Return the keys after a rotation: the next one, and a new one."""
    return SigningKeys(keys.next, fresh_key(), made_here=not are_real(keys))


def check_together(token: str, keys: SigningKeys) -> None:
    """Raise `SettingsError` if anyone who knows a published token could have real keys sign."""
    if token in PUBLIC_TOKENS and are_real(keys):
        raise SettingsError([_TOGETHER])
