"""What every signature scheme takes and gives."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec
from multidict import MultiMapping

from hookmill.errors import SettingsError


class Signed(NamedTuple):
    """A delivery as it was received: its headers, the raw body, and the request's line.

    `target` is path and query exactly as they stood there. `url` is the URL that the sender was
    given, as it was configured ("": not known), and never made up from the request.
    """

    headers: MultiMapping[str]
    body: bytes
    target: str = "/"
    method: str = "POST"
    url: str = ""


class Secret(NamedTuple):
    """A signing secret and from when until when it counts (Unix seconds). `label` says where it
    came from, for people and metrics; the text itself is never shown.
    """

    text: str
    label: str = ""
    starts: float = -math.inf
    ends: float = math.inf

    def called(self, position: int) -> str:
        """Return what it is called: where it stands, or its place among others."""
        return self.label or f"secret {position + 1}"

    @property
    def has_window(self) -> bool:
        """Whether there is a time at which it does not count."""
        return (self.starts, self.ends) != (-math.inf, math.inf)

    def counts_at(self, now: float) -> bool:
        """Whether it counts at a time."""
        return self.starts <= now < self.ends

    def __repr__(self) -> str:
        return f"Secret({self.label or 'unnamed'})"


class Token(msgspec.Struct, frozen=True):
    """A signed token that is meant for one delivery: a digest of what it says, and the Unix time
    (whole seconds) from which on it is refused anyway.
    """

    digest: bytes
    expires: int


class Verified(msgspec.Struct, frozen=True, eq=False):
    """The signature is genuine. `secret` is the position of the secret that matched. `said` is what
    must not be accepted again for another message until `expires` (Unix time, whole seconds), where
    the scheme has such a thing. Two are equal if the same secret matched.
    """

    secret: int
    said: bytes | None = None
    expires: int = 0

    @property
    def token(self) -> Token | None:
        """What is remembered of it. It is made here, for a message with a signed ID needs none."""
        if self.said is None:
            return None
        digest = _blank.copy()  # to make one with its options costs more
        digest.update(self.said)
        return Token(digest.digest(), self.expires)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verified) and self.secret == other.secret

    def __hash__(self) -> int:
        return hash(self.secret)


_blank = hashlib.blake2b(digest_size=16)


class Refused(NamedTuple):
    """The delivery does not verify: a short `code` for logs and a `detail` for people."""

    code: str
    detail: str


Verdict = Verified | Refused


class NeedsCertificate(NamedTuple):
    """Only a certificate can tell. `url` is the one place where it may be had from: its host has
    been judged already, so that it is safe to ask there.
    """

    url: str


NetworkVerdict = Verdict | NeedsCertificate


class Scheme(Protocol):
    """One way of signing deliveries, with the secrets it accepts."""

    @property
    def labels(self) -> Sequence[str]:
        """What its secrets are called where people see them, by position."""
        ...

    def verify(self, delivery: Signed, now: float) -> Verdict:
        """Judge a delivery at the Unix time `now` (seconds)."""
        ...

    def sign(self, delivery: Signed, now: float) -> Signed:
        """Return the delivery as the sender would send it: signed with the first secret."""
        ...


@runtime_checkable
class NetworkScheme(Protocol):
    """One whose sender publishes the certificate it signs with. It fetches nothing itself."""

    @property
    def labels(self) -> Sequence[str]:
        """What is allowed to send, by position."""
        ...

    def verify(self, delivery: Signed, now: float) -> NetworkVerdict:
        """Judge a delivery at the Unix time `now` (seconds), or say which certificate is needed."""
        ...

    def learn(self, url: str, pem: bytes, now: float) -> Refused | None:
        """Judge what was fetched from `url`, and remember it for a while if it is good."""
        ...

    def sign(self, delivery: Signed, now: float) -> Signed:
        """Raise `SettingsError`: only the sender has the key."""
        ...


def only_header(headers: MultiMapping[str], name: str) -> bytes | Refused:
    """Return a header's bytes; refuse it where it is missing or stands there more than once.

    A second one would let the sender show us one value and the application another.
    """
    values = headers.getall(name, ())
    if not values:
        return Refused("header_missing", f"there is no {name} header")
    if len(values) > 1:
        return Refused("header_repeated", f"there are {len(values)} {name} headers, one is allowed")
    try:
        # aiohttp shows bytes that are not UTF-8 as surrogate escapes; this restores them.
        return values[0].encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return Refused("header_malformed", f"the {name} header stands for no bytes")


def secret_bytes(secret: str) -> bytes:
    """Return a secret's bytes. Raises `SettingsError` where it could not keep anyone out."""
    try:
        raw = secret.encode()
    except UnicodeEncodeError:
        raise SettingsError(["a signing secret is not text in UTF-8"]) from None
    if not raw:
        raise SettingsError(["a signing secret is empty: anyone could sign with it"])
    return raw
