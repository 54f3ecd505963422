"""Finds the two programs, and the user's handlers, without letting one hide the other.

`receiver` and `worker` are common names: a user's own `worker.py` must keep working. Our programs
are imported first, from where they are installed; then the current directory goes to the front
of the path, and our modules make room for a user's of the same name, wherever on the path it is.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from hookmill.errors import HandlersError, NotInstalledError
from hookmill.handlers import Handlers

_OURS = ("receiver", "worker")
_HOUSE = Path(__file__).resolve().parents[2]


def load_program(name: str) -> Any:
    """Return a program's `run`, found through the entry points of `hookmill.commands`."""
    found = entry_points(group="hookmill.commands", name=name)
    if not found:
        raise NotInstalledError(f"the program {name!r} is not installed: pip install hookmill")
    sys.path.insert(0, str(_HOUSE))
    try:
        return next(iter(found)).load()
    finally:
        sys.path.remove(str(_HOUSE))


def load_handlers(target: str, folder: Path | None = None) -> Handlers[Any]:
    """Import `MODULE:ATTRIBUTE`, with `folder` (by default the current one) first on the path.

    Call it after `load_program`. Raises `HandlersError`; an error inside the module passes as it
    is, with its traceback.
    """
    module_name, _, attribute = target.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), attribute]):
        raise HandlersError(f"{target!r}: name the handlers as MODULE:ATTRIBUTE, app.main:handlers")
    module = load_module(module_name, folder, target=target)
    if not hasattr(module, attribute):
        raise HandlersError(f"{target!r}: {module_name!r} has no {attribute!r}")
    found = getattr(module, attribute)
    if not isinstance(found, Handlers):
        what = f"of type {type(found).__name__}"
        raise HandlersError(f"{target!r}: {attribute!r} is {what}, not a hookmill.Handlers")
    if len(found) == 0:
        raise HandlersError(f"{target!r}: it has no handlers; register some with handlers.on(...)")
    found.check()
    return found


def load_module(name: str, folder: Path | None = None, *, target: str = "") -> ModuleType:
    """Import a user's module, with `folder` (by default the current one) first on the path.

    `target` is what the user wrote, where that is more than the module's name. Raises
    `HandlersError`; an error inside the module passes as it is.
    """
    target = target or name
    folder = folder or Path.cwd()
    sys.path[:] = [str(folder), *(p for p in sys.path if p not in {"", str(folder)})]
    _make_room()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there; what it imports is not
        raise HandlersError(f"{target!r}: there is no module {error.name!r} in {folder}") from None


def _make_room() -> None:
    """Forget our programs' modules where the user has one of that name; they run on unharmed."""
    elsewhere = [path for path in sys.path if Path(path).resolve() != _HOUSE]
    for name in _OURS:
        theirs = PathFinder.find_spec(name, elsewhere)
        if theirs is None:
            continue
        for loaded in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
            del sys.modules[loaded]
        if theirs.origin is None:
            # A folder without __init__.py: an import would prefer ours, which has one.
            sys.modules[name] = module_from_spec(theirs)
