"""How the commands write: text for people, JSON for programs, errors, and a terminal's safety.

rich is imported where it is used, because most commands do not draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console


def say(text: str | bytes) -> None:
    """Write a line to stdout. Text that a stranger chose has to go through `printable` first."""
    typer.echo(text)


def say_json(value: Any) -> None:
    """Write a value to stdout as one line of JSON."""
    import msgspec

    typer.echo(msgspec.json.encode(value))


def say_error(text: str) -> None:
    """Write a line to stderr, with the program's name before it."""
    typer.echo(f"hookmill: {text}", err=True)


def fail(text: str, status: int = 1) -> NoReturn:
    """Say why the command cannot go on, and end it with this exit status."""
    say_error(text)
    raise typer.Exit(status)


def console(*, stderr: bool = False) -> Console:
    """Return what draws colours and progress on a terminal. It takes text as it stands."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def printable(text: str, keep: str = "\n\t") -> str:
    """Escape control characters, which would steer the terminal: senders choose these texts.

    The characters of `keep` stay as they are.
    """
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )
