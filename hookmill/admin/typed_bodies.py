"""Reads a message's body as the typed event that its type names, for a person to see. No I/O.

What a source redacts is told neither by a value nor by an error: then only names are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from hookmill.admin.declared_events import of_module
from hookmill.admin.redactions import Showable
from hookmill.events import Event
from hookmill.message import Message

_LARGEST = 1_048_576
"""A body of more bytes is not read."""

_LONGEST = 200
"""Characters of a value or of an error that are shown."""

Classes = Mapping[str, type[Event]]
"""Event classes by the names on the wire that each receives."""


class TypedBody(msgspec.Struct, frozen=True, kw_only=True):
    """How a body decodes as an event of this name and class: its `fields` with their values as
    JSON (None: hidden), without those that are missing; or the `error`, with its path.
    """

    event: str
    cls: str
    fields: tuple[tuple[str, str | None], ...] = ()
    error: str = ""


def known_classes(own: Iterable[type[Event]] = ()) -> Classes:
    """Return the classes of the catalog; the user's own ones count before them."""
    from hookmill.catalog import marble, qstash  # noqa: PLC0415 - only a page that shows one needs it

    events = [*of_module(marble).events, *of_module(qstash).events, *own]
    return {name: event for event in events for name in event.names}


def typed_body(message: Message, shown: Showable, classes: Classes) -> TypedBody | None:
    """Return how a body decodes; None where no class is known of its type, or it is too large."""
    event = classes.get(message.type)
    if event is None or len(message.body) > _LARGEST:
        return None
    found = TypedBody(event=message.type, cls=f"{event.__module__}.{event.__qualname__}")
    is_open = shown.is_known and not shown.of(message.source)
    try:
        decoded = event.from_message(message)
        return msgspec.structs.replace(found, fields=tuple(_fields(decoded, is_open=is_open)))
    except Exception as error:  # noqa: BLE001 - a user's class may raise anything
        return msgspec.structs.replace(found, error=_error(error, is_open=is_open))


def _fields(event: Event, *, is_open: bool) -> Iterable[tuple[str, str | None]]:
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if value is not msgspec.UNSET:
            yield name, _value(value) if is_open else None


def _value(value: object) -> str:
    text = msgspec.json.encode(value, enc_hook=repr).decode("utf-8", "backslashreplace")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _error(error: Exception, *, is_open: bool) -> str:
    text = str(error)[:_LONGEST] or type(error).__name__
    if is_open:
        return text
    # The reason can quote a value, and so can a path that leads through names of the sender.
    return f"{type(error).__name__}: the reason is hidden, because the source redacts fields"
