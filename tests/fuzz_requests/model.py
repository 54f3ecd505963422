"""What the fuzz run sends, what it expects, and its verdict."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

PUBLIC_URL = "https://hooks.example"
VERIFY_TOKEN = "verify-token-of-ours"
LIMIT = 64 * 1024
"""Bytes of an ordinary body, at most."""

BODY_LIMIT = 10 * 1024 * 1024
"""The receiver's body limit, which is the default."""


class Expect(Enum):
    """What the receiver has to do with a request."""

    ACCEPTED = "accepted"
    """A genuine delivery: 200, and stored."""
    ANSWERED = "answered"
    """A genuine handshake: 2xx, and not stored."""
    REFUSED = "refused"
    """4xx, or no answer if it was not a valid request."""
    EITHER = "either"
    """Accepted or refused, because the signature may not cover what was changed. What is stored
    still has to be what was signed.
    """


class Ask(NamedTuple):
    """A request, split into its parts."""

    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    expect: Expect
    key: bytes = b""
    """Digest of source and body, if the delivery was signed."""

    def with_header(self, name: bytes, value: bytes) -> Ask:
        return self._replace(headers=(*self.headers, (name, value)))

    def without(self, name: bytes) -> Ask:
        kept = tuple(pair for pair in self.headers if pair[0].lower() != name.lower())
        return self._replace(headers=kept)

    def refused(self, **parts: Any) -> Ask:
        return self._replace(expect=Expect.REFUSED, **parts)

    def wire(self) -> bytes:
        rows = b"".join(b"%b: %b\r\n" % pair for pair in self.headers)
        line = f"{self.method} {self.target} HTTP/1.1\r\nHost: a\r\n".encode("utf-8", "replace")
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (line, rows, len(self.body), self.body)


class Send(NamedTuple):
    """Bytes to be written at once.

    `asks` are the requests in them, in order. Without any, the bytes are malformed, and the
    connection is closed after them. `waits`: wait until the receiver closes the connection;
    otherwise the run closes its side first.
    """

    kind: str
    data: bytes
    asks: tuple[Ask, ...] = ()
    expect: Expect = Expect.REFUSED
    waits: bool = False


class Verdict(NamedTuple):
    """The result of a run. `failures` is empty if the receiver did everything right."""

    requests: int
    genuine: int
    handshakes: int
    refused: int
    unanswered: int
    busy: int
    stored: int
    seconds: float
    rate: int
    rss_early: int
    rss_late: int
    log_lines: int
    refusal_lines: int
    failures: list[str]
