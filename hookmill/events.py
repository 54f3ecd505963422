"""`Event`: the base class of typed events, and the stable name of an event on the wire.

The name on the wire does not depend on the name of the Python class, so renaming a class does not
affect stored messages. Decoding starts from the raw bytes, so a body is parsed once. An encoded
event is decoded again before it is returned, so that an error shows at the sender.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias, TypeVar, dataclass_transform

import msgspec
from msgspec import UNSET, Raw, UnsetType

from hookmill.errors import DecodeError, HandlersError, HookmillError

if TYPE_CHECKING:
    from hookmill.message import Message

_T = TypeVar("_T")

Schema: TypeAlias = dict[str, Any]
SchemaOf: TypeAlias = Callable[[Any], Schema]

MAX_TAG = 255
"""The most characters of an event's name, as a source ignores a longer one."""


class EncodeError(HookmillError):
    """A field of an event has a wrong type, or a value that JSON cannot represent."""

    code = "unencodable"


class EventMeta(msgspec.StructMeta):
    """Takes the options of an event class: `class OrderPaid(Event, tag="order.paid")`.

    `aliases` is a tuple of earlier names on the wire: the class receives their messages as well.
    `version` is 1 or more. From 2 on it is part of the name: `tag="order.paid", version=2` is
    `order.paid.v2` on the wire, so that both versions can be handled. All other options are those
    of msgspec, such as `rename="camel"`. Events are frozen and take keyword arguments only.
    """

    # These are on the metaclass, so that an event may have fields named `version` and `aliases`.
    tag: str
    __event_aliases__: tuple[str, ...]
    __event_version__: int

    def __new__(  # noqa: D102 - the class docstring says it
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        tag: str | None = None,
        aliases: tuple[str, ...] = (),
        version: int = 1,
        **options: Any,
    ) -> EventMeta:
        wire_name = _wire_name(name, tag, version)
        _check_aliases(name, wire_name, aliases)
        if "tag_field" in options:
            raise HandlersError(
                f"{name}: remove tag_field: an event's name stands beside its data on the wire, "
                "not in it"
            )
        made = super().__new__(mcls, name, bases, namespace, **{"kw_only": True, **options})
        for taken in _OWN_WORDS & set(made.__struct_fields__):
            what = "the event's name" if taken == "tag" else "a method of every event"
            raise HandlersError(
                f"{name} has a field named `{taken}`, which is {what}: give it another name in "
                f'Python, and its name on the wire with `msgspec.field(name="{taken}")`'
            )
        made.tag = wire_name
        made.__event_aliases__ = aliases
        made.__event_version__ = version
        return made

    @property
    def aliases(self) -> tuple[str, ...]:
        """The event's earlier names on the wire."""
        return self.__event_aliases__

    @property
    def version(self) -> int:
        """The event's version, 1 or more."""
        return self.__event_version__

    @property
    def names(self) -> tuple[str, ...]:
        """Every name on the wire that this class receives; its current name is first."""
        return (self.tag, *self.aliases)


_OWN_WORDS = frozenset({"tag", "from_message", "to_data", "wire_data", "wire_body"})


def _wire_name(name: str, tag: object, version: object) -> str:
    # In Python True is an int, but it is no version.
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise HandlersError(f"{name}: version={version!r}: give a whole number, 1 or more")
    if tag is None:
        if version != 1:
            raise HandlersError(f"{name}: version={version} needs a name: give tag as well")
        return ""
    _check_name(name, "tag", tag)
    wire_name = f"{tag}.v{version}" if version > 1 else str(tag)
    if len(wire_name) > MAX_TAG:
        raise HandlersError(
            f"{name}: its name on the wire has more than {MAX_TAG} characters: give a shorter tag"
        )
    return wire_name


def _check_aliases(name: str, wire_name: str, aliases: object) -> None:
    if not isinstance(aliases, tuple):  # a str would be read letter by letter
        raise HandlersError(f"{name}: aliases={aliases!r}: give a tuple, such as ('old.name',)")
    if aliases and not wire_name:
        raise HandlersError(f"{name}: aliases need a name: give tag as well")
    for number, alias in enumerate(aliases):
        _check_name(name, "aliases", alias)
        if alias == wire_name:
            raise HandlersError(
                f"{name}: the alias {alias!r} is also the name on the wire: remove the alias"
            )
        if alias in aliases[:number]:
            raise HandlersError(f"{name}: the alias {alias!r} is given twice: remove one")


def _check_name(name: str, option: str, text: object) -> None:
    """Refuse a name that no message could have, or that would match more than one name."""
    if not isinstance(text, str):
        raise HandlersError(f"{name}: {option}: {text!r} is not a str")
    if not text or not text.isprintable() or text != text.strip() or "*" in text:
        raise HandlersError(
            f"{name}: {option}: {text[:64]!r} cannot be a name on the wire: give printable text "
            "without spaces around it and without *"
        )
    if len(text) > MAX_TAG:
        raise HandlersError(
            f"{name}: {option}: a name has more than {MAX_TAG} characters: give a shorter one"
        )


# "frozen" is needed twice: mypy reads it from the class, subclasses get the default.
@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Event(msgspec.Struct, metaclass=EventMeta, frozen=True):
    """The base class of all events. Fields are declared as in a dataclass, others are ignored.

    A subclass without a `tag` is a base class for others. It cannot be handled or sent itself.
    """

    tag: ClassVar[str]
    """The event's full name on the wire, with its version: `order.paid.v2`."""

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Decode the message's body into this event. Raises `DecodeError` if it does not fit.

        If the body is an envelope, the fields are read from its `data`. It is one if `data` is an
        object (an array, for a class that is an array on the wire), `event` or `type` is a text,
        and this class has no field `data` of its own. Otherwise the fields are read from the body.
        Override this for another wire form.
        """
        decoder: msgspec.json.Decoder[Self]
        decoder, opening = _reading_of(cls)
        body = message.body
        if opening and _may_have_data(body):
            data = _data_of(body, opening)
            if data is not None:
                return decode(decoder, data, path="$.data")
        return decode(decoder, body)

    def to_data(self) -> bytes:
        """Return the fields as the JSON of `data` on the wire, without those that are `UNSET`.

        Raises `EncodeError` if a field has a wrong type (a constructor does not check types), or
        if the class has a field `data` itself, because then it reads a whole body.
        """
        cls = type(self)
        if _has_our_wire_form(cls) and _reads_whole_body(cls):
            raise EncodeError(
                f"{cls.__name__} has a field `data`, so it reads a whole body and cannot be sent: "
                "declare the fields inside `data` instead"
            )
        try:
            data = msgspec.json.encode(self)
            decode(_decoder_of(cls), data)
        except DecodeError as error:
            raise EncodeError(f"{cls.__name__} cannot be sent: {error}") from None
        except _UNENCODABLE as error:
            raise EncodeError(f"{cls.__name__} cannot be encoded: {error}") from None
        return data

    @classmethod
    def wire_data(cls) -> type[msgspec.Struct]:
        """Return the type of `data` on the wire, for `hookmill schema`."""
        return cls

    @classmethod
    def wire_body(cls, name: str, schema_of: SchemaOf) -> Schema:
        """Return the JSON Schema of a body named `name`, for `hookmill schema`.

        `schema_of` returns the schema of any type that msgspec knows. Override this together with
        `from_message`; otherwise the schema of such a class describes nothing.
        """
        if not _has_our_wire_form(cls):
            return {"description": "A wire form of its own."}
        if _reads_whole_body(cls):
            return schema_of(cls.wire_data())
        return body_schema(type={"const": name}, data=schema_of(cls.wire_data()))


_UNENCODABLE = (
    msgspec.EncodeError,
    NameError,  # an annotation of a field cannot be read
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


def body_schema(
    optional: Mapping[str, Schema] = MappingProxyType({}), **required: Schema
) -> Schema:
    """Return the JSON Schema of an object with these properties. It may have others as well."""
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
    }


def _has_our_wire_form(cls: type[Event]) -> bool:
    # A bound classmethod has __func__; mypy takes it for a plain function.
    return bool(cls.from_message.__func__ is Event.from_message.__func__)  # type: ignore[attr-defined]


def _reads_whole_body(cls: type[Event]) -> bool:
    return "data" in cls.__struct_encode_fields__ and not cls.__struct_config__.array_like


@cache
def _reading_of(cls: type[Event]) -> tuple[msgspec.json.Decoder[Any], bytes]:
    """Return the class's decoder, and the first byte of the `data` that it reads; that is empty if
    it reads a whole body.
    """
    opening = b"[" if cls.__struct_config__.array_like else b"{"
    return _decoder_of(cls), b"" if _reads_whole_body(cls) else opening


_BACKSLASH = 0x5C


def _may_have_data(body: bytes) -> bool:
    """Return whether the body may have a `data`, so that it is worth parsing."""
    # "data" can be written with escapes. To look for bytes with `in` makes an error first, inside
    # Python; for a number it does not.
    return body.find(b'"data"') >= 0 or _BACKSLASH in body


class _Envelope(msgspec.Struct):
    """The usual form of a webhook's body, decoded no deeper than needed."""

    event: Raw | UnsetType = UNSET
    type: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


_envelope = msgspec.json.Decoder(_Envelope)


def _data_of(body: bytes, first: bytes) -> Raw | None:
    try:
        envelope = _envelope.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # not an envelope; the event's own decoder says what is wrong
    if not _starts_with(envelope.data, first):
        return None
    named = _starts_with(envelope.event, b'"') or _starts_with(envelope.type, b'"')
    return envelope.data if named and envelope.data is not UNSET else None


def _starts_with(value: Raw | UnsetType, first: bytes) -> bool:
    return value is not UNSET and memoryview(value)[:1] == first


@cache
def _decoder_of(cls: type[_T]) -> msgspec.json.Decoder[_T]:
    return msgspec.json.Decoder(cls)


def decode(decoder: msgspec.json.Decoder[_T], body: bytes | Raw, path: str = "$") -> _T:
    """Decode JSON. Raises `DecodeError` with the reason and the path from the root of the body.

    `path` is the place of this JSON in the body.
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
    """Return the event's name on the wire. Raises `HandlersError` if the class has none."""
    if not cls.tag:
        raise HandlersError(
            f"{cls.__name__} has no name on the wire: "
            f'declare it as `class {cls.__name__}(Event, tag="...")`'
        )
    return cls.tag


def check_fields(cls: type[Event]) -> None:
    """Raise `HandlersError` if the event's fields are declared in a way that cannot be decoded.

    This is checked late, because an annotation may name a class that is defined further down.
    """
    if not _has_our_wire_form(cls):
        return  # its wire form is its own
    try:
        _decoder_of(cls)
    except (NameError, TypeError) as error:
        raise HandlersError(f"the fields of {cls.__name__} cannot be decoded: {error}") from None
