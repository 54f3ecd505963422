"""QStash's callbacks about the delivery of a message, as typed events.

A callback has no name on the wire: receiver and decoder find out from its fields which of the three
events it is. Only `sourceMessageId` is required, and `dlqId` for a failure. A field that is
missing, null or unreadable (a redacted body) is `UNSET` (falsy), so that the news of a failed
delivery is not lost because of it. The original bytes stay in the message.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from hookmill.errors import DecodeError
from hookmill.events import Event, Schema, SchemaOf, decode
from hookmill.message import Message, pack_headers

Text: TypeAlias = str | UnsetType
Number: TypeAlias = int | UnsetType
Content: TypeAlias = bytes | UnsetType
Moment: TypeAlias = datetime | UnsetType
"""A time in UTC; on the wire, Unix milliseconds."""

Headers: TypeAlias = dict[str, tuple[str, ...]]
"""The values of each header by its name, written as QStash writes it (`Content-Type`)."""

_E = TypeVar("_E", bound=Event)
_SPELT = {"headers": "header", "source_headers": "sourceHeader", "caller_ip": "callerIP"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def _on_the_wire(name: str) -> str:
    first, *others = name.split("_")
    return _SPELT.get(name) or first + "".join(map(str.capitalize, others))


class Callback(Event, rename=_on_the_wire):
    """The base class of QStash's callbacks about the message `source_message_id`.

    To handle all three in one function, `async def note(delivery: Delivery[Callback])`, register it
    once for each.
    """

    source_message_id: str
    """The ID of the published message. (The callback is a message with another ID.)"""

    status: Number = UNSET
    """The status of the endpoint's answer."""
    headers: Headers = msgspec.field(default_factory=dict)
    """The headers of the answer."""
    body: Content = UNSET
    """The body of the answer, which QStash may have cut off."""
    retried: Number = UNSET
    """The number of attempts before this one: 0 for the first."""
    max_retries: Number = UNSET
    """The most attempts after the first one."""

    url: Text = UNSET
    """The destination of the message."""
    method: Text = UNSET
    source_headers: Headers = msgspec.field(default_factory=dict)
    """The headers of the published message."""
    source_body: Content = UNSET
    """The body of the published message."""
    created_at: Moment = UNSET
    """When it was published."""
    not_before: Moment = UNSET
    """The time before which it was not to be delivered."""
    topic_name: Text = UNSET
    """The URL group it was published to."""
    endpoint_name: Text = UNSET
    """The name of the endpoint in that group."""
    schedule_id: Text = UNSET
    """The schedule that published it."""
    caller_ip: Text = UNSET
    """The address that published it."""

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Decode a callback. Raises `DecodeError` for another event's callback, too."""
        wire = decode(_wire, message.body)
        found = type_of(message.body)
        if found != cls.tag:
            shown = f"`{found}`" if found else "no callback"
            raise DecodeError(f"Expected the callback `{cls.tag}`, got {shown}")
        return cls(**_read(wire, cls))

    @classmethod
    def wire_body(cls, name: str, schema_of: SchemaOf) -> Schema:  # noqa: ARG003 - it has no name
        """Return the JSON Schema of a callback's body."""
        return schema_of(CallbackBody)

    def source_event(self, event: type[_E]) -> _E:
        """Decode the body of the published message into an event of this class.

        Raises `DecodeError` if it does not fit, or if the callback does not contain it.
        """
        if self.source_body is UNSET:
            raise DecodeError(
                "the callback does not hold the published body in base64 - at `$.sourceBody`"
            )
        published = Message(
            id=self.source_message_id,
            source="qstash",
            type=event.tag,
            body=self.source_body,
            received_ms=_milliseconds(self.created_at),
            header_block=pack_headers(
                tuple(
                    (name.encode(), value.encode())
                    for name, values in self.source_headers.items()
                    for value in values
                )
            ),
        )
        try:
            return event.from_message(published)
        except DecodeError as error:
            raise DecodeError(f"in the published body, `$.sourceBody`: {error}") from None


class DeliverySucceeded(Callback, tag="delivery.succeeded"):
    """The endpoint accepted the message: it answered with 2xx."""


class AttemptFailed(Callback, tag="delivery.attempt_failed"):
    """One attempt failed. QStash tries again until `retried` is `max_retries`, unless the endpoint
    told it not to.
    """


class DeliveryFailed(Callback, tag="delivery.failed"):
    """QStash does not try again. The message is in its dead-letter queue as `dlq_id`."""

    dlq_id: str


EVENTS: tuple[type[Callback], ...] = (DeliverySucceeded, AttemptFailed, DeliveryFailed)
"""Every event of this module."""


# --- which event it is ---


class _Marks(msgspec.Struct, rename="camel"):
    """The fields that tell callbacks apart. Others are skipped, which saves time."""

    source_message_id: Raw | UnsetType = UNSET
    dlq_id: Raw | UnsetType = UNSET
    status: Raw | UnsetType = UNSET


_marks = msgspec.json.Decoder(_Marks)
_text = msgspec.json.Decoder(str)
_number = msgspec.json.Decoder(int, strict=False)


def type_of(body: bytes) -> str:
    """Return the name of a callback's event; "" if the body is no callback.

    A message in the dead-letter queue has failed, whatever its last status was. An attempt without
    a status counts as failed, because nothing says that it succeeded.
    """
    try:
        marks = _marks.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    if _value(_text, marks.dlq_id):
        return DeliveryFailed.tag
    if not _value(_text, marks.source_message_id):
        return ""
    is_success = 200 <= (_value(_number, marks.status) or 0) <= 299
    return DeliverySucceeded.tag if is_success else AttemptFailed.tag


_V = TypeVar("_V")


def _value(decoder: msgspec.json.Decoder[_V], value: Raw | UnsetType) -> _V | None:
    if value is UNSET:
        return None
    try:
        return decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


# --- its fields ---

_WireText: TypeAlias = str | UnsetType | None
_WireNumber: TypeAlias = int | UnsetType | None
_WireMoment: TypeAlias = str | int | UnsetType | None
_WireHeaders: TypeAlias = dict[str, tuple[str, ...] | str | None] | str | UnsetType | None


class CallbackBody(msgspec.Struct, frozen=True, kw_only=True, rename=_on_the_wire):
    """A callback as it is on the wire. A number may be written as text."""

    source_message_id: str
    dlq_id: _WireText = UNSET
    status: _WireNumber = UNSET
    headers: _WireHeaders = UNSET
    body: _WireText = UNSET
    retried: _WireNumber = UNSET
    max_retries: _WireNumber = UNSET
    url: _WireText = UNSET
    method: _WireText = UNSET
    source_headers: _WireHeaders = UNSET
    source_body: _WireText = UNSET
    created_at: _WireMoment = UNSET
    not_before: _WireMoment = UNSET
    topic_name: _WireText = UNSET
    endpoint_name: _WireText = UNSET
    schedule_id: _WireText = UNSET
    caller_ip: _WireText = UNSET


_wire = msgspec.json.Decoder(CallbackBody, strict=False)


def _read(wire: CallbackBody, event: type[Callback]) -> dict[str, Any]:
    """Return the event's fields, without those that are missing or null."""
    given = {name: getattr(wire, name) for name in event.__struct_fields__}
    return {
        name: _READERS[name](value) if name in _READERS else value
        for name, value in given.items()
        if value is not UNSET and value is not None
    }


def _headers(given: dict[str, tuple[str, ...] | str | None] | str) -> Headers:
    if isinstance(given, str):  # all headers are redacted
        return {}
    return {name: (one,) if isinstance(one, str) else one or () for name, one in given.items()}


def _whole(text: str) -> Content:
    """Decode base64, all or nothing: a part of it would be another message."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return UNSET


_REDACTED = "REDACTED:"
_ALPHABET = re.compile("[A-Za-z0-9+/]*")


def _beginning(text: str) -> Content:
    """Decode as much of base64 as there is, because QStash may have cut it off anywhere."""
    readable = _ALPHABET.match(text)[0]  # type: ignore[index] # it matches the empty text, too
    if text.startswith(_REDACTED) or (text and not readable):
        return UNSET
    if len(readable) % 4 == 1:  # six bits are less than a byte
        readable = readable[:-1]
    return base64.b64decode(readable + "=" * (-len(readable) % 4))


def _moment(given: str | int) -> Moment:
    try:
        return _EPOCH + int(given) * _MILLISECOND
    except (ValueError, OverflowError):
        return UNSET


def _milliseconds(moment: Moment) -> int:
    return 0 if moment is UNSET else (moment - _EPOCH) // _MILLISECOND


_READERS: dict[str, Callable[[Any], Any]] = {
    "headers": _headers,
    "source_headers": _headers,
    "body": _beginning,
    "source_body": _whole,
    "created_at": _moment,
    "not_before": _moment,
}
