"""Which headers of a delivery are stored with its message. No I/O.

Headers about the connection are not, nor are credentials: they would be in Redis for as long as
the message, and no handler needs them. A credential is known by its name.
"""

from __future__ import annotations

_ABOUT_THE_CONNECTION = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

_CREDENTIALS = frozenset(
    {"authorization", "cookie", "credential", "credentials", "jwt", "passwd", "password", "secret"}
)
"""A header with one of these words in its name holds a credential."""

_LAST_WORDS = ("token", "tokens", "secret", "password", "apikey", "accesskey", "auth", "cookies")
"""A name whose last word ends with one of these is that of a credential: X-Gitlab-Token."""

_KEYS = frozenset(
    {
        "access",
        "account",
        "api",
        "auth",
        "functions",
        "master",
        "private",
        "secret",
        "shared",
        "subscription",
        "webhook",
    }
)
"""A name that ends with `key` is that of a credential if one of these words stands before it:
X-Api-Key. Others are not: X-Event-Key, Idempotency-Key.
"""

_NO_CREDENTIALS = frozenset({"idempotency"})
"""A token with this word in its name is a message ID: I-Twilio-Idempotency-Token."""

MOST_NAMES = 1000
"""Names for which the answer is remembered. There is a limit, because senders choose names."""


class StoredNames(dict[bytes, bool]):
    """Whether headers of a name are stored, by the name as it was sent.

    It is a dictionary, because each header of each delivery is looked up. A new name is judged
    once.
    """

    def __missing__(self, name: bytes) -> bool:
        if len(self) >= MOST_NAMES:
            self.clear()
        stored = self[name] = is_stored(name)
        return stored


def is_stored(name: bytes) -> bool:
    """Return whether a header of this name is stored."""
    text = name.lower().decode("latin-1")
    if text in _ABOUT_THE_CONNECTION:
        return False
    words = text.replace("_", "-").replace(".", "-").split("-")
    last = words[-1]
    if _NO_CREDENTIALS.intersection(words):
        return True
    if _CREDENTIALS.intersection(words) or last.endswith(_LAST_WORDS):
        return False
    return not (last in {"key", "keys"} and _KEYS.intersection(words[-2:-1]))
