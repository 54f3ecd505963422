"""Turns a request into an `Arrival` (a message to be stored), a `Reply` or a `Refusal`. No I/O.

The signature is verified before anything else reads the body. No request, however malformed, makes
this raise.
"""

from __future__ import annotations

from collections.abc import Container

import msgspec
from multidict import MultiMapping, istr

from hookmill.config.sources import Source
from hookmill.message import fresh_id, pack_headers
from hookmill.signatures import Refused, Signed
from hookmill.signatures.scheme import NeedsCertificate, Verified
from hookmill.stream.arrival import Arrival
from receiver import handshake
from receiver.responses import Refusal, Reply, refusal_of

_CONTENT_ENCODING = istr("Content-Encoding")  # an istr, so that it is put in lower case only once

RawHeaders = tuple[tuple[bytes, bytes], ...]


class ReceivedRequest(msgspec.Struct, frozen=True):
    """A request as it was sent. `target` is its path and query, unchanged."""

    target: str
    headers: MultiMapping[str]
    raw_headers: RawHeaders
    body: bytes


Admitted = Arrival | Reply | Refusal | NeedsCertificate
"""What a request turns into. `NeedsCertificate`: call `admit` again when the scheme has it."""


def admit(source: Source, request: ReceivedRequest, now: float) -> Admitted:
    """Verify a delivery and make a message of it, or reply to it if it is a handshake's question.
    `now` is Unix time in seconds.

    A delivery without an ID gets one. If it was signed with a token, the ID follows from the token,
    because the same token again means the same delivery again. Otherwise the ID is random.
    """
    delivery = delivery_of(source, request)
    verdict = source.scheme.verify(delivery, now)
    if not isinstance(verdict, Verified):
        return _unverified(source, delivery, verdict)
    if source.handshake:
        answered = handshake.reply_to_verified(source, delivery, verdict)
        if answered is not None:
            return answered
    identity = source.identify(request.headers, request.body)
    if isinstance(identity, Refused):
        return refusal_of(identity)
    # A signed ID needs no token: the workers drop a message with the same ID as a duplicate.
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
        # False for an ID that follows from the token, so that the partition does not depend on it:
        # a token that is used again with an ID header must be looked for in the same partition.
        id_is_signed=identity.id_is_signed,
        secret=verdict.secret,
        window=source.window,
    )


def _unverified(
    source: Source, delivery: Signed, verdict: Refused | NeedsCertificate
) -> Reply | Refusal | NeedsCertificate:
    if isinstance(verdict, NeedsCertificate):
        return verdict
    return handshake.reply_to_unsigned(source, delivery) or refusal_of(verdict)


def delivery_of(source: Source, request: ReceivedRequest) -> Signed:
    """Return the parts of a request that a scheme verifies."""
    # By position, because keyword arguments would double the cost.
    return Signed(request.headers, request.body, request.target, "POST", source.url)


def precheck(
    method: str,
    headers: MultiMapping[str],
    length: int | None,
    limit: int,
    *,
    also: Container[str] = (),
) -> Refusal | None:
    """Check what can be checked before the body is read. `also` are methods besides POST."""
    if method != "POST" and method not in also:
        return Refusal(405, "method_not_allowed", "deliveries are sent with POST")
    if _CONTENT_ENCODING in headers and any(
        encoding.strip().lower() != "identity" for encoding in headers.getall(_CONTENT_ENCODING)
    ):
        # A signature covers bytes, and it is not known whether before or after the encoding.
        return Refusal(415, "content_encoding", "send the body without a Content-Encoding")
    if length is not None and length > limit:
        return too_large(limit)
    return None


def too_large(limit: int) -> Refusal:
    """Return the refusal of a body that is larger than the limit (bytes)."""
    return Refusal(413, "too_large", f"a body may have at most {limit} bytes")
