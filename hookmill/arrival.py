"""A message on its way into the stream, with the signed token it came with. No I/O.

The append remembers a token until it expires, so that whoever captures a delivery cannot send it
again under another ID. A `Row` is what is appended or spooled: fields that pass through unread.
"""

from __future__ import annotations

from typing import NamedTuple

from hookmill.message import Fields, Message
from hookmill.signatures.scheme import Token

_LONGEST = 366 * 86_400_000
"""Milliseconds for which a token is remembered at most, whatever it says of itself."""


class Arrival(Message, frozen=True, kw_only=True):
    """An accepted webhook and the token that vouched for it, where its scheme has tokens."""

    token: Token | None = None


class Row(NamedTuple):
    """What is appended: an entry's fields, and of its token the digest (none: empty), when it
    expires (Unix time, seconds) and for how many milliseconds to remember it.
    """

    fields: Fields
    token: bytes = b""
    expires: int = 0
    remember_ms: int = 0


def row_of(message: Message) -> Row:
    """Write a message as a row."""
    token = message.token if isinstance(message, Arrival) else None
    if token is None:
        return Row(message.to_fields())
    # Counted from the receipt, so that neither Redis' clock nor a time in the spool shortens it.
    remaining = token.expires * 1000 - message.received_ms
    return Row(message.to_fields(), token.digest, token.expires, min(max(remaining, 1), _LONGEST))
