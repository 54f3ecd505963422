"""Finds the events that a user's module or handlers declare, for `hookmill schema`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from hookmill.errors import HandlersError
from hookmill.events import Event, EventMeta
from hookmill.handlers import Handler, Handlers
from hookmill.runtime.loading import load_handlers, load_module
from hookmill.schema import Declared, Operation, doc_of


def load_declared(target: str, folder: Path | None = None) -> Declared:
    """Import `MODULE:ATTRIBUTE` (handlers) or `MODULE` (the events it declares), with `folder` (by
    default the current one) first on the path.

    Raises `HandlersError`. Where the module itself failed, what it raised is the error's cause.
    """
    try:
        if ":" in target:
            return of_handlers(target, load_handlers(target, folder))
        return of_module(_load_module(target, folder))
    except HandlersError:
        raise
    except (Exception, SystemExit) as error:
        raise HandlersError(f"{target!r} cannot be imported: {type(error).__name__}") from error


def of_handlers(target: str, handlers: Handlers[Any]) -> Declared:
    """Return the events of these handlers, in the order of registration."""
    events = tuple(dict.fromkeys(one.event for one in handlers if one.event is not None))
    if not events:
        raise HandlersError(f"{target!r}: no handler is for an event class, so there is no schema")
    known = tuple(dict.fromkeys(name for event in events for name in event.names))
    operations = (_operation(handler, known) for handler in handlers)
    title = target.partition(":")[0]
    receiving = tuple(one for one in operations if one.receives)
    return Declared(title, _version_of(title), events, receiving)


def of_module(module: ModuleType) -> Declared:
    """Return the events that the module itself declares, without those that it imports."""
    name = module.__name__
    found = (one for one in vars(module).values() if isinstance(one, EventMeta) and one.tag)
    own: Iterable[Any] = (one for one in found if one.__module__ == name)
    events: tuple[type[Event], ...] = tuple(dict.fromkeys(own))
    if not events:
        raise HandlersError(
            f"{name!r} declares no event: name a module with classes such as "
            'class OrderPaid(Event, tag="order.paid"), or handlers as MODULE:ATTRIBUTE'
        )
    operations = (Operation(one.tag, doc_of(one)[0], one.names) for one in events)
    return Declared(name, _version_of(name), events, tuple(operations))


def _operation(handler: Handler, known: Iterable[str]) -> Operation:
    # A handler of a pattern may receive events that nothing declares: only known ones are listed.
    receives = tuple(name for name in known if handler.receives(name))
    function = handler.function
    summary = doc_of(function)[0] if inspect.isroutine(function) else ""
    return Operation(handler.name, summary, receives)


def _load_module(name: str, folder: Path | None) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise HandlersError(f"{name!r}: name MODULE:ATTRIBUTE, or a module such as app.events")
    return load_module(name, folder)


def _version_of(module: str) -> str:
    try:
        return version(module.partition(".")[0])
    except PackageNotFoundError:
        return "0.0.0"  # AsyncAPI requires a version
