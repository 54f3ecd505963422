"""`Message`: an accepted webhook at rest, and its wire format with the format's version.

This module alone knows how a message is written into stream fields. It does no I/O. What a
consumer group adds while it works on a message (`Progress`) travels beside the message's own
fields and never touches them, so a message of an unknown version survives unread.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from hookmill.errors import WireVersionError

WIRE_VERSION, OLDER_VERSION = b"2", b"1"
"""The version that is written, and the one that is read beside it."""

Fields = dict[bytes, bytes]
"""A stream entry's fields as Redis holds them."""

# Not kept at rest: credentials, and headers that speak of the connection rather than the message.
_DROPPED_HEADERS = frozenset(
    {
        b"authorization",
        b"connection",
        b"content-length",
        b"cookie",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


class About(msgspec.Struct, frozen=True, array_like=True):
    """What a message is about, as one field holds it: each field of an entry costs time in Redis,
    on the way and in Python. It is an array there, for names would cost memory in every entry.
    """

    source: str
    type: str
    received_ms: Annotated[int, msgspec.Meta(ge=0)]


_write_about = msgspec.json.Encoder().encode
_read_about = msgspec.json.Decoder(About).decode


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted webhook: exactly the bytes that were verified, and where they came from.

    `id` is the sender's message ID, or a fresh one where the sender gave none; `type` is the
    event's name, `""` where the body has none; `received_ms` is Unix time in milliseconds. Messages
    of a source with the same `key` run one after another; `""` waits for no other.
    """

    id: str
    source: str
    type: str
    body: bytes
    received_ms: int
    header_block: bytes = b""
    key: str = ""

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The delivery's headers, case-insensitive. Credentials are not kept.

        Bytes that are not UTF-8 appear as surrogate escapes, as aiohttp shows them.
        """
        headers = CIMultiDict[str]()
        for line in self.header_block.split(b"\r\n"):
            name, separator, value = line.partition(b": ")
            if separator:
                headers.add(_text(name), _text(value))
        return CIMultiDictProxy(headers)

    @property
    def received_at(self) -> datetime:
        """When the receiver took the message in (UTC, milliseconds)."""
        return datetime.fromtimestamp(self.received_ms / 1000, UTC)

    @property
    def digest(self) -> bytes:
        """The 16 bytes by which a group remembers this message's ID. IDs count per source."""
        name = f"{self.source}\0{self.id}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(name, digest_size=16).digest()

    def to_fields(self) -> Fields:
        """Write the message as stream fields, always in the same order (Redis then stores the
        names once for a node of entries). An ordering key stands there as in version 1, with the
        source it counts in: so a worker of any release waits for the same ones.
        """
        fields = {
            b"version": WIRE_VERSION,
            b"digest": self.digest,
            b"id": self.id.encode(),
            b"about": _write_about(About(self.source, self.type, self.received_ms)),
            b"headers": self.header_block,
            b"body": self.body,
        }
        if self.key:
            fields[b"source"] = self.source.encode()
            fields[b"key"] = self.key.encode()
        return fields

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> Message:
        """Read a message; raise `WireVersionError` when its version is not ours."""
        try:
            if fields.get(b"version") != WIRE_VERSION:
                return cls._from_older(fields)
            about = _read_about(fields[b"about"])
            return cls(
                id=fields[b"id"].decode(),
                source=about.source,
                type=about.type,
                received_ms=about.received_ms,
                header_block=fields[b"headers"],
                body=fields[b"body"],
                key=fields[b"key"].decode() if b"key" in fields else "",
            )
        except KeyError as error:
            raise WireVersionError(f"not an entry of ours: no field {error}") from None
        except (ValueError, RecursionError) as error:
            raise WireVersionError(f"not an entry of ours: {error}") from None

    @classmethod
    def _from_older(cls, fields: Mapping[bytes, bytes]) -> Message:
        """Read what an older release wrote: each thing is a field of its own."""
        version = fields.get(b"version")
        if version != OLDER_VERSION:
            shown = "none" if version is None else ascii(version.decode("ascii", "replace"))
            raise WireVersionError(f"wire version {shown}; this release reads versions 1 and 2")
        return cls(
            id=fields[b"id"].decode(),
            source=fields[b"source"].decode(),
            type=fields[b"type"].decode(),
            received_ms=int(fields[b"received"]),
            header_block=fields[b"headers"],
            body=fields[b"body"],
            key=fields.get(b"key", b"").decode(),
        )


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far one consumer group has come with one message. Times are Unix milliseconds.

    `owner` is the token by which the group knows who owns the message's ID: the ID of the first
    stream entry that carried it. `handler` is the handler this entry is for (`""`: not yet
    dispatched); `attempts` counts those that failed; `failed_ms` is when the first one did, and
    `unknown_ms` since when no release has known what to do with it; 0 where that is not so.
    """

    owner: str
    handler: str = ""
    attempts: int = 0
    failed_ms: int = 0
    unknown_ms: int = 0

    def to_fields(self) -> Fields:
        """Write it as fields to stand beside the message's own."""
        return {
            b"owner": self.owner.encode(),
            b"handler": self.handler.encode(),
            b"attempts": b"%d" % self.attempts,
            b"failed": b"%d" % self.failed_ms,
            b"unknown": b"%d" % self.unknown_ms,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes], entry_id: str) -> Progress:
        """Read it back. An entry straight from the receivers has none: it owns itself.

        It has no version to be judged by, so nothing in it raises: what cannot be read counts as
        not there, and the message goes on.
        """
        owner = fields.get(b"owner")
        if owner is None:
            return cls(owner=entry_id)
        return cls(
            owner=owner.decode("utf-8", "replace"),
            handler=fields.get(b"handler", b"").decode("utf-8", "replace"),
            attempts=_number(fields, b"attempts"),
            failed_ms=_number(fields, b"failed"),
            unknown_ms=_number(fields, b"unknown"),
        )


class Death(msgspec.Struct, frozen=True, kw_only=True):
    """Why a message lies in the dead letters: a short `reason`, and the error in full."""

    reason: str
    error: str
    died_ms: int

    def to_fields(self) -> Fields:
        """Write it as fields to stand beside the message's and the progress's."""
        return {
            b"reason": self.reason.encode(),
            b"error": self.error.encode("utf-8", "backslashreplace"),
            b"died": b"%d" % self.died_ms,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> Death:
        """Read it back."""
        return cls(
            reason=fields.get(b"reason", b"").decode("utf-8", "replace"),
            error=fields.get(b"error", b"").decode("utf-8", "replace"),
            died_ms=_number(fields, b"died"),
        )


RESET_BY_REPLAY = (b"attempts", b"failed", b"unknown", b"reason", b"error", b"died")
"""The fields a dead letter leaves behind when it is replayed; its owner and handler stay."""


def about_of(fields: Mapping[bytes, bytes]) -> About:
    """Say what an entry is about as far as it tells, also one that this release cannot read."""
    try:
        return _read_about(fields[b"about"])
    except (KeyError, ValueError, RecursionError):
        return About(
            source=fields.get(b"source", b"").decode("utf-8", "replace"),
            type=fields.get(b"type", b"").decode("utf-8", "replace"),
            received_ms=_number(fields, b"received"),
        )


def delivery_name(fields: Mapping[bytes, bytes]) -> bytes:
    """Tell an entry from all others, also from a later delivery of the same message ID."""
    names = (b"digest", b"id", b"about", b"received")
    return b"\0".join(fields.get(name, b"") for name in names)


def fresh_id() -> str:
    """Make an ID for a delivery that came without one."""
    return f"hm_{uuid.uuid4().hex}"


def pack_headers(pairs: tuple[tuple[bytes, bytes], ...], secret: bytes = b"") -> bytes:
    """Join raw header pairs as they stood on the wire, less those that are not kept, nor the one
    (in lower case) that is a secret itself.
    """
    dropped = _DROPPED_HEADERS | {secret} if secret else _DROPPED_HEADERS
    return b"\r\n".join([b": ".join(pair) for pair in pairs if pair[0].lower() not in dropped])


def _number(fields: Mapping[bytes, bytes], name: bytes) -> int:
    try:
        return max(0, int(fields.get(name, b"0")))
    except ValueError:
        return 0


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
