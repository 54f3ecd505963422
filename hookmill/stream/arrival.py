"""A message on its way into the stream, with the signed token it came with. No I/O.

The append remembers a token until it expires, so that whoever captures a delivery cannot send it
again under another ID. A `Row` is what is appended or spooled: fields that pass through unread.
"""

from __future__ import annotations

import hashlib

import msgspec

from hookmill.message import Fields, Message
from hookmill.signatures.scheme import Token

_LONGEST = 366 * 86_400_000
"""Milliseconds for which a token is remembered at most, whatever it says of itself."""


class Arrival(Message, frozen=True, kw_only=True):
    """An accepted webhook and the token that vouched for it, where its scheme has tokens.

    `id_is_signed` says whether the sender's signature covers the ID, `secret` is the position of
    the secret that verified it.
    """

    token: Token | None = None
    id_is_signed: bool = False
    secret: int = 0


class Row(msgspec.Struct, frozen=True):
    """What is appended: an entry's fields, and of its token the digest (none: empty), when it
    expires (Unix time, seconds) and for how many milliseconds to remember it. The partition
    follows `spread` (empty: the body).
    """

    fields: Fields
    token: bytes = b""
    expires: int = 0
    remember_ms: int = 0
    spread: bytes = b""

    def partition(self, partitions: int) -> int:
        """Return which of so many partitions this belongs to."""
        spread = self.spread or self.fields.get(b"body", b"")
        return int.from_bytes(hashlib.blake2b(spread, digest_size=8).digest()) % partitions


def row_of(message: Message) -> Row:
    """Write a message as a row."""
    fields, spread = message.to_fields(), _spread(message)
    token = message.token if isinstance(message, Arrival) else None
    if token is None:
        return Row(fields, spread=spread)
    # Counted from the receipt, so that neither Redis' clock nor a time in the spool shortens it.
    remaining = token.expires * 1000 - message.received_ms
    remember_ms = min(max(remaining, 1), _LONGEST)
    # Of two sources that are sent the same, each has its own.
    name = message.source.encode("utf-8", "surrogatepass") + b"\0" + token.digest
    digest = hashlib.blake2b(name, digest_size=16).digest()
    return Row(fields, digest, token.expires, remember_ms, spread)


def _spread(message: Message) -> bytes:
    """Return what the partition follows: only what is signed, so that nobody can have a repeat
    looked for where its ID is not known, by changing a header.
    """
    if message.key:
        name = f"{message.source}\0{message.key}"
    elif isinstance(message, Arrival) and message.id_is_signed:
        name = f"{message.source}\0{message.id}"
    else:
        return b""
    return name.encode("utf-8", "surrogatepass")
