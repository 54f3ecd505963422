"""`Event`: a typed fact and the stable name it has on the wire.

The name belongs to the wire, not to the Python class: renaming the class changes nothing for
messages that are already stored. Decoding starts from the raw bytes, so a body is parsed once.
What is encoded is read back before it is handed out: it must not fail only at its receiver.
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
"""Characters of an event's name; a source takes what is longer for none (`sources.MAX_NAME`)."""


class EncodeError(HookmillError):
    """An event does not hold what its class says, or what JSON has no form for."""

    code = "unencodable"


class EventMeta(msgspec.StructMeta):
    """Lets a class statement name the event: `class OrderPaid(Event, tag="order.paid")`.

    `aliases` is a tuple of earlier wire names: the class receives their messages as well. `version`
    is 1 or more; from 2 on it is part of the name, so that `tag="order.paid", version=2` is called
    `order.paid.v2` on the wire and lives beside the first. The other class options are msgspec's
    own (`rename="camel"`, say). Events are frozen and take keyword arguments only.
    """

    # On the metaclass, `version` and `aliases` stay free as names of an event's own fields.
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
                f"{name}: tag_field would put the class's name on the wire; an event's stands "
                "beside its data"
            )
        made = super().__new__(mcls, name, bases, namespace, **{"kw_only": True, **options})
        for taken in _OWN_WORDS & set(made.__struct_fields__):
            what = "the event's name" if taken == "tag" else "a method of every event"
            raise HandlersError(
                f"{name} has a field named `{taken}`, which is {what}: call it something "
                f'else and give its wire name with `msgspec.field(name="{taken}")`'
            )
        made.tag = wire_name
        made.__event_aliases__ = aliases
        made.__event_version__ = version
        return made

    @property
    def aliases(self) -> tuple[str, ...]:
        """The event's earlier names on the wire, whole."""
        return self.__event_aliases__

    @property
    def version(self) -> int:
        """The event's version, 1 or more."""
        return self.__event_version__

    @property
    def names(self) -> tuple[str, ...]:
        """Every name on the wire that this class receives, its own first."""
        return (self.tag, *self.aliases)


_OWN_WORDS = frozenset({"tag", "from_message", "to_data", "wire_data", "wire_body"})


def _wire_name(name: str, tag: object, version: object) -> str:
    # True is an int to Python, but nobody's version.
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise HandlersError(f"{name}: version={version!r}: give a whole number from 1")
    if tag is None:
        if version != 1:
            raise HandlersError(f"{name}: version={version} of no name: give its tag as well")
        return ""
    _check_name(name, "tag", tag)
    wire_name = f"{tag}.v{version}" if version > 1 else str(tag)
    if len(wire_name) > MAX_TAG:
        raise HandlersError(f"{name}: its name on the wire is longer than {MAX_TAG} characters")
    return wire_name


def _check_aliases(name: str, wire_name: str, aliases: object) -> None:
    if not isinstance(aliases, tuple):  # a bare text would be taken letter by letter
        raise HandlersError(f"{name}: aliases={aliases!r}: give a tuple, such as ('old.name',)")
    if aliases and not wire_name:
        raise HandlersError(f"{name}: aliases of no name: give its tag as well")
    for number, alias in enumerate(aliases):
        _check_name(name, "aliases", alias)
        if alias == wire_name:
            raise HandlersError(f"{name}: the alias {alias!r} is its own name on the wire")
        if alias in aliases[:number]:
            raise HandlersError(f"{name}: the alias {alias!r} is given twice")


def _check_name(name: str, option: str, text: object) -> None:
    """Refuse what no message could be called, or what would match more than one name."""
    if not isinstance(text, str):
        raise HandlersError(f"{name}: {option}: {text!r} is not a text")
    if not text or not text.isprintable() or text != text.strip() or "*" in text:
        raise HandlersError(
            f"{name}: {option}: {text[:64]!r} is no name on the wire: give printable text without "
            "spaces around it and without *"
        )
    if len(text) > MAX_TAG:
        raise HandlersError(f"{name}: {option}: a name is longer than {MAX_TAG} characters")


# Both ways of saying "frozen" are needed: mypy looks at the base, the subclasses at the default.
@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Event(msgspec.Struct, metaclass=EventMeta, frozen=True):
    """The base of all events. Fields are declared as in a dataclass; unknown ones are ignored.

    A subclass without a `tag` is a base for others and cannot be handled or sent itself.
    """

    tag: ClassVar[str]
    """The event's whole name on the wire, its version included: `order.paid.v2`."""

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Decode the message's body into this event; raise `DecodeError` if it does not fit.

        The fields are read from the body's `data` object where the body is an envelope (it has
        a `data` object beside a textual `event` or `type`, and this class reads no `data`), else
        from the body itself. For a class that is an array on the wire, `data` is one. Override this
        for a wire form of your own.
        """
        decoder: msgspec.json.Decoder[Self] = _decoder_of(cls)
        opening = _opening_of_data(cls)
        if opening and _may_have_data(message.body):
            data = _data_of(message.body, opening)
            if data is not None:
                return decode(decoder, data, path="$.data")
        return decode(decoder, message.body)

    def to_data(self) -> bytes:
        """Encode the fields as the JSON that stands in `data` on the wire.

        What is `UNSET` is left out. Raises `EncodeError` where a field does not hold what the class
        says (a constructor does not check), and for a class that is no `data` of a body because it
        reads one whole, having a field `data` itself.
        """
        cls = type(self)
        if _is_read_by_us(cls) and _reads_whole_body(cls):
            raise EncodeError(
                f"{cls.__name__} reads a whole body, for it has a field `data` of its own: to send "
                "it, declare what stands in `data` as its fields"
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
        """Return the type of what stands in `data` on the wire, for `hookmill schema`."""
        return cls

    @classmethod
    def wire_body(cls, name: str, schema_of: SchemaOf) -> Schema:
        """Return the JSON Schema of a body named `name`, for `hookmill schema`.

        `schema_of` gives the schema of any type that msgspec knows. Override this together with
        `from_message`; without, nothing is said of the bodies of such a class.
        """
        if not _is_read_by_us(cls):
            return {"description": "A wire form of its own."}
        if _reads_whole_body(cls):
            return schema_of(cls.wire_data())
        return body_schema(type={"const": name}, data=schema_of(cls.wire_data()))


_UNENCODABLE = (
    msgspec.EncodeError,
    NameError,  # the fields' annotations cannot be read
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


def body_schema(
    optional: Mapping[str, Schema] = MappingProxyType({}), **required: Schema
) -> Schema:
    """Return the JSON Schema of an object with these properties; it may have others."""
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
    }


def _is_read_by_us(cls: type[Event]) -> bool:
    # A bound classmethod has __func__; mypy takes it for a plain function.
    return bool(cls.from_message.__func__ is Event.from_message.__func__)  # type: ignore[attr-defined]


def _reads_whole_body(cls: type[Event]) -> bool:
    return "data" in cls.__struct_encode_fields__ and not cls.__struct_config__.array_like


@cache
def _opening_of_data(cls: type[Event]) -> bytes:
    """Return how JSON that this class reads from `data` begins; empty: it reads the whole body."""
    if _reads_whole_body(cls):
        return b""
    return b"[" if cls.__struct_config__.array_like else b"{"


def _may_have_data(body: bytes) -> bool:
    """Say whether it is worth to parse the body for the sake of its `data`."""
    return b'"data"' in body or b"\\" in body  # any character of a name can be escaped


class _Envelope(msgspec.Struct):
    """The common shape of a webhook's body, read no deeper than needed."""

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
    if not _is_read_by_us(cls):
        return  # its wire form is its own
    try:
        _decoder_of(cls)
    except (NameError, TypeError) as error:
        raise HandlersError(f"the fields of {cls.__name__} cannot be decoded: {error}") from None
