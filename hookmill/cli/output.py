"""How the commands write: text for people, JSON for programs, and errors.

Whatever is written passes `hookmill.printable` here, because senders choose much of it. rich is
imported where it is used, because most commands do not draw.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from hookmill.printable import block, encodable, printable, printable_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console


def say(line: str) -> None:
    """Write one line to stdout. The text of a column has to go through `cell` first."""
    typer.echo(printable(line))


def say_value(name: str, value: str) -> None:
    """Write a named value to stdout: in one line, or indented below its name if it has several."""
    if "\n" in value:
        typer.echo(f"{printable(name)}:\n{block(value)}\n")
    else:
        say(f"{name}: {value}")


def say_json(value: Any) -> None:
    """Write a value to stdout as one line of JSON."""
    import msgspec

    try:
        data = msgspec.json.encode(value)
    except UnicodeEncodeError:  # a half of a surrogate pair: JSON cannot hold it
        data = msgspec.json.encode(_encodable(msgspec.to_builtins(value)))
    say_document(data)


def say_document(data: bytes) -> None:
    """Write JSON to stdout that is laid out already."""
    typer.echo(printable_json(data))


def say_error(text: str) -> None:
    """Write a text to stderr, with the program's name before it. Further lines are indented."""
    first, *others = text.split("\n")
    said = [f"hookmill: {printable(first)}", *map(block, others)]
    typer.echo("\n".join(said), err=True)


def end_if_incomplete(unseen: Mapping[int, object]) -> None:
    """Say which partitions of a Redis Cluster are missing in what was shown, and why; then end the
    command with exit status 1. Do nothing where none is.
    """
    for why in unseen.values():
        say_error(f"{why}; what it has is missing here")
    if unseen:
        raise typer.Exit(1)


def fail(text: str, status: int = 1) -> NoReturn:
    """Say why the command cannot go on, and end it with this exit status."""
    say_error(text)
    raise typer.Exit(status)


def is_confirmed(question: str, *, yes: bool = False) -> bool:
    """Ask at the terminal, and return whether the answer is yes. With `yes` it was given already.
    Ends the command where there is no terminal.
    """
    if not yes and not sys.stdin.isatty():
        fail(f"{question} There is nobody to ask: give --yes")
    return yes or typer.confirm(printable(question))


def console(*, stderr: bool = False) -> Console:
    """Return what draws colours and progress on a terminal. It takes text as it stands: what a
    stranger chose has to go through `printable` first.
    """
    from rich.console import Console

    file = getattr(sys.stderr, "unescaped", None) if stderr else None
    return Console(file=file, stderr=stderr, markup=False, emoji=False, highlight=False)


def _encodable(value: Any) -> Any:
    """Return a value of JSON with escapes for the halves of surrogate pairs in its texts."""
    if isinstance(value, dict):
        return {_encodable(name): _encodable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_encodable(inner) for inner in value]
    return encodable(value) if isinstance(value, str) else value
