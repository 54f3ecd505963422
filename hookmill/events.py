"""`Event`: a typed fact and the stable name it has on the wire.

The name belongs to the wire, not to the Python class: renaming the class changes nothing for
messages that are already stored. Decoding starts from the raw bytes, so a body is parsed once.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, dataclass_transform

import msgspec
from msgspec import UNSET, Raw, UnsetType

from hookmill.errors import DecodeError, HandlersError

if TYPE_CHECKING:
    from hookmill.message import Message

_T = TypeVar("_T")


class EventMeta(msgspec.StructMeta):
    """Lets a class statement name the event: `class OrderPaid(Event, tag="order.paid")`.

    The other class options are msgspec's own (`rename="camel"`, say). Events are frozen and
    take keyword arguments only.
    """

    tag: str

    def __new__(  # noqa: D102 - the class docstring says it
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        tag: str = "",
        **options: Any,
    ) -> EventMeta:
        made = super().__new__(mcls, name, bases, namespace, **{"kw_only": True, **options})
        if "tag" in made.__struct_fields__:
            raise HandlersError(
                f"{name} has a field named `tag`, which is the event's name: call it something "
                'else and give its wire name with `msgspec.field(name="tag")`'
            )
        made.tag = tag
        return made


# Both ways of saying "frozen" are needed: mypy looks at the base, the subclasses at the default.
@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Event(msgspec.Struct, metaclass=EventMeta, frozen=True):
    """The base of all events. Fields are declared as in a dataclass; unknown ones are ignored.

    A subclass without a `tag` is a base for others and cannot be handled or sent itself.
    """

    tag: ClassVar[str]
    """The event's name on the wire."""

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Decode the message's body into this event; raise `DecodeError` if it does not fit.

        The fields are read from the body's `data` object where the body is an envelope (it has
        a `data` object beside a textual `event` or `type`, and this class reads no `data`), else
        from the body itself. Override this for a wire form of your own.
        """
        decoder: msgspec.json.Decoder[Self] = _decoder_of(cls)
        if "data" not in cls.__struct_encode_fields__:
            data = _data_of(message.body)
            if data is not None:
                return decode(decoder, data, path="$.data")
        return decode(decoder, message.body)


class _Envelope(msgspec.Struct):
    """The common shape of a webhook's body, read no deeper than needed."""

    event: Raw | UnsetType = UNSET
    type: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


_envelope = msgspec.json.Decoder(_Envelope)


def _data_of(body: bytes) -> Raw | None:
    try:
        envelope = _envelope.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # not an envelope; the event's own decoder says what is wrong
    if not _starts_with(envelope.data, b"{"):
        return None
    named = _starts_with(envelope.event, b'"') or _starts_with(envelope.type, b'"')
    return envelope.data if named and envelope.data is not UNSET else None


def _starts_with(value: Raw | UnsetType, first: bytes) -> bool:
    return value is not UNSET and memoryview(value)[:1] == first


@cache
def _decoder_of(cls: type[_T]) -> msgspec.json.Decoder[_T]:
    return msgspec.json.Decoder(cls)


def decode(decoder: msgspec.json.Decoder[_T], body: bytes | Raw, path: str = "$") -> _T:
    """Decode JSON; raise `DecodeError` with the message and the path from the body's root.

    `path` is where in the body the JSON stands.
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # msgspec puts the path last, and leaves it out at the root.
        said, separator, place = str(error).rpartition(" - at `$")
        if separator:
            raise DecodeError(f"{said} - at `{path}{place}") from None
        raise DecodeError(place if path == "$" else f"{place} - at `{path}`") from None
    except RecursionError:
        raise DecodeError("the JSON is nested too deeply") from None


def check_tag(cls: type[Event]) -> str:
    """Return the event's wire name; raise `HandlersError` when the class has none."""
    if not cls.tag:
        raise HandlersError(
            f"{cls.__name__} has no name on the wire: "
            f'declare it as `class {cls.__name__}(Event, tag="...")`'
        )
    return cls.tag


def check_fields(cls: type[Event]) -> None:
    """Raise `HandlersError` when the event's fields are declared in a way that nothing can fill.

    Annotations are read late, so that a class may name one that stands further down.
    """
    # A bound classmethod has __func__; mypy takes it for a plain function.
    if cls.from_message.__func__ is not Event.from_message.__func__:  # type: ignore[attr-defined]
        return  # its wire form is its own
    try:
        _decoder_of(cls)
    except (NameError, TypeError) as error:
        raise HandlersError(f"the fields of {cls.__name__} cannot be decoded: {error}") from None
