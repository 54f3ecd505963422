"""From a request's parts to an `Arrival`, an `Answer` or a `Refusal`: pure, no I/O.

The signature is verified before anything else looks at the body. Whatever stands in the request,
what comes out is one of the three; no exception leaves.
"""

from __future__ import annotations

from collections.abc import Container

import msgspec
from multidict import MultiMapping, istr

from hookmill.config.sources import Source
from hookmill.message import fresh_id, pack_headers
from hookmill.signatures import Refused, Signed
from hookmill.signatures.scheme import NeedsCertificate
from hookmill.stream.arrival import Arrival
from receiver import handshake
from receiver.responses import Answer, Confirmation, Refusal

_CONTENT_ENCODING = istr("Content-Encoding")  # its lower case is found once

RawHeaders = tuple[tuple[bytes, bytes], ...]


class Request(msgspec.Struct, frozen=True):
    """A request as it came over the wire. `target` is its path and query, unchanged."""

    target: str
    headers: MultiMapping[str]
    raw_headers: RawHeaders
    body: bytes


Admitted = Arrival | Answer | Confirmation | NeedsCertificate | Refusal
"""What comes of a request. Where a certificate is needed, it is to be admitted again with it."""


def admit(source: Source, request: Request, now: float) -> Admitted:
    """Verify a delivery and make it a message, or answer it if it is a question; `now` is Unix
    time in seconds.

    Without an ID it gets a fresh one; one that follows from its token, where it has one, for the
    same token again is the same delivery again.
    """
    delivery = delivery_of(source, request)
    verdict = source.scheme.verify(delivery, now)
    if isinstance(verdict, NeedsCertificate):
        return verdict
    if isinstance(verdict, Refused):
        answer = handshake.unsigned(source, delivery)
        return answer or Refusal(401, verdict.code, verdict.detail)
    answered = handshake.question(source, delivery, verdict)
    if answered is not None:
        return answered
    identity = source.identify(request.headers, request.body)
    if isinstance(identity, Refused):
        return Refusal(401, identity.code, identity.detail)
    # A signed ID is as good: what comes again under it is a repeat.
    token = None if identity.id_is_signed else verdict.token
    return Arrival(
        id=identity.id or (f"hm_{token.digest.hex()}" if token else fresh_id()),
        source=source.name,
        type=identity.type,
        body=request.body,
        received_ms=int(now * 1000),
        header_block=pack_headers(request.raw_headers, source.secret_header),
        key=source.key_of(request.body),
        token=token,
        # Not where the ID follows from the token: the same one, with a header that names another
        # ID, has to be looked for in the same partition.
        id_is_signed=identity.id_is_signed,
        secret=verdict.secret,
    )


def delivery_of(source: Source, request: Request) -> Signed:
    """Return what a scheme judges of a request."""
    # By position: a name costs as much as the field.
    return Signed(request.headers, request.body, request.target, "POST", source.url)


def precheck(
    method: str,
    headers: MultiMapping[str],
    length: int | None,
    limit: int,
    *,
    also: Container[str] = (),
) -> Refusal | None:
    """Judge what can be judged before the body is read. `also` are methods besides POST."""
    if method != "POST" and method not in also:
        return Refusal(405, "method_not_allowed", "deliveries are sent with POST")
    if _CONTENT_ENCODING in headers and any(
        encoding.strip().lower() != "identity" for encoding in headers.getall(_CONTENT_ENCODING)
    ):
        # The signature covers bytes; which ones an encoding leaves to sign is anybody's guess.
        return Refusal(415, "content_encoding", "send the body without a Content-Encoding")
    if length is not None and length > limit:
        return too_large(limit)
    return None


def too_large(limit: int) -> Refusal:
    """Say that a body is larger than the limit (bytes)."""
    return Refusal(413, "too_large", f"a body may have {limit} bytes")
