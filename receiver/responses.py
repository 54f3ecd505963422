"""The answers that a sender gets. Values only, no I/O.

A `Reply` is an HTTP answer. A `Refusal` says why a request was not accepted, and becomes a reply.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from hookmill.errors import BacklogFullError, StreamUnavailableError, TokenReusedError
from hookmill.signatures.scheme import BEYOND_BOUNDS, Refused

Headers = tuple[tuple[str, str], ...]


class Reply(NamedTuple):
    """An HTTP answer: its status, its body, and its headers besides those of every answer.

    With a `confirm_url` it may be sent only after a GET of that URL has succeeded. The URL's host
    has been checked.
    """

    status: int
    body: bytes = b""
    headers: Headers = ()
    confirm_url: str = ""


class Refusal(NamedTuple):
    """Why a request was not accepted: the HTTP status, a short code, and a sentence. The `cause` is
    for our own log, where that says more than a sender may know.
    """

    status: int
    code: str
    detail: str
    cause: str = ""

    def reply(self, allow: str, retry_after: int) -> Reply:
        """Return the answer that says so. `allow` names the methods for a 405; `retry_after` is in
        seconds, for a 503.
        """
        headers = [("Content-Type", "application/json")]
        if self.status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", allow))
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append(("Retry-After", str(retry_after)))
        body = msgspec.json.encode({"error": self.code, "detail": self.detail})
        return Reply(self.status, body, tuple(headers))


Result = Reply | Refusal | None
"""What becomes of a delivery. None: its message is stored."""

OnResult = Callable[[Result], None]
"""Called once with the result of a delivery, now or later."""

BUSY = Refusal(503, "busy", "the receiver is at its limit; send it again later")

NO_SECRET = Refusal(503, "no_secret", "no secret of this source is usable now; send it again later")

FAULT = Refusal(500, "internal_error", "the receiver failed; send it again")

TOKEN_REUSED = Refusal(
    401, TokenReusedError.code, "the token was used before, with another message ID"
)


def handshake_reply(
    body: bytes = b"", content_type: str = "text/plain", status: int = 200
) -> Reply:
    """Answer a question that a sender asks besides its deliveries."""
    # A body may contain the sender's own text. "nosniff" keeps a browser from running it.
    headers = (("Content-Type", content_type), ("X-Content-Type-Options", "nosniff"))
    return Reply(status, body, headers)


def refusal_of(refused: Refused) -> Refusal:
    """Return the answer to a delivery that its scheme has refused: 400 if it is beyond a bound, so
    that its signature was not even looked for; 401 otherwise.
    """
    status = 400 if refused.code in BEYOND_BOUNDS else 401
    return Refusal(status, refused.code, refused.detail, refused.cause)


def refusal_for(error: Exception) -> Refusal:
    """Return the answer for a sender whose message could not be stored because of `error`."""
    if isinstance(error, BacklogFullError):
        detail = "too many messages are unfinished; send it again later"
        return Refusal(503, error.code, detail, str(error))
    if isinstance(error, StreamUnavailableError):
        return Refusal(503, error.code, "the message could not be stored; send it again")
    return FAULT
