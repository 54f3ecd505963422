"""`Message`: a stored webhook, and its wire format with the version of that format. No I/O.

Only this module knows how a message is written into the fields of a stream entry. What a consumer
group adds while it works on a message (`Progress`, `Death`) are fields of their own beside those of
the message. So a message of an unknown version can be passed on without being read.
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
from hookmill.stored_headers import StoredNames

WIRE_VERSIONS = (1, 2, 3)
"""The versions that are read."""

SAFE_VERSION, PACKED_VERSION = 2, 3
"""The versions that are written: what every release reads, and what costs less."""

LARGEST_PACKED = 16 * 1024
"""The bytes of the largest body that version 3 packs. Packing copies it, which costs more than it
saves for a larger one: its message is written in version 2, where the body is a field of its own.
"""

PACKED = b"v3"
"""The field in which version 3 holds all but what the scripts read."""

Fields = dict[bytes, bytes]
"""The fields of a stream entry, as Redis holds them."""


class About(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Three facts about a message that are stored in one field, because each field costs time in
    Redis, on the network and in Python. It is a JSON array, because names would cost memory.
    """

    source: str
    type: str
    received_ms: Annotated[int, msgspec.Meta(ge=0)]


class _Packed(About, frozen=True, array_like=True, gc=False):
    """What version 3 holds in one field. A list of messages has it without headers and body."""

    header_block: bytes = b""
    body: bytes = b""


_write_about = msgspec.json.Encoder().encode
_read_about = msgspec.json.Decoder(About).decode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Packed).decode
_about_in = msgspec.msgpack.Decoder(About).decode
_blank = hashlib.blake2b(digest_size=16)


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An accepted webhook: exactly the bytes that were verified, and where they came from.

    `id` is the sender's message ID, or a new one if the sender gave none. `type` is the name of the
    event, `""` if it has none. `received_ms` is Unix time in milliseconds. `key` is the ordering
    key: messages of a source with the same key run one after another; `""` means no key.
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
        """The headers of the delivery, case-insensitive, without credentials.

        Bytes that are not UTF-8 appear as surrogate escapes, as in aiohttp.
        """
        headers = CIMultiDict[str]()
        for line in self.header_block.split(b"\r\n"):
            name, separator, value = line.partition(b": ")
            if separator:
                headers.add(_text(name), _text(value))
        return CIMultiDictProxy(headers)

    @property
    def received_at(self) -> datetime:
        """When the receiver accepted the message (UTC, to the millisecond)."""
        return datetime.fromtimestamp(self.received_ms / 1000, UTC)

    @property
    def digest(self) -> bytes:
        """The 16 bytes that a group remembers of this message's ID. Each source has its own IDs."""
        digest = _blank.copy()  # a copy is faster than a new one
        digest.update(f"{self.source}\0{self.id}".encode("utf-8", "surrogatepass"))
        return digest.digest()

    def to_fields(self, version: int = SAFE_VERSION) -> Fields:
        """Return the message as fields of a stream entry, in version 2 or 3.

        Their order is always the same, so that Redis stores the names only once for many entries.
        Digest, ID, ordering key and its source are fields in every version, so that workers of all
        releases drop the same duplicates and wait for the same messages.
        """
        if version == PACKED_VERSION and len(self.body) <= LARGEST_PACKED:
            about = (self.source, self.type, self.received_ms, self.header_block, self.body)
            fields = {b"digest": self.digest, b"id": self.id.encode(), PACKED: _pack(about)}
        else:
            fields = {
                b"version": b"2",
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
        """Read a message. Raises `WireVersionError` if this release does not know its version."""
        try:
            if PACKED not in fields:
                return cls._from_older(fields)
            packed = _unpack(fields[PACKED])
            return cls(
                id=fields[b"id"].decode(),
                source=packed.source,
                type=packed.type,
                received_ms=packed.received_ms,
                header_block=packed.header_block,
                body=packed.body,
                key=fields[b"key"].decode() if b"key" in fields else "",
            )
        except KeyError as error:
            raise WireVersionError(f"not an entry of ours: no field {error}") from None
        except (ValueError, RecursionError) as error:
            raise WireVersionError(f"not an entry of ours: {error}") from None

    @classmethod
    def _from_older(cls, fields: Mapping[bytes, bytes]) -> Message:
        """Read a message of version 2, or of 1, in which each fact is a field of its own."""
        version = fields.get(b"version")
        if version == b"2":
            about = _read_about(fields[b"about"])
        elif version == b"1":
            source, event_type = fields[b"source"].decode(), fields[b"type"].decode()
            about = About(source, event_type, int(fields[b"received"]))
        else:
            shown = _shown_version(fields)
            raise WireVersionError(f"wire version {shown}; this release reads versions 1 to 3")
        return cls(
            id=fields[b"id"].decode(),
            source=about.source,
            type=about.type,
            received_ms=about.received_ms,
            header_block=fields[b"headers"],
            body=fields[b"body"],
            key=fields[b"key"].decode() if b"key" in fields else "",
        )


class Progress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The state of one message in one consumer group. Times are Unix milliseconds, 0 means never.

    `owner` tells the group which entry owns the message's ID: it is the ID of the first stream
    entry with that message. `handler` is the handler that this entry is for (`""` if none was found
    yet). `attempts` counts the failed ones, and `failed_ms` is the time of the first of them.
    `unknown_ms` is the time since which no worker has known the event type. `moved_ms` is when a
    worker without a free thread last requeued it for another one.
    """

    owner: str
    handler: str = ""
    attempts: int = 0
    failed_ms: int = 0
    unknown_ms: int = 0
    moved_ms: int = 0

    def to_fields(self) -> Fields:
        """Return it as fields to add to those of the message."""
        fields = {
            b"owner": self.owner.encode(),
            b"handler": self.handler.encode(),
            b"attempts": b"%d" % self.attempts,
            b"failed": b"%d" % self.failed_ms,
            b"unknown": b"%d" % self.unknown_ms,
        }
        if self.moved_ms:
            fields[b"moved"] = b"%d" % self.moved_ms
        return fields

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes], entry_id: str) -> Progress:
        """Read it. An entry from a receiver has no such fields: it is its own owner.

        These fields have no version, so this never raises. A field that cannot be read counts as
        missing, so that the message is still handled.
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
            moved_ms=_number(fields, b"moved"),
        )


class Death(msgspec.Struct, frozen=True, kw_only=True):
    """Why a message is a dead letter: a short `reason`, and the full text of the error."""

    reason: str
    error: str
    died_ms: int

    def to_fields(self) -> Fields:
        """Return it as fields to add to those of the message and of its progress."""
        return {
            b"reason": self.reason.encode("utf-8", "backslashreplace"),
            b"error": self.error.encode("utf-8", "backslashreplace"),
            b"died": b"%d" % self.died_ms,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> Death:
        """Read it. A field that cannot be read counts as missing."""
        return cls(
            reason=fields.get(b"reason", b"").decode("utf-8", "replace"),
            error=fields.get(b"error", b"").decode("utf-8", "replace"),
            died_ms=_number(fields, b"died"),
        )


MAX_LAST_ERROR = 2000
"""Characters of an error that are kept while its message waits for the next attempt: the last ones,
because very many messages may wait.
"""


def last_error_fields(error: str) -> Fields:
    """Return the error of a failed attempt as a field to add; no field where there is none. The
    next failure replaces it.
    """
    kept = error[-MAX_LAST_ERROR:].encode("utf-8", "backslashreplace")
    return {b"error": kept} if kept else {}


class GivenUp(msgspec.Struct, frozen=True, kw_only=True):
    """A message that has become a dead letter, as a function of `@handlers.on_dead` gets it.

    `message` is None if this release cannot read it; then `message_id`, `source` and `type` have
    what could be read. `handler` is the handler that failed (`""` if none was found), `attempts`
    counts the failed attempts. `reason` and `error` are those of the dead letter; the last line of
    `error` sums it up.
    """

    message: Message | None
    message_id: str
    source: str
    type: str
    handler: str
    attempts: int
    reason: str
    error: str


RESET_BY_REPLAY = (b"attempts", b"failed", b"unknown", b"reason", b"error", b"died")
"""The fields that are removed from a dead letter at its replay. Owner and handler stay."""

HANDLER_FIELD = b"handler"
"""The field with the name of the handler that an entry is for."""

WINDOW_FIELD = b"window"
"""The field that a receiver adds where the source has a duplicate window of its own: seconds. It is
beside the message, and only what reads version 3 knows it.
"""

TRACE_FIELD, BAGGAGE_FIELD = b"trace", b"baggage"
"""The fields that a receiver adds which makes traces: beside the message, and in every version the
same. They are there only if they hold something.
"""


def about_of(fields: Mapping[bytes, bytes]) -> About:
    """Return the facts about an entry as far as they can be read, for any version."""
    try:
        return _about_in(fields[PACKED]) if PACKED in fields else _read_about(fields[b"about"])
    except (KeyError, ValueError, RecursionError):
        return About(
            source=fields.get(b"source", b"").decode("utf-8", "replace"),
            type=fields.get(b"type", b"").decode("utf-8", "replace"),
            received_ms=_number(fields, b"received"),
        )


def body_of(fields: Mapping[bytes, bytes]) -> bytes:
    """Return the body of a message that this release wrote, for any version."""
    return _unpack(fields[PACKED]).body if PACKED in fields else fields.get(b"body", b"")


def fresh_id() -> str:
    """Return a new message ID, for a delivery that came without one."""
    return f"hm_{uuid.uuid4().hex}"


def pack_headers(pairs: tuple[tuple[bytes, bytes], ...], secret: bytes = b"") -> bytes:
    """Join raw header pairs as they were on the wire, without those that are not stored:
    credentials, and headers about the connection instead of the message.

    `secret` (in lower case) is the header that holds the secret itself, if there is one.
    """
    if secret:
        pairs = tuple(pair for pair in pairs if pair[0].lower() != secret)
    return b"\r\n".join([b": ".join(pair) for pair in pairs if _is_stored[pair[0]]])


_is_stored = StoredNames()


def _shown_version(fields: Mapping[bytes, bytes]) -> str:
    """Return the version of an entry as an error says it. From 3 on, a field is named after it."""
    names = [name[1:] for name in fields if name.startswith(b"v") and name[1:].isdigit()]
    version = fields.get(b"version", names[0] if names else None)
    return "none" if version is None else ascii(version.decode("ascii", "replace"))


def _number(fields: Mapping[bytes, bytes], name: bytes) -> int:
    try:
        return max(0, int(fields.get(name, b"0")))
    except ValueError:
        return 0


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
