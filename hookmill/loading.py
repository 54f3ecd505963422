"""Finds the two programs, and the user's handlers, without letting one hide the other.

`receiver` and `worker` are common names: a user's own `worker.py` must keep working. Our programs
are imported first, from where they are installed; then the current directory goes to the front
of the path, and our modules make room for a user's of the same name.
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from hookmill.errors import HandlersError
from hookmill.handlers import Handlers

_OURS = ("receiver", "worker")
_HOUSE = Path(__file__).parent.parent


def load_program(name: str) -> Any:
    """Return a program's `run`, found through the entry points of `hookmill.commands`."""
    (found,) = entry_points(group="hookmill.commands", name=name)
    sys.path.insert(0, str(_HOUSE))
    try:
        return found.load()
    finally:
        sys.path.remove(str(_HOUSE))


def load_handlers(target: str, folder: Path | None = None) -> Handlers[Any]:
    """Import `MODULE:ATTRIBUTE`, with `folder` (by default the current one) first on the path.

    Call it after `load_program`. Raises `HandlersError`; an error inside the module passes as it
    is, with its traceback.
    """
    module_name, separator, attribute = target.partition(":")
    if not module_name or not separator or not attribute:
        raise HandlersError(f"{target!r}: name the handlers as MODULE:ATTRIBUTE, app.main:handlers")
    folder = folder or Path.cwd()
    sys.path[:] = [str(folder), *(p for p in sys.path if p not in {"", str(folder)})]
    _make_room(folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there; what it imports is not
        raise HandlersError(f"{target!r}: there is no module {error.name!r} in {folder}") from None
    found = getattr(module, attribute, None)
    if not isinstance(found, Handlers):
        what = "nothing" if found is None else f"a {type(found).__name__}"
        raise HandlersError(f"{target!r}: {attribute!r} is {what}, not a hookmill.Handlers")
    if len(found) == 0:
        raise HandlersError(f"{target!r}: it has no handlers; register some with handlers.on(...)")
    return found


def _make_room(folder: Path) -> None:
    """Forget our programs' modules where the user has one of that name; they run on unharmed."""
    for name in _OURS:
        theirs = [folder / f"{name}.py", folder / name]
        if folder != _HOUSE and any(path.exists() for path in theirs):
            for loaded in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
                del sys.modules[loaded]
