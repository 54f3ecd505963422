"""A message on its way into the stream, and the row that is appended for it. No I/O.

A delivery may come with a signed token. The append remembers the token until it expires, so that
nobody can capture the delivery and send it again under another ID.
"""

from __future__ import annotations

import hashlib

import msgspec

from hookmill.message import (
    BAGGAGE_FIELD,
    PACKED,
    PACKED_VERSION,
    SAFE_VERSION,
    TRACE_FIELD,
    WINDOW_FIELD,
    Fields,
    Message,
    body_of,
)
from hookmill.signatures.scheme import Token

_blank = hashlib.blake2b(digest_size=16)

_LONGEST = 366 * 86_400_000
"""Milliseconds for which a token is remembered at most, whatever expiry it has."""


class Arrival(Message, frozen=True, kw_only=True):
    """An accepted webhook, and the token that it came with where its scheme has tokens.

    `id_is_signed` says whether the sender's signature covers the ID. `secret` is the position of
    the secret that verified the webhook, 0 for the first. `trace` is the `traceparent` of its trace
    and `baggage` the W3C baggage that goes with that; empty where there is none. `window` is the
    duplicate window of its source (seconds), 0 where that has none of its own.
    """

    token: Token | None = None
    id_is_signed: bool = False
    secret: int = 0
    trace: bytes = b""
    baggage: bytes = b""
    window: int = 0


# The spool stores rows with these names, so `partition_key` keeps its first name there.
class Row(msgspec.Struct, frozen=True, rename={"partition_key": "spread"}):
    """What is appended, or spooled until it can be.

    `fields` are the entry's. `token` is the digest of the delivery's token (empty: it has none),
    `expires` when the token expires (Unix seconds), `remember_ms` for how many milliseconds to
    remember it. The partition follows from `partition_key`, or from the body where that is empty.
    """

    fields: Fields
    token: bytes = b""
    expires: int = 0
    remember_ms: int = 0
    partition_key: bytes = b""

    def partition(self, partitions: int) -> int:
        """Return the number of this row's partition, if the stream has that many partitions."""
        return _partition_by(self.partition_key or body_of(self.fields), partitions)

    def in_version_2(self) -> Row:
        """Return the row with fields that receivers and workers of release 0.1 can read, too. A
        window of the source's own is left out: they do not know it, and the workers' is longer.
        """
        if PACKED not in self.fields and WINDOW_FIELD not in self.fields:
            return self
        fields = Message.from_fields(self.fields).to_fields(SAFE_VERSION)
        for name in TRACE_FIELD, BAGGAGE_FIELD:
            if name in self.fields:
                fields[name] = self.fields[name]
        return msgspec.structs.replace(self, fields=fields)


def partition_of(message: Message, partitions: int) -> int:
    """Return the number of a message's partition, if the stream has that many partitions."""
    return _partition_by(_partition_key_of(message) or message.body, partitions)


def _partition_by(key: bytes, partitions: int) -> int:
    if partitions == 1:
        return 0
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) % partitions


def row_of(message: Message, wire_version: int = SAFE_VERSION) -> Row:
    """Write a message as a row."""
    fields, partition_key = message.to_fields(wire_version), _partition_key_of(message)
    token = None
    if isinstance(message, Arrival):
        token = message.token
        if message.trace:
            fields |= _trace_fields(message)
        # A worker that does not read this version would not find an ID that was recorded apart.
        if message.window and wire_version == PACKED_VERSION:
            fields[WINDOW_FIELD] = b"%d" % message.window
    if token is None:
        return Row(fields, partition_key=partition_key)
    # Counted from the receipt. A Redis whose clock is ahead, or a time in the spool, must not make
    # it shorter.
    remember_ms = token.expires * 1000 - message.received_ms
    if not 0 < remember_ms <= _LONGEST:
        remember_ms = min(max(remember_ms, 1), _LONGEST)
    # With the source's name: two sources that get the same token do not share its use.
    digest = _blank.copy()  # a copy is faster than a new one
    digest.update(message.source.encode("utf-8", "surrogatepass") + b"\0" + token.digest)
    return Row(fields, digest.digest(), token.expires, remember_ms, partition_key)


def _trace_fields(arrival: Arrival) -> Fields:
    fields = {TRACE_FIELD: arrival.trace}
    if arrival.baggage:
        fields[BAGGAGE_FIELD] = arrival.baggage
    return fields


def _partition_key_of(message: Message) -> bytes:
    """Return what decides the partition: the ordering key, else the signed ID, else b"" (then the
    body decides).

    Only signed data counts. Otherwise a copy with a changed header would go to another partition,
    where its ID and its token are not known.
    """
    if message.key:
        name = f"{message.source}\0{message.key}"
    elif isinstance(message, Arrival) and message.id_is_signed:
        name = f"{message.source}\0{message.id}"
    else:
        return b""
    return name.encode("utf-8", "surrogatepass")
