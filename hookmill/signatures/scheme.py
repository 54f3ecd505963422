"""What every signature scheme takes and returns."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec
from multidict import MultiMapping

from hookmill.errors import SettingsError


class Signed(NamedTuple):
    """A signed delivery as it was received: its headers, the raw body, and the request line.

    `target` is path and query exactly as they were requested. `url` is the configured URL that the
    sender was given ("" if unknown). It is never taken from the request.
    """

    headers: MultiMapping[str]
    body: bytes
    target: str = "/"
    method: str = "POST"
    url: str = ""


class Secret(NamedTuple):
    """A signing secret, and the time in which it is valid (Unix seconds).

    `label` says where it came from, for logs and metrics. The text itself is never shown.
    """

    text: str
    label: str = ""
    starts: float = -math.inf
    ends: float = math.inf

    def label_at(self, position: int) -> str:
        """Return its label, or its number if it has none."""
        return self.label or f"secret {position + 1}"

    @property
    def has_window(self) -> bool:
        """Whether there is a time at which it is not valid."""
        return (self.starts, self.ends) != (-math.inf, math.inf)

    def counts_at(self, now: float) -> bool:
        """Whether it is valid at a Unix time."""
        return self.starts <= now < self.ends

    def __repr__(self) -> str:
        return f"Secret({self.label or 'unnamed'})"


class Token(msgspec.Struct, frozen=True):
    """Something signed that is good for one delivery only: its digest, and the Unix time (whole
    seconds) after which the scheme refuses it anyway.
    """

    digest: bytes
    expires: int


class Verified(msgspec.Struct, frozen=True, eq=False):
    """The signature is genuine. `secret` is the position of the secret that matched.

    `single_use` is what must not be accepted for another message until `expires` (Unix time, whole
    seconds); None if the scheme has no such thing. Two verdicts are equal if the same secret
    matched.
    """

    secret: int
    single_use: bytes | None = None
    expires: int = 0

    @property
    def token(self) -> Token | None:
        """What is remembered of it. Made on demand: a message with a signed ID needs none."""
        if self.single_use is None:
            return None
        digest = _blank.copy()  # a copy is faster than a new one
        digest.update(self.single_use)
        return Token(digest.digest(), self.expires)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verified) and self.secret == other.secret

    def __hash__(self) -> int:
        return hash(self.secret)


_blank = hashlib.blake2b(digest_size=16)


class Refused(NamedTuple):
    """The delivery is refused: a short `code` for logs and metrics, a `detail` for people.

    Whoever sent it learns both, so they say only what the delivery itself shows. `cause` is for our
    own log: it may say how the source is configured.
    """

    code: str
    detail: str
    cause: str = ""


BEYOND_BOUNDS = frozenset(
    {"too_many_fields", "too_many_escapes", "too_many_items", "value_too_long"}
)
"""Codes of deliveries that were refused before their signature was looked for, because to read them
would cost more than any sender needs. All others are about the signature itself.
"""

MAX_VALUE = 256 * 1024
"""The most bytes of a signed value that stands in the body, as it is written there."""

Texts = tuple[bytes, ...]
ReadTexts = Callable[[bytes], Texts | Refused]
"""Finds the texts at some places of a body, in their order. Refuses a body that lacks one."""


def too_long(what: str) -> Refused:
    """Return the refusal of a body that has a longer value than `MAX_VALUE` at a place."""
    return Refused("value_too_long", f"{what} has more than {MAX_VALUE} bytes in the body")


Verdict = Verified | Refused


class NeedsCertificate(NamedTuple):
    """The verdict needs a certificate that is not known yet.

    `url` is where to fetch it. Its host was checked already, so the request is safe.
    """

    url: str


NetworkVerdict = Verdict | NeedsCertificate

OnStep = Callable[[str], None]
"""Gets a line that explains one step on the way to a verdict."""


class Scheme(Protocol):
    """One way of signing deliveries, with the secrets it accepts."""

    @property
    def labels(self) -> Sequence[str]:
        """The labels of its secrets, by position."""
        ...

    def verify(self, delivery: Signed, now: float) -> Verdict:
        """Judge a delivery at the Unix time `now` (seconds)."""
        ...

    def sign(self, delivery: Signed, now: float) -> Signed:
        """Return the delivery as the sender would send it, signed with the first valid secret."""
        ...


@runtime_checkable
class NetworkScheme(Protocol):
    """A scheme whose sender publishes the certificate it signs with. It fetches nothing itself."""

    @property
    def labels(self) -> Sequence[str]:
        """The labels of what is allowed to send, by position."""
        ...

    @property
    def proven_urls(self) -> Collection[str]:
        """The URLs whose certificates have verified a delivery."""
        ...

    def verify(self, delivery: Signed, now: float) -> NetworkVerdict:
        """Judge a delivery at the Unix time `now` (seconds), or say which certificate is needed."""
        ...

    def learn(self, url: str, pem: bytes, now: float) -> Refused | None:
        """Judge the certificate that was fetched from `url`, and remember it if it is good."""
        ...

    def sign(self, delivery: Signed, now: float) -> Signed:
        """Raise `SettingsError`: only the sender has the key."""
        ...


def only_header(headers: MultiMapping[str], name: str) -> bytes | Refused:
    """Return a header's bytes. Refuses a header that is missing or is there more than once.

    With two of them, we could verify one value while the application reads the other.
    """
    values = headers.getall(name, ())
    if not values:
        return Refused("header_missing", f"there is no {name} header")
    if len(values) > 1:
        return header_repeated(name, len(values))
    try:
        # aiohttp shows bytes that are not UTF-8 as surrogate escapes; this restores them.
        return values[0].encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return Refused("header_malformed", f"the {name} header cannot be read as bytes")


def header_repeated(name: str, times: int) -> Refused:
    """Return the refusal of a delivery that has a header more than once."""
    return Refused("header_repeated", f"there are {times} {name} headers, one is allowed")


def secret_bytes(secret: str) -> bytes:
    """Return a secret's bytes. Raises `SettingsError` if it is empty or no text."""
    try:
        raw = secret.encode()
    except UnicodeEncodeError:
        raise SettingsError(["a signing secret is not text in UTF-8"]) from None
    if not raw:
        raise SettingsError(["a signing secret is empty: anyone could sign with it"])
    return raw
