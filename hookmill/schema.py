"""Describes the declared events as a JSON Schema or an AsyncAPI document, for `hookmill schema`.

The documents are made from the classes alone, never from messages. Their keys are the names on the
wire. A JSON Schema describes the `data` of each event, and at its root the body around it. AsyncAPI
describes what the handlers receive.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

import msgspec

from hookmill.errors import HandlersError
from hookmill.events import Event, Schema, SchemaOf

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_MARK = "hookmill-component:"
"""Marks a component in a `$ref` as long as its place in the document is not known."""

_VALUES = frozenset({"const", "default", "enum", "examples"})
"""Keywords of JSON Schema whose value is not a schema."""

_MAPS = frozenset({"properties", "patternProperties"})
"""Keywords of JSON Schema whose value is an object with a schema for each name."""


class Operation(NamedTuple):
    """Something that receives events: a handler, or the event itself if only a module is known."""

    name: str
    summary: str
    receives: tuple[str, ...]


class Declared(NamedTuple):
    """What the documents describe. `version` is the version of the package that has the events."""

    title: str
    version: str
    events: tuple[type[Event], ...]
    operations: tuple[Operation, ...]


# --- the documents ---------------------------------------------------------------------------


def json_schema(declared: Declared) -> Schema:
    """Return a JSON Schema (2020-12). `$defs` has the `data` of each event under its names on the
    wire, and the types in it. The root accepts a body of any of these events.

    Raises `HandlersError` if two events have the same name, or if a field has no schema.
    """
    receivers = _receivers(declared.events)
    described = _describe(receivers, lambda key: f"#/$defs/{_pointer(key)}", plain=False)
    aliases = {
        name: {
            **_all_of([{"$ref": f"#/$defs/{_pointer(event.tag)}"} for event in events]),
            "description": _earlier_name_of(name, events),
            "deprecated": True,
        }
        for name, events in receivers.items()
        if _earlier_name_of(name, events)
    }
    return {
        "$schema": _DIALECT,
        "title": declared.title,
        "anyOf": _without_equals(described.bodies.values()),
        "$defs": described.definitions | aliases,
    }


def _without_equals(schemas: Iterable[Schema]) -> list[Schema]:
    """Return each schema once, because several events can have bodies of the same form."""
    kept: list[Schema] = []
    for schema in schemas:
        if schema not in kept:
            kept.append(schema)
    return kept


def asyncapi(declared: Declared) -> Schema:
    """Return an AsyncAPI 3.0.0 document: the messages, their bodies, and who receives them.

    Raises `HandlersError` if two events have the same name, or if a field has no schema.
    """
    receivers = _receivers(declared.events)
    described = _describe(receivers, lambda key: f"#/components/schemas/{key}", plain=True)
    keys = _keys(receivers, plain=True)
    payloads = {name: _changed(body, _in_draft_07) for name, body in described.bodies.items()}
    schemas = {key: _changed(one, _in_draft_07) for key, one in described.definitions.items()}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": declared.title, "version": declared.version},
        "defaultContentType": "application/json",
        "channels": {"webhooks": _channel(keys.values())},
        "operations": _operations(declared.operations, keys),
        "components": {
            "messages": {
                keys[name]: _message(name, events, payloads[name])
                for name, events in receivers.items()
            },
            "schemas": schemas,
        },
    }


def to_json(document: Schema) -> bytes:
    """Return a document as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


Receivers: TypeAlias = dict[str, tuple[type[Event], ...]]
"""The events that receive a name on the wire. The current name of an event is never shared."""


def _receivers(events: Iterable[type[Event]]) -> Receivers:
    owners: dict[str, type[Event]] = {}
    for event in events:
        _check_describable(event)
        other = owners.setdefault(event.tag, event)
        if other is not event:
            raise HandlersError(
                f"two classes are called {event.tag!r} on the wire, {_path(other)} and "
                f"{_path(event)}: one document cannot describe both, so give each its own"
            )
    receivers: Receivers = {}
    for event in owners.values():
        receivers[event.tag] = (event,)
        for alias in event.aliases:
            if alias not in owners:
                receivers[alias] = (*receivers.get(alias, ()), event)
    return receivers


def _earlier_name_of(name: str, events: tuple[type[Event], ...]) -> str:
    """Return which event had this name earlier; "" if it is the current name of one."""
    if name == events[0].tag:
        return ""
    return f"An earlier name of {' and '.join(event.tag for event in events)}."


class _Described(NamedTuple):
    """The schemas of `data` and of the types in it, by key, and of bodies, by name on the wire."""

    definitions: dict[str, Schema]
    bodies: dict[str, Schema]


def _describe(receivers: Receivers, to_ref: Callable[[str], str], *, plain: bool) -> _Described:
    own = {
        name: one[0].wire_data()
        for name, one in receivers.items()
        if not _earlier_name_of(name, one)
    }
    wanted: dict[Any, Schema] = {data: {} for data in own.values()}
    _bodies(
        receivers, lambda type_: wanted.setdefault(type_, {})
    )  # finds out which types need a schema
    schemas, components = _components([*wanted])
    wanted = dict(zip(wanted, schemas, strict=True))

    # The key of an event's data is its name on the wire. Other types have the name from msgspec.
    keys = _keys(receivers, plain=plain)
    places = {_component_of(wanted[data]): keys[name] for name, data in own.items()}
    for component in components:
        if component not in places:
            places[component] = _free(component, [*keys.values(), *places.values()])

    def put_in_place(schema: Schema) -> Schema:
        if component := _component_of(schema):
            schema["$ref"] = to_ref(places[component])
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
        schema.pop("discriminator", None)  # it is part of OpenAPI, not of JSON Schema
        return schema

    bodies = _bodies(receivers, wanted.__getitem__)
    return _Described(
        {places[name]: _changed(one, put_in_place) for name, one in components.items()},
        {name: _changed(one, put_in_place) for name, one in bodies.items()},
    )


def _bodies(receivers: Receivers, schema_of: SchemaOf) -> dict[str, Schema]:
    """Return the schema of the body of each name. It must fit every event that receives it."""
    return {
        name: _all_of([event.wire_body(name, schema_of) for event in events])
        for name, events in receivers.items()
    }


def _components(types: list[Any]) -> tuple[tuple[Schema, ...], dict[str, Schema]]:
    """Let msgspec describe all types at once, so that types of the same name get different keys."""
    try:
        return msgspec.json.schema_components(types, ref_template=_MARK + "{name}")
    except KeyError as error:
        name = getattr(error.args[0], "__qualname__", error)
        raise HandlersError(f"two types of one module are both called {name}: rename one") from None


def _check_describable(event: type[Event]) -> None:
    try:
        _components([event.wire_data()])
    except (NameError, TypeError, ValueError) as error:
        said = str(error).partition("\n")[0]
        raise HandlersError(f"the fields of {_path(event)} have no JSON Schema: {said}") from None


def _component_of(schema: Schema) -> str:
    ref = schema.get("$ref", "")
    return ref.removeprefix(_MARK) if ref.startswith(_MARK) else ""


def _changed(schema: Any, change: Callable[[Schema], Schema]) -> Any:
    """Return a copy with `change` applied to every schema in it, the inner ones first."""
    if isinstance(schema, list):
        return [_changed(one, change) for one in schema]
    if not isinstance(schema, dict):
        return schema
    done = {}
    for word, value in schema.items():
        if word in _VALUES:
            done[word] = value
        elif word in _MAPS:
            done[word] = {name: _changed(one, change) for name, one in value.items()}
        else:
            done[word] = _changed(value, change)
    return change(done)


def _in_draft_07(schema: Schema) -> Schema:
    """Change a schema to draft 07, which AsyncAPI's schemas follow."""
    if "prefixItems" in schema:
        schema["additionalItems"] = schema.pop("items", True)
        schema["items"] = schema.pop("prefixItems")
    return schema


def _all_of(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"allOf": schemas}


# --- the parts of an AsyncAPI document -------------------------------------------------------


def _channel(keys: Iterable[str]) -> Schema:
    return {
        "address": None,
        "title": "Webhooks",
        "description": "Each source has a path of its own, and signs its deliveries.",
        "messages": {key: {"$ref": f"#/components/messages/{key}"} for key in keys},
    }


def _operations(operations: Iterable[Operation], keys: dict[str, str]) -> Schema:
    by_name = {one.name: one for one in operations}
    return {
        key: {
            "action": "receive",
            "channel": {"$ref": "#/channels/webhooks"},
            "title": name,
            **({"summary": by_name[name].summary} if by_name[name].summary else {}),
            "bindings": {"http": {"method": "POST"}},
            "messages": [
                {"$ref": f"#/channels/webhooks/messages/{keys[received]}"}
                for received in by_name[name].receives
            ],
        }
        for name, key in _keys(by_name, plain=True).items()
    }


def _message(name: str, events: tuple[type[Event], ...], payload: Schema) -> Schema:
    summary, rest = doc_of(events[0])
    said = " ".join(filter(None, [_earlier_name_of(name, events), summary]))
    return {
        "name": name,
        "title": events[0].__name__,
        **({"summary": said} if said else {}),
        **({"description": rest} if rest else {}),
        "contentType": "application/json",
        "payload": payload,
    }


def doc_of(documented: Any) -> tuple[str, str]:
    """Return a docstring's first paragraph as one line, and the rest."""
    # Not inspect.getdoc: without a docstring it returns that of the base class.
    summary, _, rest = inspect.cleandoc(documented.__doc__ or "").partition("\n\n")
    return " ".join(summary.split()), rest.strip()


# --- keys ------------------------------------------------------------------------------------


def _keys(names: Iterable[str], *, plain: bool) -> dict[str, str]:
    """Return a key for each name. A plain key has only characters that AsyncAPI allows."""
    keys: dict[str, str] = {}
    for name in names:
        keys[name] = _free(re.sub(r"[^A-Za-z0-9._-]", "_", name) if plain else name, keys.values())
    return keys


def _free(key: str, taken: Iterable[str]) -> str:
    while key in taken:
        key += "_"
    return key


def _pointer(key: str) -> str:
    return quote(key.replace("~", "~0").replace("/", "~1"))


def _path(event: type[Event]) -> str:
    return f"{event.__module__}.{event.__qualname__}"
