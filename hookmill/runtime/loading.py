"""Imports the two programs and the user's handlers, although their modules may share names.

A user may have a `worker.py` too, and it must keep working. So our program is imported first, from
the folder where it is installed. Then the current directory goes to the front of `sys.path`, and
our `receiver` and `worker` are removed from `sys.modules` where the user has a module of that name.
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

_PROGRAMS = ("receiver", "worker")
_INSTALL_FOLDER = Path(__file__).resolve().parents[2]


def load_program(name: str) -> Any:
    """Return a program's `run` function, from the entry points `hookmill.commands`."""
    found = entry_points(group="hookmill.commands", name=name)
    if not found:
        raise NotInstalledError(f"the program {name!r} is not installed: pip install hookmill")
    sys.path.insert(0, str(_INSTALL_FOLDER))
    try:
        return next(iter(found)).load()
    finally:
        sys.path.remove(str(_INSTALL_FOLDER))


def load_handlers(target: str, folder: Path | None = None) -> Handlers[Any]:
    """Import `MODULE:ATTRIBUTE`, with `folder` (by default the current one) first on the path.

    Call it after `load_program`. Raises `HandlersError`. An error that the user's module raises is
    passed on unchanged, with its traceback.
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

    Errors name `target`, which is what the user wrote, or else the module. Raises `HandlersError`.
    An error that the user's module raises is passed on unchanged.
    """
    target = target or name
    folder = folder or Path.cwd()
    sys.path[:] = [str(folder), *(p for p in sys.path if p not in {"", str(folder)})]
    _forget_our_namesakes()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module exists, but something that it imports does not
        raise HandlersError(f"{target!r}: there is no module {error.name!r} in {folder}") from None


def _forget_our_namesakes() -> None:
    """Remove our programs from `sys.modules` where the user has a module of the same name. Our
    code goes on running, because what it has imported stays in its own variables.
    """
    elsewhere = [path for path in sys.path if Path(path).resolve() != _INSTALL_FOLDER]
    for name in _PROGRAMS:
        theirs = PathFinder.find_spec(name, elsewhere)
        if theirs is None:
            continue
        for loaded in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
            del sys.modules[loaded]
        if theirs.origin is None:
            # A folder without __init__.py. An import would find our package first, which has one.
            sys.modules[name] = module_from_spec(theirs)
