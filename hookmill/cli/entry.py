"""Where the `hookmill` command begins. `hookmill health` goes a short way, because containers run
it every few seconds: without typer and without the settings it takes a quarter of the time.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from hookmill.printable import printable

if TYPE_CHECKING:
    from hookmill.admin.probe import Probed

PROGRAMS = ("receiver", "worker", "console")


def main() -> None:
    """Run the command line."""
    words = sys.argv[1:]
    if words[:1] == ["health"]:
        _ask_at_once(words[1:])
    from hookmill.cli.main import main as whole

    whole()


def _ask_at_once(words: list[str]) -> None:
    """Run `hookmill health`, if its words are plain and the environment says whom to ask. Otherwise
    return: the command itself says what is wrong, or reads the settings.
    """
    programs = [word for word in words if word in PROGRAMS]
    options = {word for word in words if word not in PROGRAMS}
    address = address_in_environment(*programs[:1])
    if len(programs) > 1 or not options <= {"--ready", "--json"} or address is None:
        return
    from hookmill.admin.probe import probe

    program = next(iter(programs), None)
    found = probe(*address, program=program, ready="--ready" in options)
    text = text_of(found, program, as_json="--json" in options)
    if found.ok or "--json" in options:
        sys.stdout.write(f"{printable(text)}\n")
    else:
        sys.stderr.write(f"hookmill: {printable(text)}\n")
    sys.exit(0 if found.ok else 1)


def address_in_environment(program: str | None = None) -> tuple[str, int] | None:
    """Return where the environment alone says that a program is asked: at its admin address, and a
    console, which has none, at its own. None where it does not say.
    """
    whose = "CONSOLE" if program == "console" else "ADMIN"
    port = os.environ.get(f"HOOKMILL_{whose}_PORT", "")
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
        return None
    return os.environ.get(f"HOOKMILL_{whose}_HOST") or "127.0.0.1", int(port)


def text_of(found: Probed, program: str | None, *, as_json: bool) -> str:
    """Return what `hookmill health` writes: a line."""
    if as_json:
        return json.dumps(found._asdict())
    name = found.program or program or "the program"
    code = "" if found.ok else f" ({found.code or found.status})"
    return f"{name}: {found.detail}{code}"
